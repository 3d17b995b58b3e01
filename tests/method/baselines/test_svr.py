"""Support vector regression: scikit-learn's answers, from arrays, on odd scans too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.svm import SVR

from bae import recipes
from bae.errors import ModelError, RecipeError
from bae.method import model
from bae.method.baselines.svr import look
from bae.method.baselines.vectors import Vectors, codes, columns, standard
from bae.method.networks import Localizer
from bae.method.predictor import Predictor
from bae.scan import ANTERIOR, POSTERIOR, UNKNOWN, Identity, Scan, View
from bae.training import svr

TINY = ["localizer.width=48", "localizer.height=96"]
Made = dict[str, NDArray]  # type: ignore[type-arg]


def _cohort(scans: int = 60, seed: int = 0) -> tuple[NDArray[np.float32], Made]:
    """Two views each, features that follow the age along one direction; some sexes unknown."""
    rng = np.random.default_rng(seed)
    years = np.repeat(rng.uniform(30, 80, scans), 2)
    features = 0.2 * rng.standard_normal((2 * scans, 20))
    features += (years[:, None] - 55) / 10 * np.random.default_rng(9).standard_normal(20)
    known = {
        "male_N": np.repeat(rng.choice([0.0, 1.0, np.nan], scans), 2),
        "posterior_N": codes([ANTERIOR, POSTERIOR] * scans),
        "years_N": years,
        "patients": np.repeat([f"p{i // 2}" for i in range(scans)], 2),
    }
    return features.astype(np.float32), known


def test_arrays_say_what_scikit_learn_says() -> None:
    """Of other scans, whose sexes are known: the same to 1e-6 years."""
    features, known = _cohort()
    found, chosen = svr.learn(features, **known)
    raw = columns(features, known["male_N"], known["posterior_N"])
    fitted = SVR(C=chosen["cost"], gamma=chosen["gamma"], epsilon=svr.EPSILON_YEARS)
    fitted.fit(standard(raw, found.mean_F, found.scale_F).astype(float), known["years_N"])
    asked, other = _cohort(seed=1)
    male = np.nan_to_num(other["male_N"], nan=1.0)
    x = standard(columns(asked, male, other["posterior_N"]), found.mean_F, found.scale_F)
    said = found.predict(asked, male, other["posterior_N"])
    assert said.dtype == np.float64
    assert np.abs(said - fitted.predict(x.astype(float))).max() < 1e-6
    again = Vectors.from_tensors(found.tensors())
    assert np.array_equal(again.predict(asked, male, other["posterior_N"]), said)


def test_a_planted_relation_is_learned() -> None:
    features, known = _cohort()
    found, _ = svr.learn(features, **known)
    assert found.error_years < 3.0
    asked, other = _cohort(seed=1)
    away = found.predict(asked, other["male_N"], other["posterior_N"]) - other["years_N"]
    assert np.abs(away).mean() < 2.5


def test_no_patient_is_on_both_sides() -> None:
    """Nor does it help to have features that are a patient's own."""
    features, known = _cohort()
    seen: list[int] = []
    for rest, out in svr.splits(known["patients"]):
        assert not set(known["patients"][rest]) & set(known["patients"][out])
        seen += out.tolist()
    assert sorted(seen) == list(range(len(features)))
    rng = np.random.default_rng(3)
    own = np.repeat(rng.standard_normal((30, 20)), 4, axis=0).astype(np.float32)
    years = np.repeat(rng.uniform(30, 80, 30), 4)
    blind, _ = svr.learn(own, **{**known, "years_N": years})
    assert blind.error_years > 0.8 * years.std()


def test_a_single_patient_breaks_nothing() -> None:
    features, known = _cohort(2)
    found, _ = svr.learn(features, **known)
    assert np.isfinite(found.predict(features, known["male_N"], known["posterior_N"])).all()


