"""Names of places on the body, against landmarks that only the simulation knows."""

import numpy as np
import pytest

from bae.body import body_mask
from bae.evaluation.regions import atlas
from bae.method.regional import frame, places
from bae.phantom.people import PhantomConfig
from bae.phantom.scan import PhantomScan, make

TOLD = {
    "skull vault": "skull",
    "L3 body": "lumbar spine",
    "sternum body": "sternum and thoracic spine",
    "left femoral head": "left hip",
    "right femoral head": "right hip",
    "left patella": "left knee",
    "right patella": "right knee",
    "left metacarpal 3": "left hand",
    "right metacarpal 3": "right hand",
    "left midfoot": "left foot",
    "right midfoot": "right foot",
    "left humeral head": "left shoulder",
    "right humerus": "right upper arm",
    "left elbow": "left elbow",
    "right radius": "right forearm",
    "left femur": "left thigh",
    "right tibia": "right lower leg",
    "S2 body": "pelvis",
    "T6 body": "sternum and thoracic spine",
    "left rib 7": "left ribs",
    "C6 body": "neck",
}
"""Part of the phantom to the name of where it lies."""


@pytest.fixture(scope="module")
def people() -> list[PhantomScan]:
    """Twenty phantoms of both sexes, builds and poses."""
    found = [make(k, seed=5, config=PhantomConfig(columns=64, rows=256)) for k in range(20)]
    assert 5 <= sum(one.sex == "F" for one in found) <= 15
    return found


@pytest.mark.parametrize("end", ["toes", "heels"])
def test_landmarks_of_twenty_people_get_their_names(people: list[PhantomScan], end: str) -> None:
    """Nine of ten of every part, whether the picture's last row or the heel ends the body."""
    right = dict.fromkeys(TOLD, 0)
    for one in people:
        rows = np.flatnonzero(body_mask(one.views[0].counts).any(axis=1))
        top, bottom = float(rows[0]), float(rows[-1] + 1)
        if end == "heels":
            heels = [one.landmarks[f"{side} heel"][1] for side in ("left", "right")]
            bottom = float(np.mean(heels)) + 20.0 / one.pixel_mm
        middle = np.mean([one.landmarks[name][0] for name in ("T6 body", "L3 body", "S2 body")])
        for part, name in TOLD.items():
            # the anterior view shows the patient's left on the right
            column, row = one.landmarks[part]
            place = ((row - top) / (bottom - top), (column - middle) / (bottom - top))
            right[part] += places.place_name(*place) == name
    assert min(right.values()) >= 0.9 * len(people), right


@pytest.mark.slow
def test_landmarks_get_their_names_where_registration_puts_them(people: list[PhantomScan]) -> None:
    """Nine of ten of every part in posterior views on the frame, whose left is the patient's."""
    views = [(one.views[1].counts, (one.pixel_mm, one.pixel_mm)) for one in people]
    right = dict.fromkeys(TOLD, 0)
    for one, placed in zip(people, atlas.place(views), strict=True):
        for part, name in TOLD.items():
            column, row = one.landmarks[part]
            mirrored = one.views[1].counts.shape[1] - column
            ((y, x),) = placed.to_frame(np.array([[row, mirrored]]) * one.pixel_mm)
            down = (y - frame.CROWN_MM) / frame.BODY_MM
            left = (frame.FRAME[1] * frame.CELL_MM / 2 - x) / frame.BODY_MM
            right[part] += places.place_name(down, left) == name
    assert min(right.values()) >= 0.9 * len(people), right


@pytest.mark.parametrize(
    ("height", "midline", "name"),
    [
        (0.936, 0.0, "skull"),
        (0.818, 0.129, "left shoulder"),
        (0.720, 0.0, "sternum and thoracic spine"),
        (0.530, -0.05, "right hip"),
        (0.285, 0.05, "left knee"),
        (0.485, -0.15, "right hand"),
        (0.039, 0.05, "left foot"),
    ],
)
def test_joints_of_the_standard_body_get_their_names(
    height: float, midline: float, name: str
) -> None:
    """Heights over the floor as shares of stature, by Drillis and Contini 1966."""
    assert places.place_name(1.0 - height, midline) == name


def test_every_place_has_one_name_and_sides_mirror() -> None:
    """No gap, no row that hides another; left and right by the sign, a pair in the middle."""
    for down in np.linspace(-0.05, 1.05, 221) + 1e-6:
        for across in np.linspace(0.0, 0.3, 121) + 1e-7:
            rows = [
                p for p in places.PLACES if p.top <= down < p.bottom and p.inner <= across < p.outer
            ]
            assert len(rows) == 1, (down, across, rows)
            left, right = places.place_name(down, across), places.place_name(down, -across)
            assert left.replace("left ", "") == right.replace("right ", "")
            assert (left != right) == (bool(rows[0].pair) and across >= places.BOTH_SIDES)
    assert places.place_name(0.66, 0.0) == "knees"
    with pytest.raises(ValueError, match="nothing of a body"):
        places.place_name(3.0, 0.0)


def test_both_sides_of_a_pair_have_one_name() -> None:
    """The name that lies on the midline between them; what there is one of keeps its own."""
    assert places.both_sides("left knee") == places.both_sides("right knee") == "knees"
    assert places.both_sides("right foot") == places.both_sides("feet") == "feet"
    assert places.both_sides("lumbar spine") == "lumbar spine"
