"""Figure 3: the right scans, the right boxes on the right counts."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bae import storage
from bae.archive import intake, privacy
from bae.archive.sandbox import Decoder
from bae.evaluation import figure3, panels
from bae.method.prediction import LocalizedView, Prediction
from bae.phantom import PhantomConfig, objects
from bae.pipeline import reread
from bae.pipeline import rows as pipeline_rows
from bae.scan import Box, Identity, Scan, View
from bae.tables import delta, publish, runs

EDGES = (40.0, 50.0, 60.0, 70.0, 80.0)


def _ages(*rows: tuple[str, str | None, float | None, float]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "scan_id": name,
                "sex": sex,
                "age_years": age,
                "predicted_age_years": (age or 50.0) + gap,
            }
            for name, sex, age, gap in rows
        ]
    )


def test_typical_is_the_scan_with_the_median_error() -> None:
    """Of three, the middle one, whatever the sign; a group nobody is in stays empty."""
    ages = _ages(
        ("a", "F", 45, -1.0),
        ("b", "F", 41, 9.0),
        ("c", "F", 49.9, -4.0),
        ("d", "M", 80.0, 2.0),
        ("e", None, 45, 0.0),
        ("f", "F", None, 0.0),
    )
    assert figure3.typical(ages, EDGES) == ["c", None, None, None, None, None, None, "d"]


def test_worst_are_the_largest_errors_either_way() -> None:
    """Largest first; scans without an age have no error."""
    ages = _ages(("a", "F", 45, -3.0), ("b", "F", 41, 2.0), ("c", "M", 60, -5), ("d", "M", None, 0))
    assert figure3.worst(ages, 2) == ["c", "a"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """Two phantoms, scored by a made-up model: heat and box depend on scan and view."""
    root = tmp_path_factory.mktemp("figure3")
    tables_uri, place = str(root / "tables"), str(root / "archive")
    key = privacy.load_key()
    config = PhantomConfig(columns=64, rows=256)
    names = [name for k in (0, 1) for name, _ in objects(k, config=config)]
    for k in (0, 1):
        for name, data in objects(k, config=config):
            storage.write_bytes(storage.join(place, name), data)
    items = []
    with Decoder() as decoder:
        for entry in storage.list_objects(place).to_pylist():
            ((_, scan),) = decoder.scans("", storage.read_bytes(entry["object_uri"]))
            assert isinstance(scan, Scan)
            items.append(
                intake.Decoded(
                    object_uri=entry["object_uri"],
                    source_uri=entry["object_uri"],
                    etag=entry["etag"],
                    size_bytes=entry["size_bytes"],
                    scan_id=privacy.scan_id(key, scan.identity),
                    patient_key=privacy.patient_key(key, scan.identity),
                    outcome=scan,
                )
            )
    run = runs.open_run(tables_uri, place, "made-up", storage.list_objects(place))
    rows = pipeline_rows.staged(
        items, [_prediction(i, item) for i, item in enumerate(items)], "made-up"
    )
    run.store(0, rows)
    publish.finish(run, lambda: None)
    assert len(names) == len(items)
    return tables_uri, [item.scan_id for item in items]


def _prediction(number: int, item: intake.Decoded) -> Prediction:
    assert isinstance(item.outcome, Scan)
    return Prediction(
        age_years=50.0 + number,
        low_years=None,
        high_years=None,
        spread_years=0.0,
        view_ages_years=(),
        group=1,
        probabilities=np.full(4, 0.25, np.float32),
        views=tuple(_found(number, i, view) for i, view in enumerate(item.outcome.views)),
    )


def _found(number: int, index: int, view: View) -> LocalizedView:
    import torch

    heat = np.arange(12, dtype=np.uint8).reshape(4, 3) * 20 + number + 10 * index
    box = Box(5 + index, 10 + number, 40, 90, 0.5)
    return LocalizedView(
        view=view.name,
        group=1,
        probabilities=np.full(4, 0.25, np.float32),
        heat=heat,
        heat_min=0.0,
        heat_max=1.0,
        boxes=[box],
        grey=torch.zeros(1, 1),
    )


def test_panels_join_counts_heat_and_box_of_one_view(archive: tuple[str, list[str]]) -> None:
    """Read again, every view meets its own heat map and box."""
    tables_uri, scan_ids = archive
    ages = delta.read(tables_uri, "cohort/ages")
    found = _panels(tables_uri, ages, scan_ids[::-1])
    assert list(found) == scan_ids[::-1]
    for number, scan_id in enumerate(scan_ids):
        scan = dict(reread.scans(tables_uri, [scan_id]))[scan_id]
        assert [panel.view for panel in found[scan_id]] == [view.name for view in scan.views]
        for index, (panel, view) in enumerate(zip(found[scan_id], scan.views, strict=True)):
            np.testing.assert_array_equal(panel.counts, view.counts)
            expected = _found(number, index, view)
            np.testing.assert_array_equal(panel.heat, expected.heat)
            assert panel.box == expected.boxes[0]
            assert f"predicted {50 + number} years" in panel.title


def test_reread_scan_is_as_indexed_and_nameless(archive: tuple[str, list[str]]) -> None:
    """What the table says of age, sex and size; no identity; unknown scans are left out."""
    tables_uri, scan_ids = archive
    rows = {r["scan_id"]: r for r in delta.read(tables_uri, "restricted/scans").to_pylist()}
    found = list(reread.scans(tables_uri, [scan_ids[1], "f" * 32, scan_ids[0]]))
    assert [scan_id for scan_id, _ in found] == [scan_ids[1], scan_ids[0]]
    for scan_id, scan in found:
        assert scan.sex == rows[scan_id]["sex"]
        assert scan.age_years == rows[scan_id]["age_years"]
        assert scan.pixel_mm == (rows[scan_id]["pixel_mm"], rows[scan_id]["pixel_column_mm"])
        identity = scan.identity
        assert (identity.patient, identity.study, identity.instance) == ("", "", "")


def test_figures_are_drawn_and_those_without_scans_left_out(
    archive: tuple[str, list[str]], tmp_path: Path
) -> None:
    """Both formats; one view only gives no figure of the other."""
    tables_uri, _ = archive
    ages = delta.read(tables_uri, "cohort/ages")
    read = partial(_panels, tables_uri, ages)
    drawn = figure3.draw(ages, EDGES, read)
    assert set(drawn) <= {"figure3_anterior", "figure3_posterior", "figure3_worst"}
    assert "figure3_worst" in drawn
    for kind in ("png", "pdf"):
        drawn["figure3_worst"].savefig(tmp_path / f"worst.{kind}")
        assert (tmp_path / f"worst.{kind}").stat().st_size > 10_000
    assert figure3.draw(ages.slice(0, 0), EDGES, read) == {}


def _panels(
    tables_uri: str, ages: pa.Table, scan_ids: Sequence[str]
) -> dict[str, list[panels.RegionPanel]]:
    """Read scans again and join them with their rows of one model."""
    said = {row["scan_id"]: row for row in ages.to_pylist()}
    heats, boxes = (
        delta.read(tables_uri, f"cohort/{n}").to_pylist() for n in ("heatmaps", "boxes")
    )
    found = {}
    for scan_id, scan in reread.scans(tables_uri, scan_ids):
        own = ([row for row in rows if row["scan_id"] == scan_id] for rows in (heats, boxes))
        found[scan_id] = [
            replace(panel, title=panels.title(said[scan_id], panel.view))
            for panel in panels.region_panels(scan, *own)
        ]
    return found


def _panel(box: Box, **changes: object) -> panels.RegionPanel:
    counts = np.random.default_rng(0).poisson(20, (200, 50)).astype(np.uint16)
    panel = panels.RegionPanel(
        title="t",
        view="posterior",
        counts=counts,
        boxes=[box],
        heat=np.arange(40, dtype=np.uint8).reshape(10, 4) * 6,
        pixel_mm=(4.0, 2.0),
    )
    return replace(panel, **changes)  # type: ignore[arg-type]


def test_picture_shows_crop_sides_and_true_proportions() -> None:
    """The fourth picture is the box's pixels; a pixel twice as high is drawn so; L is left."""
    box = Box(10, 50, 40, 90, 1.0)
    figure = figure3.regions([_panel(box, gamma=150.0), None, _panel(box)], across=2)
    axes = [axis for place in figure.subfigs for axis in place.axes]
    assert len(axes) == 8, "a free place stays empty"
    np.testing.assert_array_equal(axes[3].images[0].get_array(), _panel(box).counts[50:90, 10:40])
    assert {axis.get_aspect() for axis in axes} == {2.0}
    assert [text.get_text() for text in axes[0].texts][:2] == ["L", "R"]
    (bar,) = axes[0].lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(200 / 2.0), "20 cm"
    (frame,) = axes[2].patches
    assert frame.get_bbox().bounds == (9.5, 49.5, 30, 40)
    assert len(axes[2].collections) == 1, "the contour of the threshold"
    assert not axes[6].collections