def test_unknown_sex_is_the_mean_of_both_answers() -> None:
    """And a sex that nobody has says nothing."""
    features, known = _cohort()
    found, _ = svr.learn(features, **known)
    n = len(features)
    women, men, unknown = (
        found.predict(features, np.full(n, sex), known["posterior_N"]) for sex in (0, 1, np.nan)
    )
    assert np.abs(women - men).max() > 1e-3
    assert unknown == pytest.approx((women + men) / 2)
    found, _ = svr.learn(features, **{**known, "male_N": np.full(n, np.nan)})
    assert np.isinf(found.scale_F[-2])
    women, men = (found.predict(features, np.full(n, s), known["posterior_N"]) for s in (0.0, 1.0))
    assert np.array_equal(women, men) and np.isfinite(men).all()


def _saved(folder: Path, localizer: bool = True) -> str:
    recipe = recipes.recipe("small_svr", TINY)
    torch.manual_seed(0)
    network = Localizer(recipe.localizer).eval()
    scans = [_scan(number) for number in range(12)]
    views = [view for scan in scans for view in scan.views]
    features, _ = look(network, recipe, views, "cpu")
    known: Made = {
        "male_N": np.repeat([0.0, 1.0], 12),
        "posterior_N": codes([view.name for view in views]),
        "years_N": np.repeat(np.linspace(40, 80, 12), 2),
        "patients": np.repeat([str(n) for n in range(12)], 2),
    }
    card = model.Card(recipe=recipe, parts={})
    if localizer:
        card = model.save_part(str(folder), card, "localizer", network.state_dict(), {})
    found, _ = svr.learn(features, **known)
    model.save_part(str(folder), card, "svr", found.tensors(), {})
    return str(folder)


def _scan(number: int) -> Scan:
    rng = np.random.default_rng(number)
    views = [
        View(name=name, counts=rng.poisson(3.0 + number, (96, 48)).astype(np.uint16))
        for name in (ANTERIOR, POSTERIOR)
    ]
    return Scan(views=tuple(views), identity=Identity(patient="", study="", instance=""), sex="F")


def test_it_comes_back_from_its_folder_and_reads_odd_scans(tmp_path: Path) -> None:
    """One view missing, sex unknown, a view of unknown name."""
    uri = _saved(tmp_path)
    assert set(model.check(uri).parts) == {"localizer", "svr"}
    predictor = Predictor.load(uri)
    scan = _scan(20)
    one, two = scan.views
    whole, alone, nameless, unsexed = predictor.predict(
        [
            scan,
            replace(scan, views=(one,)),
            replace(scan, views=(one, replace(two, name=UNKNOWN))),
            replace(scan, sex=None),
        ]
    )
    assert whole.age_years == pytest.approx(np.mean(whole.view_ages_years))
    assert alone.age_years == pytest.approx(whole.view_ages_years[0])
    assert nameless.view_ages_years[0] == pytest.approx(whole.view_ages_years[0])
    assert np.isfinite(nameless.age_years)
    assert unsexed.flags == ("sex_unknown",) and whole.flags == ()
    assert {each.spread_years for each in (whole, alone, nameless, unsexed)} == {
        model.load_svr(uri, predictor.card).error_years
    }
    assert whole.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert whole.views[0].boxes[0].y1 == 96 and not whole.views[0].heat.size


def test_without_its_localizer_it_is_refused(tmp_path: Path) -> None:
    uri = _saved(tmp_path, localizer=False)
    for refused in (model.check, Predictor.load):
        with pytest.raises(ModelError, match=r"no localizer; run jobs\.train_localizer first"):
            refused(uri)
    with pytest.raises(ModelError, match=r"no svr; run jobs\.train_regressor first"):
        model.load_svr(uri, model.Card(recipe=recipes.recipe("small_svr"), parts={}))
    with pytest.raises(RecipeError, match="localizer's features"):
        recipes.recipe("svr", ["region.parts=whole"])


def test_the_full_size_shares_the_papers_localizer() -> None:
    """So that it need not be trained twice."""
    for name, proposed in (("svr", "paper"), ("small_svr", "small")):
        own, theirs = recipes.recipe(name), recipes.recipe(proposed)
        for section in ("windowing", "localizer", "region", "fit_localizer"):
            assert getattr(own, section) == getattr(theirs, section)
