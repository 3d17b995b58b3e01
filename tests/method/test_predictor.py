"""The whole method without Ray."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bae import recipes
from bae.method import model
from bae.method.calibration import Calibration
from bae.method.networks import Localizer, Regressor
from bae.method.predictor import Predictor
from bae.scan import Identity, Scan, View


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A small model with random weights and a known validation error."""
    torch.manual_seed(0)
    recipe = recipes.small()
    parts = {
        "localizer": model.Part(sha256=""),
        "regressor": model.Part(sha256="", metrics={"validation_error_90_years": 7.0}),
    }
    card = model.Card(recipe=recipe, parts=parts)
    return Predictor(Localizer(recipe.localizer), Regressor(recipe.regressor), card)


def _view(name: str, seed: int, size: tuple[int, int] = (256, 64)) -> View:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    rate = 30 * np.exp(-(((columns - size[1] / 2) / (size[1] / 5)) ** 2)) * (rows > size[0] / 9)
    return View(name=name, counts=rng.poisson(rate).astype(np.uint16))


def _scan(*views: View, sex: str | None = "F") -> Scan:
    return Scan(views=views, identity=Identity(patient="p", study="", instance="i"), sex=sex)


def test_scans_age_is_the_mean_of_its_views(predictor: Predictor) -> None:
    """Each view by itself gives the ages whose mean the scan gets."""
    front, back = _view("anterior", 1), _view("posterior", 2)
    together, alone_front, alone_back = predictor.predict(
        [_scan(front, back), _scan(front), _scan(back)]
    )
    assert together.view_ages_years == pytest.approx(
        (alone_front.age_years, alone_back.age_years), abs=0.2
    )
    assert together.age_years == pytest.approx(np.mean(together.view_ages_years))


def test_recipe_can_ask_for_one_view(predictor: Predictor) -> None:
    """``region.views=posterior`` scores the posterior view; a scan without one is scored as is."""
    recipe = recipes.recipe("small", ["region.views=posterior"])
    card = model.Card(recipe=recipe, parts=predictor.card.parts)
    one = Predictor(predictor.localizer, predictor.regressor, card)
    both, front_only = one.predict(
        [_scan(_view("anterior", 1), _view("posterior", 2)), _scan(_view("anterior", 1))]
    )
    assert [view.view for view in both.views] == ["posterior"]
    assert [view.view for view in front_only.views] == ["anterior"]


def test_interval_is_the_validation_error_either_way(predictor: Predictor) -> None:
    """The card's 90 % error around the prediction."""
    (found,) = predictor.predict([_scan(_view("anterior", 1))])
    assert found.low_years == pytest.approx(found.age_years - 7)
    assert found.high_years == pytest.approx(found.age_years + 7)


def test_interval_of_a_calibrated_model_follows_the_ensemble(predictor: Predictor) -> None:
    """Half width = factor x (spread + floor); a scan's spread does not depend on its company."""
    calibration = Calibration(
        patients=99,
        scans=99,
        factor=1.5,
        floor_years=2.0,
        temperature=2.0,
        bias_slope=1.0,
        bias_intercept_years=0.0,
    )
    card = replace(predictor.card, calibration=calibration)
    calibrated = Predictor(predictor.localizer, predictor.regressor, card)
    scans = [_scan(_view("anterior", seed), sex=sex) for seed, sex in ((1, "F"), (2, None))]
    found, other = calibrated.predict(scans)
    (plain,) = predictor.predict(scans[:1])
    assert found.spread_years > 0
    assert found.spread_years == pytest.approx(plain.spread_years, rel=1e-3)
    assert found.spread_years != pytest.approx(other.spread_years, rel=1e-3)
    assert found.high_years == pytest.approx(found.age_years + 1.5 * (found.spread_years + 2.0))
    powers = plain.probabilities.astype(float) ** 0.5
    np.testing.assert_allclose(found.probabilities, powers / powers.sum(), atol=1e-3)


def test_scans_of_different_sizes_share_a_batch(predictor: Predictor) -> None:
    """Boxes are in each scan's own pixels."""
    sizes = [(256, 64), (3000, 900), (301, 77)]
    found = predictor.predict([_scan(_view("anterior", 1, size)) for size in sizes])
    for size, prediction in zip(sizes, found, strict=True):
        (view,) = prediction.views
        for box in view.boxes:
            assert 0 <= box.x0 < box.x1 <= size[1]
            assert 0 <= box.y0 < box.y1 <= size[0]
        first = view.boxes[0]
        assert view.crop().shape == (first.y1 - first.y0, first.x1 - first.x0)


def test_unknown_sex_is_flagged_and_between_both_answers(predictor: Predictor) -> None:
    """The stated rule: the mean of both."""
    view = _view("anterior", 1)
    female, male, unknown = predictor.predict([_scan(view, sex=sex) for sex in ("F", "M", None)])
    assert unknown.flags == ("sex_unknown",)
    assert not female.flags
    assert unknown.age_years == pytest.approx((female.age_years + male.age_years) / 2, abs=1e-3)


def test_picture_without_contrast_is_flagged_not_fatal(predictor: Predictor) -> None:
    """All zero counts: every number stays finite."""
    blank = View(name="anterior", counts=np.zeros((64, 32), np.uint16))
    (found,) = predictor.predict([_scan(blank)])
    assert np.isfinite(found.age_years)
    assert found.views[0].boxes


def test_mixed_precision_stays_near_float32(predictor: Predictor) -> None:
    """bf16 moves the age of an untrained network by less than a tenth of a year."""
    scans = [_scan(_view("anterior", seed)) for seed in range(6)]
    fast, slow = (
        [p.age_years for p in _again(predictor, precision).predict(scans)]
        for precision in ("bfloat16", "float32")
    )
    np.testing.assert_allclose(fast, slow, atol=0.1)


def _again(one: Predictor, precision: str) -> Predictor:
    return Predictor(one.localizer, one.regressor, one.card, precision=precision)


def test_no_scans_give_no_predictions(predictor: Predictor) -> None:
    """An empty batch is not an error."""
    assert predictor.predict([]) == []


@pytest.mark.slow
def test_paper_recipe_runs_at_full_size_on_the_real_scan() -> None:
    """300 x 1000 in, a 32 x 10 heat map out, a box inside the stored scan, a finite age."""
    from pathlib import Path

    from pydicom.data import get_testdata_file

    from bae.archive.dicom import decode

    path = get_testdata_file("JPEG-LL.dcm", download=False)
    assert path is not None
    scan = decode.decode(Path(str(path)).read_bytes())
    torch.manual_seed(0)
    recipe = recipes.paper()
    card = model.Card(recipe=recipe, parts={"regressor": model.Part(sha256="")})
    full = Predictor(Localizer(recipe.localizer), Regressor(recipe.regressor), card)
    (found,) = full.predict([scan])
    (view,) = found.views
    assert view.heat.shape == (32, 10)
    assert (view.heat.min(), view.heat.max()) == (0, 255)
    box = view.boxes[0]
    assert 0 <= box.x0 < box.x1 <= 256
    assert 0 <= box.y0 < box.y1 <= 1024
    assert np.isfinite(found.age_years)
    assert found.low_years is None, "no validation error in the card, no interval"