def test_several_boxes_are_numbered_and_each_crop_says_place_and_share() -> None:
    """The number stands at its box in all three pictures, the crops in the same order."""
    shown = [
        Box(10, 20, 30, 50, 0.5, 0.314, 0.05, 0.0, "sternum and thoracic spine"),
        Box(30, 90, 48, 120, 0.3, 0.2, 0.66, 0.05, "left knee"),
        Box(0, 150, 20, 180, 0.2, None),
    ]
    figure = figure3.regions([_panel(shown[0], boxes=shown)])
    scan, heat, over, *cut = [axis for place in figure.subfigs for axis in place.axes]
    for axis in (scan, heat, over):
        numbers = [text for text in axis.texts if text.get_text().isdigit()]
        assert [text.get_text() for text in numbers] == ["1", "2", "3"]
        for text, box, patch in zip(numbers, shown, axis.patches, strict=True):
            assert text.get_position()[0] in (box.x0, box.x1) and text.get_position()[1] == box.y0
            size = (box.x1 - box.x0, box.y1 - box.y0)
            assert patch.get_bbox().bounds == (box.x0 - 0.5, box.y0 - 0.5, *size)
    assert [axis.get_title() for axis in cut] == [
        "1 sternum and\nthoracic spine\n31 %",
        "2 left knee\n20 %",
        "3\n",
    ]
    counts = _panel(shown[0]).counts
    for axis, box in zip(cut, shown, strict=True):
        expected = counts[box.y0 : box.y1, box.x0 : box.x1]
        np.testing.assert_array_equal(axis.images[0].get_array(), expected)
        assert axis.get_aspect() == 2.0


