"""Scans of the cohort look like bone scans, and scan k is scan k."""

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage, stats

from bae import phantom
from bae.errors import UseError
from bae.phantom import PhantomConfig, PhantomScan, sheet
from bae.phantom.anatomy import bones_axial
from bae.phantom.anatomy.body import Build, Pose, place
from bae.phantom.anatomy.skeleton import skeleton
from bae.phantom.anatomy.tissue import surfaces
from bae.phantom.camera import project
from bae.phantom.lesions import Focus
from bae.phantom.people import PATIENTS_PER_BLOCK, VISITS, generator, patient_of, visit
from bae.phantom.scan import camera_for, rates
from bae.scan import ANTERIOR, POSTERIOR

CONFIG = PhantomConfig()
CAMERA, _ = camera_for(CONFIG)
SHAPE = (CAMERA.rows, CAMERA.columns)


@pytest.fixture(scope="module")
def scans() -> list[PhantomScan]:
    """A few scans, as the job would write them."""
    return [phantom.make(k) for k in range(12)]


def _near(scan: PhantomScan, view: int, part: str, size: int = 5) -> float:
    """Return mean counts around a part's landmark."""
    column, row = scan.landmarks[part]
    if view == 1:
        column = CAMERA.columns - column
    r, c, h = int(row), int(column), size // 2
    return float(scan.views[view].counts[r - h : r + h + 1, c - h : c + h + 1].mean())


def _thigh(scan: PhantomScan, view: int) -> float:
    """Return mean counts of muscle beside the left femur."""
    left, right = scan.landmarks["left femur"], scan.landmarks["right femur"]
    column = (left[0] + right[0]) / 2 + 0.45 * (left[0] - right[0]) / 2
    column = column if view == 0 else CAMERA.columns - column
    r, c = int(left[1]), int(column)
    return float(scan.views[view].counts[r - 4 : r + 5, c - 2 : c + 3].mean())


def test_the_same_seed_gives_the_same_bytes_in_any_order() -> None:
    """Scan 5 alone, after others, and again: equal objects; another seed differs."""
    alone = phantom.objects(5, seed=3)
    phantom.objects(2, seed=3)
    assert phantom.objects(5, seed=3) == alone
    assert phantom.objects(5, seed=4) != alone


def test_counts_are_as_many_as_a_camera_collects(scans: list[PhantomScan]) -> None:
    """1 to 3.5 million per view, 16 bit, 256 x 1024 at 2.2-2.4 mm."""
    for scan in scans:
        assert [view.name for view in scan.views] == [ANTERIOR, POSTERIOR]
        assert 2.2 <= scan.pixel_mm <= 2.4
        for view in scan.views:
            assert view.counts.dtype == np.uint16
            assert view.counts.shape == (1024, 256)
            assert 1.0e6 < view.counts.sum() < 3.5e6
            assert 50 < np.percentile(view.counts, 99.9) < 1000


def test_noise_is_poisson() -> None:
    """Two looks at the same rates differ by their variance: counts, not a filtered picture."""
    who = visit(4, 0, CONFIG)
    expected, _, _ = rates(who, CAMERA, generator(0))
    counts = phantom.make(4).views[0].counts.astype(float)
    # the soft tissue's texture differs, so compare neighbours, not the rate itself
    steps = counts[200:800, 60:196:2] - counts[200:800, 61:197:2]
    mean = (counts[200:800, 60:196:2] + counts[200:800, 61:197:2]) / 2.0
    held = (expected[200:800, 60:196:2] > 5) & (mean < 20)
    assert np.var(steps[held]) / (2.0 * mean[held].mean()) == pytest.approx(1.0, abs=0.15)


def test_the_whole_body_lies_in_the_picture(scans: list[PhantomScan]) -> None:
    """Head up, nothing cut at head or feet, air around."""
    for scan in scans:
        for view in scan.views:
            profile = view.counts.sum(axis=1).astype(float)
            rows = np.nonzero(ndimage.uniform_filter1d(profile, 5) > 100)[0]
            assert rows[0] > 20 and rows[-1] < 1000
            assert 550 < rows[-1] - rows[0] < 950
        assert scan.landmarks["skull vault"][1] < scan.landmarks["L3 body"][1]
        assert scan.landmarks["L3 body"][1] < scan.landmarks["left ankle"][1]


