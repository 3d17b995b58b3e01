"""What an evaluation shows of regions, and how they compare with what the simulation knows."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bae import body, recipes, storage
from bae.archive import privacy
from bae.archive.intake import Decoded
from bae.archive.sandbox import Decoder
from bae.evaluation import pages, panels, run
from bae.evaluation.regions import atlas, controls, examine, measured, truth
from bae.evaluation.table_one import Method
from bae.method import baselines, model
from bae.method.networks import Localizer, Regressor
from bae.method.predictor import Predictor
from bae.phantom import PhantomConfig, evidence, make, objects
from bae.phantom import archive as phantom_archive
from bae.pipeline.rows import staged
from bae.scan import Box, Scan
from tests.fakes import rows as fakes_rows
from tests.fakes import several

CONFIG = PhantomConfig(columns=64, rows=256)
SCANS = 4


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pa.Table]:
    """Four phantoms in an archive with its truth, indexed; and what a model said of them."""
    root = tmp_path_factory.mktemp("regions")
    tables_uri, archive = str(root / "tables"), str(root / "archive")
    key = privacy.load_key()
    told = []
    for k in range(SCANS):
        files = objects(k, seed=5, config=CONFIG)
        for name, data in files:
            storage.write_bytes(storage.join(archive, name), data)
        told.append((make(k, seed=5, config=CONFIG), [name for name, _ in files], ""))
    about = {"seed": 5, "config": {"ages": [40, 80], "columns": 64, "rows": 256}}
    storage.write_bytes(storage.join(archive, *phantom_archive.ABOUT), json.dumps(about).encode())
    pq.write_table(phantom_archive.table(told), storage.join(archive, *phantom_archive.TRUTH))
    items, outcomes = [], []
    with Decoder() as decoder:
        for entry in storage.list_objects(archive).to_pylist():
            ((_, scan),) = decoder.scans("", storage.read_bytes(entry["object_uri"]))
            assert isinstance(scan, Scan)
            names = (privacy.scan_id(key, scan.identity), privacy.patient_key(key, scan.identity))
            items.append(
                Decoded(
                    object_uri=entry["object_uri"],
                    source_uri=entry["object_uri"],
                    etag=entry["etag"],
                    size_bytes=1,
                    scan_id=names[0],
                    patient_key=names[1],
                    outcome=scan,
                )
            )
            outcomes.append(
                {
                    "scan_id": names[0],
                    "patient_key": names[1],
                    "sex": scan.sex,
                    "age_years": scan.age_years,
                    "predicted_age_years": 60.0,
                    "object_uri": entry["object_uri"],
                }
            )
    listing = storage.list_objects(archive)
    fakes_rows.publish_staged(
        tables_uri, archive, listing, staged(items, [None] * len(items), None)
    )
    return tables_uri, pa.Table.from_pylist(outcomes)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A small model with random weights."""
    torch.manual_seed(0)
    recipe = recipes.recipe("small", ["localizer.width=48", "localizer.height=160"])
    card = model.Card(recipe=recipe, parts={"regressor": model.Part(sha256="")})
    return Predictor(Localizer(recipe.localizer), Regressor(recipe.regressor), card)


