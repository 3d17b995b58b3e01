"""Sanity checks of the region: they must tell a right region from a wrong one."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bae import recipes
from bae.evaluation.regions import checks, hiding
from bae.method import model
from bae.method.networks import Localizer, Regressor
from bae.method.predictor import Predictor
from bae.scan import Identity, Scan, View

RECIPE = recipes.small()


def _predictor(localizer: nn.Module | None = None, seed: int = 0) -> Predictor:
    torch.manual_seed(seed)
    card = model.Card(recipe=RECIPE, parts={"regressor": model.Part(sha256="")})
    predictor = Predictor(Localizer(RECIPE.localizer), Regressor(RECIPE.regressor), card)
    if localizer is not None:  # a stand-in has no trunk to make fast; the checks need none
        predictor.localizer = localizer.eval()  # type: ignore[assignment]
    return predictor


def _view(seed: int, hot: tuple[int, int] | None = None) -> View:
    """A body of even counts on 256 x 64 pixels, with or without one hot spot."""
    rate = np.zeros((256, 64))
    rate[20:240, 14:50] = 40
    if hot:
        rate[hot[0] - 6 : hot[0] + 6, hot[1] - 3 : hot[1] + 3] = 160
    counts = np.random.default_rng(seed).poisson(rate).astype(np.uint16)
    return View(name="anterior", counts=counts)


class Spot(nn.Module):
    """A localizer that scores the brightest cell; its map shows it, or the cell far below.

    Args:
        shows_it: whether the map tells the truth about what decides.
    """

    def __init__(self, shows_it: bool) -> None:
        super().__init__()
        self.shows_it = shows_it
        self.head = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))

    def forward(self, grey_N1HW: Tensor) -> tuple[Tensor, Tensor]:
        cells_N1VU = nn.functional.adaptive_avg_pool2d(grey_N1HW, (20, 6)) ** 4
        score_N = cells_N1VU.amax(dim=(1, 2, 3)) * 20
        shown = cells_N1VU if self.shows_it else cells_N1VU.roll(9, dims=2)
        return torch.stack([score_N, -score_N], dim=1), shown


def test_layers_become_random_from_the_head_to_the_input() -> None:
    """Each step changes its own layer and leaves the layers below as trained."""
    trained = _predictor().localizer
    assert trained is not None
    before = copy.deepcopy(trained.state_dict())
    layers = [name for name, _ in checks.randomised(trained, RECIPE, seed=1)]
    assert layers[0] == "head"
    assert layers[1:] == ["layer4", "layer3", "layer2", "layer1", "bn1", "conv1"]
    for step, (_, spoilt) in enumerate(checks.randomised(trained, RECIPE, seed=1)):
        for below in layers[step + 1 :]:
            path = f"trunk.body.{below}."
            for key, tensor in spoilt.state_dict().items():
                if key.startswith(path):
                    assert torch.equal(tensor, before[key]), (layers[step], key)
        weight = "head.weight" if step == 0 else f"trunk.body.{layers[step]}"
        changed = [k for k, t in spoilt.state_dict().items() if not torch.equal(t, before[k])]
        if layers[step] != "bn1":  # an untrained batch norm is like any other
            assert any(key.startswith(weight) for key in changed)
    assert all(torch.equal(t, before[k]) for k, t in trained.state_dict().items())


@pytest.mark.slow
def test_a_network_that_is_random_already_stays_as_it_is() -> None:
    """Made random by the seed it was made with, nothing changes: correlation 1, the same box."""
    with torch.random.fork_rng():
        torch.manual_seed(RECIPE.fit_localizer.seed + 1 + 3)
        own = Localizer(RECIPE.localizer)
    same = checks.randomisation(_predictor(own), [_view(0), _view(1, (60, 30))], seed=3)
    for row in same:
        if row.layer != "none":
            assert (row.rank_correlation, row.overlap) == (pytest.approx(1.0), 1.0)
    other = checks.randomisation(_predictor(own), [_view(0), _view(1, (60, 30))], seed=4)
    assert min(row.rank_correlation for row in other) < 0.9


def test_rank_correlation_is_that_of_pandas() -> None:
    """Another implementation, ties included; a map without contrast counts as 0."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 20, (2, 1, 20, 6)).astype(np.uint8)
    (row,) = checks._similarities("x", ours, theirs, [(256, 64)], RECIPE)
    frame = pd.DataFrame({"ours": ours.ravel(), "theirs": theirs.ravel()})
    expected = frame.corr(method="spearman").loc["ours", "theirs"]
    assert row.rank_correlation == pytest.approx(expected)
    (flat,) = checks._similarities("x", ours, np.zeros_like(ours), [(256, 64)], RECIPE)
    assert flat.rank_correlation == 0.0


def _scan(view: View) -> Scan:
    return Scan(views=(view,), identity=Identity(patient="", study="", instance=""), sex="F")


def test_hiding_what_decides_hurts_more_than_hiding_something_else() -> None:
    """A localizer that shows what it uses passes, one that shows another place fails."""
    scan = _scan(_view(0, hot=(60, 30)))
    honest = hiding.occlusion(_predictor(Spot(True)), scan)
    lying = hiding.occlusion(_predictor(Spot(False)), scan)
    assert honest is not None
    assert lying is not None
    assert honest.views == lying.views == 1
    assert honest.score_drop is not None
    assert honest.control_score_drop is not None
    assert lying.score_drop is not None
    assert honest.score_drop > 5 * abs(honest.control_score_drop)
    assert lying.score_drop < 0.1 * honest.score_drop


def test_a_region_as_large_as_the_body_has_no_other_place() -> None:
    """No comparison is made up."""

    class Everywhere(Spot):
        def forward(self, grey_N1HW: Tensor) -> tuple[Tensor, Tensor]:
            scores, features = super().forward(grey_N1HW)
            ramp = torch.linspace(0.7, 1, features.shape[2])[:, None].expand_as(features)
            return scores, torch.where(ramp > 0.71, ramp, 0)

    assert hiding.occlusion(_predictor(Everywhere(True)), _scan(_view(0))) is None


def test_hidden_box_has_its_own_mean_and_nothing_else_changes() -> None:
    """Grey values outside the box, and the sum inside, stay."""
    from bae.scan import Box

    grey = torch.rand(40, 20)
    hidden = hiding.hide(grey, [Box(5, 10, 15, 30, 1.0)])
    inside = torch.zeros(40, 20, dtype=torch.bool)
    inside[10:30, 5:15] = True
    assert torch.equal(hidden[~inside], grey[~inside])
    assert len(hidden[inside].unique()) == 1
    assert float(hidden[inside].mean()) == pytest.approx(float(grey[inside].mean()), rel=1e-5)
    assert torch.equal(hiding.hide(grey, []), grey)


@torch.inference_mode()
def test_regions_are_those_of_the_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks look at the very boxes, groups and ages that ``predict`` gives."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    predictor = _predictor()
    scan = _scan(_view(1, (60, 30)))
    (said,) = predictor.predict([scan])
    greys = [checks.grey(predictor, view) for view in scan.views]
    found, log_NK = hiding._localized(predictor, scan.views, greys)
    assert found[0].boxes == said.views[0].boxes
    assert found[0].group == said.views[0].group
    np.testing.assert_allclose(log_NK[0].exp(), said.views[0].probabilities, rtol=1e-4)
    assert hiding._age(predictor, scan, found) == pytest.approx(said.age_years, abs=1e-3)