@pytest.mark.parametrize(
    ("part", "view", "least"),
    [
        ("manubrium", 0, 3.0),
        ("sternum body", 0, 1.8),
        ("nose", 0, 2.5),
        ("maxilla", 0, 2.0),
        ("left humeral head", 0, 1.6),
        ("right humeral head", 0, 1.6),
        ("skull vault", 0, 1.2),
        ("left medial knee", 0, 1.3),
        ("right patella", 0, 1.3),
        ("T8 body", 1, 3.0),
        ("L3 body", 1, 2.2),
        ("S1 body", 1, 1.8),
        ("C6 body", 1, 1.8),
        ("left sacroiliac", 1, 2.0),
        ("right sacroiliac", 1, 2.0),
        ("left rib 8", 1, 1.1),
        ("left scapula spine", 1, 1.5),
        ("right ischium", 1, 1.1),
        ("left heel", 1, 1.1),
    ],
)
def test_named_bones_stand_out_at_their_landmarks(
    scans: list[PhantomScan], part: str, view: int, least: float
) -> None:
    """Counts at the landmark over those of thigh muscle, median over people."""
    ratios = [_near(scan, view, part) / _thigh(scan, view) for scan in scans]
    assert np.median(ratios) > least


def test_landmarks_meet_the_hot_spots_they_name(scans: list[PhantomScan]) -> None:
    """The bladder's maximum lies within 6 pixels of its landmark where it is full."""
    met = 0
    for scan in scans:
        column, row = (int(v) for v in scan.landmarks["bladder"])
        window = scan.views[0].counts[row - 20 : row + 21, column - 25 : column + 26]
        smooth = ndimage.gaussian_filter(window.astype(float), 2)
        if smooth.max() > 6 * _thigh(scan, 0):
            r, c = np.unravel_index(smooth.argmax(), smooth.shape)
            assert abs(int(r) - 20) <= 6 and abs(int(c) - 25) <= 6
            met += 1
    assert met >= 3


def test_anterior_shows_sternum_and_face_posterior_spine_and_sacroiliac_joints() -> None:
    """Each of these, alone in the body, is at least twice as bright in its own view."""
    bones = skeleton()
    who = visit(1, 0, CONFIG)
    placed = place(bones, who.build, who.pose)
    front, back = surfaces(placed, who.build, CAMERA.xs, CAMERA.zs)
    nothing, one = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    for part, view in (
        ("sternum body", 0),
        ("nose", 0),
        ("left patella", 0),
        ("T8 body", 1),
        ("L3 body", 1),
        ("left sacroiliac", 1),
        ("left kidney", 1),
    ):
        chosen = bones.part == bones.names.index(part)
        pair = project(
            CAMERA, placed.points[chosen], bones.weight[chosen], front, back, nothing, one
        )
        assert pair[view].sum() > 2.0 * pair[1 - view].sum(), part


def test_a_straight_body_is_mirror_symmetric_within_noise() -> None:
    """Straight pose, no texture: left and right halves agree; their counts differ by chance."""
    bones = skeleton()
    build = Build(height_mm=1700.0, girth=1.0, shoulders=1.0, hips=1.0)
    placed = place(bones, build, Pose(turns={}, sole_z=280.0))
    front, back = surfaces(placed, build, CAMERA.xs, CAMERA.zs)
    one = np.ones(SHAPE, np.float32)
    for view in project(CAMERA, placed.points, bones.weight, front, back, one, one):
        view *= np.float32(2.0e6 / view.sum())
        left, right = view[:, :128], view[:, :127:-1]
        assert np.abs(left - right).max() < 0.08 * view.max()
        counts = np.random.default_rng(0).poisson(view).astype(float)
        left, right = counts[:, :128], counts[:, :127:-1]
        held = left + right > 20
        z = (left - right)[held] / np.sqrt((left + right)[held])
        assert np.var(z) == pytest.approx(1.0, abs=0.1)


def test_left_and_right_change_sides_between_the_views(scans: list[PhantomScan]) -> None:
    """An injection site stands out on opposite sides of the two pictures."""
    met = 0
    for scan in scans:
        for side in ("left", "right"):
            column, row = scan.landmarks[f"{side} injection"]
            if not 8 < column < 248:
                continue
            r, c = int(row), int(column)
            ahead, behind = scan.views[0].counts, scan.views[1].counts
            if ahead[r - 3 : r + 4, c - 3 : c + 4].max() > 8 * _thigh(scan, 0):
                assert (side == "left") == (column > 128)
                there = behind[r - 4 : r + 5, 252 - c : 261 - c].max()
                assert there > 2.5 * _thigh(scan, 1)
                assert there > 2 * behind[r - 4 : r + 5, c - 4 : c + 5].max()
                met += 1
    assert met >= 1