@pytest.mark.slow
def test_examination_has_every_figure_and_every_check(
    indexed: tuple[str, pa.Table],
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From tables, archive and a model alone; every number has an interval round it."""
    monkeypatch.setattr(examine, "MOST_CHECKS", 3)
    found = examine.examine(indexed[0], predictor, indexed[1])
    assert found is not None
    assert {"figure3_worst", "atlas"} <= set(found.figures)
    for kind in ("png", "svg"):
        found.figures["atlas"].savefig(tmp_path / f"atlas.{kind}")
    checks = {row["check"] for row in found.checks.to_pylist()}
    assert {"randomised: map", "randomised: region", "evidence kept"} <= checks
    for row in found.checks.to_pylist():
        assert row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9
    layers = [r["what"] for r in found.checks.to_pylist() if r["check"] == "randomised: map"]
    assert layers[:2] == ["another scan's map", "random down to head"]


@pytest.mark.slow
def test_evaluation_writes_figures_and_checks_beside_each_other(
    indexed: tuple[str, pa.Table],
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each figure as PDF and PNG, the checks as a table in three formats."""
    monkeypatch.setattr(examine, "MOST_CHECKS", 1)
    monkeypatch.setattr(Predictor, "load", lambda uri: predictor)
    method = Method(name="small", sex=True, uri="", card=predictor.card, outcomes=indexed[1])
    names = run.show_regions(indexed[0], method, pages.Output(str(tmp_path)))
    written = {path.name for path in (tmp_path / method.folder).iterdir()}
    assert {f"{name}.{ending}" for name in names for ending in ("pdf", "png")} <= written
    assert {"regions.md", "regions.csv", "regions.parquet"} <= written


def test_without_localizer_or_scans_there_is_nothing_to_show(
    indexed: tuple[str, pa.Table], predictor: Predictor
) -> None:
    """No figure is made up."""
    assert examine.examine(indexed[0], predictor, indexed[1].slice(0, 0)) is None
    blind = Predictor(None, predictor.regressor, predictor.card)
    assert examine.examine(indexed[0], blind, indexed[1]) is None


@pytest.mark.slow
def test_a_network_of_whole_views_that_says_where_it_looks_is_shown(
    indexed: tuple[str, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures with all boxes, and what they keep; nothing is made random or hidden."""
    monkeypatch.setattr(examine, "MOST_CHECKS", 2)
    torch.manual_seed(0)
    recipe = recipes.recipe("small_chen", ["regressor.width=64", "regressor.height=192"])
    card = model.Card(recipe=recipe, parts={"regressor": model.Part(sha256="")})
    looking = Predictor(None, baselines.build(recipe.regressor), card)
    rows = {row["scan_id"]: row for row in indexed[1].to_pylist()}
    for _, own in examine.panels(indexed[0], looking, sorted(rows)[:1], rows):
        assert [len(panel.boxes) for panel in own] == [3, 3]
        assert all(np.ptp(panel.heat) == 255 and panel.gamma is None for panel in own)
    found = examine.examine(indexed[0], looking, indexed[1])
    assert found is not None
    assert {"figure3_worst", "atlas"} <= set(found.figures)
    assert {row["check"] for row in found.checks.to_pylist()} == {"evidence kept"}


@pytest.mark.slow
def test_scans_find_their_own_truth(indexed: tuple[str, pa.Table]) -> None:
    """By name within the archive, wherever the archive lies; other objects have none."""
    uris = indexed[1]["object_uri"].to_pylist()
    cohort = phantom_archive.cohort_of(uris[:1])
    assert cohort is not None
    assert (cohort.seed, cohort.config) == (5, CONFIG)
    told = {k: {name for name, _ in objects(k, seed=5, config=CONFIG)} for k in range(SCANS)}
    for uri in uris:
        name = uri.removeprefix(cohort.root + "/")
        k = next(k for k, names in told.items() if name in names)
        mine, expected = cohort.evidence(uri), evidence.of(k, seed=5, config=CONFIG)
        assert mine is not None
        np.testing.assert_array_equal(mine.change_vYX, expected.change_vYX)
    assert cohort.evidence("/elsewhere/x.dcm") is None
    assert phantom_archive.cohort_of(["/nowhere/at/all/x.dcm"]) is None


def _panel(view: str, box: Box) -> panels.RegionPanel:
    counts = make(3, seed=5, config=CONFIG).views[0].counts
    return panels.RegionPanel(
        title="", view=view, counts=counts, heat=np.zeros((4, 2), np.uint8), boxes=[box]
    )


@pytest.mark.slow
def test_a_region_on_the_trunk_keeps_more_than_one_on_the_legs() -> None:
    """And a reader of less can do no better; the whole keeps everything."""
    told = evidence.of(3, seed=5, config=CONFIG)
    whole, trunk, legs = (
        truth.kept(told, [_panel(view, box) for view in evidence.VIEWS], CONFIG)
        for box in (Box(0, 0, 64, 256, 1), Box(15, 62, 49, 140, 1), Box(15, 160, 49, 238, 1))
    )
    assert whole.region == pytest.approx(1.0, abs=1e-6)
    assert np.isnan(whole.elsewhere), "no other box of that size"
    assert 0.5 < trunk.region < 1
    assert legs.region < trunk.region
    assert 1.9 < trunk.limit_whole_years < trunk.limit_region_years < legs.limit_region_years


@pytest.mark.slow
def test_examination_of_several_regions_compares_them_with_chance_and_anatomy(
    indexed: tuple[str, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All boxes together in every check; the stand-in forgets what it learned part by part."""
    monkeypatch.setattr(examine, "MOST_CHECKS", 3)
    found = examine.examine(indexed[0], several.Forgetful(), indexed[1])  # type: ignore[arg-type]
    assert found is not None
    told = {(r["check"], r["what"], r["unit"]): r["value"] for r in found.checks.to_pylist()}
    check, unit = "randomised: region", "overlap"
    assert told[check, "random down to trunk", unit] == 0.0
    assert 0.3 < told[check, "random down to head", unit] < told[check, "another scan's map", unit]
    assert {what for name, what, _ in told if name == "hidden"} == {
        "all regions",
        "as many other boxes",
        "difference",
    }
    assert ("hidden", "all regions", "rise of absolute error, years") in told
    kept = {
        what: told[c, what, u] for c, what, u in told if u.startswith("share of the information")
    }
    for what in (
        "all regions",
        "as many random boxes",
        "as many boxes at fixed places",
    ):
        assert 0 < kept[what] < 1
    assert 0.02 < told["evidence kept", "all regions", "share of the body covered"] < 0.3
    assert {"atlas", "atlas_by_region", "figure3_worst"} <= set(found.figures)
    assert [row["region"] for row in found.by_region] == ["elsewhere"], "four people are few"


def test_all_regions_together_keep_the_evidence_of_their_union() -> None:
    """The evidence in a mask of all their pixels; the fixed choice is where it is said to be."""
    told = evidence.of(3, seed=5, config=CONFIG)
    views = make(3, seed=5, config=CONFIG).views
    own = [
        dataclasses.replace(_panel(view.name, Box(0, 0, 9, 9, 1)), counts=view.counts)
        for view in views
    ]
    boxes = [Box(20, 60, 44, 90, 1), Box(26, 80, 50, 110, 1), Box(10, 150, 30, 180, 1)]
    panels_ = [dataclasses.replace(panel, boxes=boxes) for panel in own]
    found = truth.kept(told, panels_, CONFIG)
    mask = np.zeros((256, 64))
    for box in boxes:
        mask[box.y0 : box.y1, box.x0 : box.x1] = 1
    whole = told.information()
    assert found.region == pytest.approx(told.information(np.stack([mask, mask])) / whole, rel=1e-6)
    bodies = [body.body_mask(panel.counts) for panel in own]
    assert found.area == pytest.approx(
        sum((mask * held).sum() for held in bodies) / sum(held.sum() for held in bodies)
    )
    fixed = {panel.view: controls.anatomical(panel) for panel in panels_}
    assert found.anatomical == pytest.approx(told.information(told.shares(fixed)) / whole)
    assert 0 < found.elsewhere < 1
    alone = truth.kept(told, [dataclasses.replace(p, boxes=boxes[:1]) for p in own], CONFIG)
    assert np.isnan(alone.anatomical)
    assert alone.region < found.region


def test_two_visits_of_a_person_are_compared_by_places_on_the_body() -> None:
    """Who always has the same places agrees with himself and not with the other; by arithmetic."""
    places = {"a": [0.2, 0.2], "b": [0.6, 0.65]}
    seen, rows = {}, {}
    for patient, visits in places.items():
        for number, down in enumerate(visits):
            box = Box(10, 10, 30, 30, 1, crown_sole=down, midline=0.0)
            seen[f"{patient}{number}"] = [_panel("anterior", box)]
            rows[f"{patient}{number}"] = {"patient_key": patient, "age_years": 60.0 + number}
    told = {row["what"]: row["value"] for row in measured._visits(seen, rows)}
    height = 20 / (np.ptp(np.flatnonzero(body.body_mask(seen["a0"][0].counts).any(axis=1))) + 1)
    moved = (height - 0.05) / (height + 0.05)
    assert told["the same person"] == pytest.approx((1 + moved) / 2, abs=0.06)
    assert told["another person"] == 0.0
    plain = {"a0": [_panel("anterior", Box(0, 0, 9, 9, 1))]}
    assert measured._visits(plain, rows) == []


def test_atlas_shows_each_group_where_it_belongs() -> None:
    """Women above men, groups from left to right, anterior before posterior; gaps stay empty."""
    mean = atlas.Mean(
        heat=np.tile(np.linspace(0, 255, atlas.FRAME[1], dtype=np.float32), (atlas.FRAME[0], 1)),
        scan=np.ones(atlas.FRAME, np.float32),
        scans=7,
    )
    figure = atlas.atlas({("posterior", "M", 1): mean}, ["young", "old"])
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["anterior, 0", "posterior, 0"] * 3 + ["anterior, 0", "posterior, 7"]
    (filled,) = [axis for axis in figure.axes if len(axis.images) == 2]
    np.testing.assert_array_equal(filled.images[1].get_array(), mean.heat)
    assert len(filled.collections) == 2, "both lines"


def test_means_group_by_true_age_and_leave_out_what_is_not_known() -> None:
    """Sex and age must be known, the age inside the edges."""
    seen = {f"s{k}": [_panel("anterior", Box(0, 0, 9, 9, 1))] for k in range(4)}
    known = [("F", 45.0), ("F", 50.0), (None, 45.0), ("M", 95.0)]
    rows = {f"s{k}": {"sex": sex, "age_years": age} for k, (sex, age) in enumerate(known)}
    found = examine.means(seen, rows, (40.0, 50.0, 60.0, 70.0, 80.0))
    assert {key: mean.scans for key, mean in found.items()} == {
        ("anterior", "F", 0): 1,
        ("anterior", "F", 1): 1,
    }
