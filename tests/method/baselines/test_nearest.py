"""The atlas of people: who is asked, by which distances, and what is said of odd scans."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bae import recipes
from bae.errors import ModelError, RecipeError
from bae.method import model
from bae.method.baselines import nearest
from bae.method.predictor import Predictor
from bae.method.regional.frame import lay
from bae.scan import ANTERIOR, POSTERIOR, SEX_CODE, UNKNOWN, Identity, Scan
from tests.method.regional.bodies import people

SCANS = 24
NOBODY = Identity(patient="p", study="s", instance="i")
Floats = NDArray[np.float64]


def _cohort(scans: int, seed: int = 0) -> tuple[Floats, Floats, Floats, list[str]]:
    """Columns that move along one direction with age, along another with sex; two scans each."""
    rng = np.random.default_rng(seed)
    patients = [f"p{i // 2}" for i in range(scans)]
    male = np.repeat(rng.integers(0, 2, scans // 2), 2).astype(float)
    years = np.repeat(rng.uniform(30, 80, scans // 2), 2)
    ways = rng.standard_normal((2, 60))
    columns = 0.1 * rng.standard_normal((scans, 60)) + (years[:, None] - 55) / 10 * ways[0]
    columns += 2 * (male[:, None] - 0.5) * ways[1]
    return columns.astype(np.float32), male, years, patients


def test_neighbours_are_those_of_a_search_by_hand() -> None:
    """Of the same sex, in the space of the components; both sexes for an unknown one."""
    columns, male, years, patients = _cohort(160)
    learned, _ = nearest.learn(columns, male, years, patients)
    asked, _, _, _ = _cohort(12, seed=1)
    sexes = np.array([0.0, 1.0, np.nan] * 4)
    said, spread = learned.look(asked, sexes)
    unit = learned.components_QJ[: nearest.COMPONENTS]
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    for i, sex in enumerate(sexes):
        scores = learned.standard(asked[i : i + 1])[0] @ unit.T
        away = np.linalg.norm(learned.scores_NQ - scores, axis=1)
        same = np.isnan(sex) | (learned.male_N == sex)
        ages = learned.years_N[same][np.argsort(away[same])[: learned.neighbours]]
        assert said[i] == pytest.approx(ages.mean(), abs=1e-4)
        assert spread[i] == pytest.approx(ages.std(), abs=1e-4)


def test_an_age_that_shows_is_found_and_nobody_helps_themselves() -> None:
    """Second scans of a person would be the nearest, and say the age itself."""
    columns, male, years, patients = _cohort(160)
    learned, held_out = nearest.learn(columns, male, years, patients)
    assert np.abs(held_out - years).mean() < 3.0 < np.abs(years - years.mean()).mean()
    assert learned.error_years == pytest.approx(np.sqrt(np.mean((held_out - years) ** 2)))
    # where all columns are a person's own, nothing is to be learned of the others
    rng = np.random.default_rng(2)
    own = np.repeat(rng.standard_normal((80, 60)), 2, axis=0).astype(np.float32)
    _, blind = nearest.learn(own, male, years, patients)
    assert np.abs(blind - years).mean() > 0.8 * np.abs(years - years.mean()).mean()


def test_few_people_of_a_sex_are_all_that_is_asked() -> None:
    """One man is nearest to every man; where there is none, women are asked."""
    columns, _, years, patients = _cohort(40)
    male = np.zeros(40)
    male[:2] = 1.0  # one patient's two scans
    learned, held_out = nearest.learn(columns, male, years, patients)
    said, _ = learned.look(columns, np.ones(40))
    assert said == pytest.approx(np.full(40, years[0]), abs=1e-4)
    assert held_out[:2] == pytest.approx([years.mean()] * 2)  # of nobody else
    women, _ = nearest.learn(columns[2:], male[2:], years[2:], patients[2:])
    assert np.isfinite(women.look(columns, np.ones(40))[0]).all()


@functools.cache
def _fitted() -> nearest.Atlas:
    made = people(SCANS, rows=512)
    sheets = {
        kind: [
            lay(view.counts, (scan.pixel_mm, scan.pixel_mm)).density_VU
            for scan in made
            for view in scan.views
            if view.name == kind
        ]
        for kind in (ANTERIOR, POSTERIOR)
    }
    male = np.array([SEX_CODE[scan.sex] for scan in made])
    years = np.array([scan.age_years for scan in made])
    return nearest.fit(sheets, male, years, [str(scan.patient) for scan in made])[0]


def _saved(folder: Path) -> str:
    card = model.Card(recipe=recipes.recipe("atlas_nn"), parts={})
    model.save_part(str(folder), card, "nearest", _fitted().tensors(), {})
    return str(folder)


def test_it_comes_back_from_its_folder_and_reads_odd_scans(tmp_path: Path) -> None:
    """One view missing, sex unknown, a view of unknown name, twice the same view."""
    uri = _saved(tmp_path)
    assert set(model.check(uri).parts) == {"nearest"}
    predictor = Predictor.load(uri)
    made = people(SCANS, rows=512)[3]
    scan = Scan(views=made.views, identity=NOBODY, sex=made.sex, pixel_mm=(made.pixel_mm,) * 2)
    one, two = scan.views
    (whole,) = predictor.predict([scan])
    atlas = _fitted()
    share = atlas.weights((one.name, two.name))
    assert whole.age_years == pytest.approx(
        sum(share[v.name] * y for v, y in zip(scan.views, whole.view_ages_years, strict=True))
    )
    assert whole.spread_years > 0
    for view, seen in zip(scan.views, whole.views, strict=True):
        (box,) = seen.boxes
        assert (box.y1, box.x1) == view.counts.shape and not seen.heat.size
    alone, nameless, unsexed, twice = predictor.predict(
        [
            replace(scan, views=(one,)),
            replace(scan, views=(replace(two, name=UNKNOWN),)),
            replace(scan, sex=None),
            replace(scan, views=(one, one)),
        ]
    )
    assert alone.age_years == alone.view_ages_years[0] == whole.view_ages_years[0]
    assert nameless.age_years == pytest.approx(whole.view_ages_years[1])
    assert "sex_unknown" in unsexed.flags and np.isfinite(unsexed.age_years)
    assert twice.age_years == alone.age_years and len(twice.views) == 2


def test_a_broken_folder_and_a_wrong_recipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no nearest; run jobs\.train first"):
        model.load_nearest("nowhere", model.Card(recipe=recipes.recipe("atlas_nn"), parts={}))
    half = {name: t for name, t in _fitted().tensors().items() if "years_N" not in name}
    card = model.Card(recipe=recipes.recipe("atlas_nn"), parts={})
    model.save_part(str(tmp_path), card, "nearest", half, {})
    with pytest.raises(ModelError, match="not whole"):
        Predictor.load(str(tmp_path))
    for change in ("regressor.use_sex=false", "region.parts=all"):
        with pytest.raises(RecipeError, match="atlas_nn"):
            recipes.recipe("atlas_nn", [change])