def test_panels_of_several_regions_have_all_boxes_in_their_order() -> None:
    """Rows of any order; of a mask of several parts only what was cropped."""
    counts = np.ones((20, 10), np.uint16)
    scan = Scan(
        views=(View(name="anterior", counts=counts), View(name="posterior", counts=counts)),
        identity=Identity(patient="", study="", instance=""),
    )
    told = Box(0, 2, 5, 9, 0.4, 0.6, 0.1, -0.2, "right shoulder", -1.5)
    rows = [
        {
            "view": view,
            "view_index": index,
            "box_index": number,
            **{name: getattr(told, name) for name in ("x0", "x1", "y1", "heat_share", "weight")},
            "y0": number,
            "body_x": told.midline,
            "body_y": told.crown_sole,
            "region": told.name,
            "added_years": told.years,
        }
        for index, view in enumerate(("anterior", "posterior"))
        for number in (2, 0, 1)
    ]
    found = panels.region_panels(scan, [], rows)
    assert [panel.view for panel in found] == ["anterior", "posterior"]
    for panel in found:
        assert panel.boxes == [replace(told, y0=number) for number in range(3)]
    plain = panels.region_panels(scan, [], [row | {"weight": None} for row in rows])
    assert [[box.y0 for box in panel.boxes] for panel in plain] == [[0], [0]]