def test_ages_fill_the_range_evenly_also_with_repeated_visits() -> None:
    """Ages of 960 scans against the uniform distribution; patients come again years apart."""
    seen = [visit(k, 1, CONFIG) for k in range(960)]
    ages = np.array([who.age_years for who in seen])
    # only patients' first draws are independent: the test is on them and on all, loosely
    assert stats.kstest((ages - 40) / 40, "uniform").statistic < 0.05
    assert np.mean([who.sex == "F" for who in seen]) == pytest.approx(0.5, abs=0.06)
    again = [who for who in seen if patient_of(who.index)[1] > 0]
    assert len(again) == 240
    first = {who.patient: who for who in seen if patient_of(who.index)[1] == 0}
    for who in again:
        before = first[who.patient]
        assert (who.sex, who.born, who.build) == (before.sex, before.born, before.build)
        assert who.age_years - before.age_years == pytest.approx(
            who.latent_years - before.latent_years
        )
    apart = [abs(who.age_years - first[who.patient].age_years) for who in again]
    assert np.median(apart) > 1.5


def test_patients_are_numbered_without_gaps() -> None:
    """Each block of 16 scans shows 12 patients."""
    block = [patient_of(k)[0] for k in range(2 * len(VISITS))]
    assert sorted(set(block)) == list(range(2 * PATIENTS_PER_BLOCK))


def test_age_follows_from_the_dates() -> None:
    """Exact age at acquisition, as a reader of the header works it out."""
    for k in range(50):
        who = visit(k, 0, CONFIG)
        assert who.age_years == pytest.approx((who.day - who.born).days / 365.25)
        assert 39.99 < who.age_years < 80.01


def test_the_papers_export_size_is_written() -> None:
    """900 x 3000 pixels, the same body, finer pixels."""
    scan = phantom.make(0, config=PhantomConfig(columns=900, rows=3000))
    assert scan.views[0].counts.shape == (3000, 900)
    assert scan.pixel_mm < 0.8
    column, row = (int(v) for v in scan.landmarks["manubrium"])
    counts = scan.views[0].counts.astype(float)
    assert counts[row - 9 : row + 10, column - 9 : column + 10].mean() > 3 * counts.mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"ages": (80.0, 40.0)},
        {"ages": (5.0, 40.0)},
        {"columns": 10},
        {"rows": 300},
        {"mistakes": 1.5},
        {"mistakes": float("nan")},
        {"latent_sd_years": 0.0},
    ],
)
def test_impossible_cohorts_are_refused(wrong: dict[str, float]) -> None:
    """One sentence, before anything is made."""
    with pytest.raises(UseError):
        PhantomConfig(**wrong)


def test_vertebrae_do_not_overlap() -> None:
    """Each lies under the one before, by both half heights."""
    heights = list(bones_axial.vertebra_heights().values())
    for (upper, size), (lower, next_size) in pairwise(heights):
        assert upper - lower == pytest.approx((size + next_size) / 2)


def test_an_arthritic_focus_brightens_the_place_where_it_lies() -> None:
    """An arthritic knee gains most at the knee, by a third of what is there or more."""
    who = replace(visit(0, 0, CONFIG), foci=())
    focus = Focus(
        part="left medial knee", share=np.full(3, 0.5), radius_mm=7.0, uptake=22.0, kind="x"
    )
    plain, _, placed = rates(who, CAMERA, generator(0))
    hot, _, _ = rates(replace(who, foci=(focus,)), CAMERA, generator(0))
    gain = hot - plain
    row, column = np.unravel_index(gain.argmax(), gain.shape)
    assert gain.max() > 0.33 * plain[row, column]
    knee = placed.joints["left knee"]
    assert abs(column - (knee[0] / CAMERA.pixel_mm + 128)) < 20
    assert abs(row - (1024 - knee[2] / CAMERA.pixel_mm)) < 10


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_contact_sheet_is_dark_on_white() -> None:
    """One panel per scan and one beside them, white paper, black bones."""
    views = [np.zeros((100, 40), np.uint16), np.zeros((100, 40), np.uint16)]
    for view in views:
        view[20:80, 15:25] = 90
    panel = ("x", views)
    figure = sheet.contact_sheet([panel, panel], 2, panel)
    image = figure.axes[0].images[0]
    assert image.cmap.name == "gray_r"
    data = image.get_array()
    assert data[0].max() == 0 and data.max() == 1
    assert len(figure.axes[0].texts) == 3


@pytest.mark.slow
def test_sheet_shows_each_decade_of_each_sex() -> None:
    """Four women, then four men, by age."""
    drawn = sheet.one_per_decade()
    assert [scan.sex for scan in drawn] == ["F"] * 4 + ["M"] * 4
    assert [int(scan.age_years // 10) for scan in drawn] == [4, 5, 6, 7] * 2


def test_phantoms_are_made_fast_enough() -> None:
    """At least 4 two-view scans per second and core; loosely, since machines are shared."""
    phantom.objects(0)
    start = time.process_time()
    for k in range(1, 9):
        phantom.objects(k)
    assert (time.process_time() - start) / 8 < 0.5
