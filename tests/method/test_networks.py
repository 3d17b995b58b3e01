"""The paper's layers."""

import math

import pytest
import torch
from torch import nn

from bae import recipes
from bae.errors import RecipeError
from bae.method.networks import Localizer, Regressor
from bae.method.trunks import Trunk


def test_paper_localizer_has_the_papers_layers() -> None:
    """ResNet50 with 4 outputs at 300 x 1000: 23,516,228 parameters, 32 x 10 feature map."""
    network = Localizer(recipes.paper().localizer).eval()
    assert sum(p.numel() for p in network.parameters()) == 23_516_228
    with torch.inference_mode():
        scores, features = network(torch.rand(1, 1, 1000, 300))
    assert scores.shape == (1, 4)
    assert features.shape == (1, 2048, 32, 10)


def test_paper_regressor_has_the_papers_layers() -> None:
    """InceptionV3, sex through 32 neurons, two of 1024 with dropout 0.2, one linear output."""
    network = Regressor(recipes.paper().regressor)
    assert network.sex is not None
    assert (network.sex.in_features, network.sex.out_features) == (1, 32)
    kinds = [type(layer) for layer in network.head]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout] * 2 + [nn.Linear]
    linear = [layer for layer in network.head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (2048 + 32, 1024),
        (1024, 1024),
        (1024, 1),
    ]
    assert [layer.p for layer in network.head if isinstance(layer, nn.Dropout)] == [0.2, 0.2]
    # torchvision's InceptionV3 without auxiliary classifier and fc has 21,785,568 parameters
    assert sum(p.numel() for p in network.trunk.parameters()) == 21_785_568


def test_without_sex_the_answer_does_not_depend_on_sex() -> None:
    """Table 1's last column."""
    config = recipes.recipe("small", ["regressor.use_sex=false"]).regressor
    network = Regressor(config).eval()
    crops = torch.rand(2, 1, config.height, config.width)
    with torch.inference_mode():
        female, male = (network(crops, torch.full((2,), s)) for s in (0.0, 1.0))
    torch.testing.assert_close(female, male, rtol=0, atol=0)


def test_unknown_sex_gives_the_mean_of_both_answers() -> None:
    """The stated rule, also beside crops whose sex is known."""
    config = recipes.small().regressor
    torch.manual_seed(1)
    network = Regressor(config).eval()
    crops = torch.rand(3, 1, config.height, config.width)
    with torch.inference_mode():
        female, male = (network(crops, torch.full((3,), s)) for s in (0.0, 1.0))
        mixed = network(crops, torch.tensor([math.nan, 0.0, 1.0]))
    expected = torch.stack([(female[0] + male[0]) / 2, female[1], male[2]])
    torch.testing.assert_close(mixed, expected)
    assert (female - male).abs().max() > 1e-4


def test_first_answers_lie_near_the_cohorts_mean() -> None:
    """The target is standardised inside the network, so it speaks years from the start."""
    network = Regressor(recipes.small().regressor).eval()
    network.mean_years.fill_(58.0)
    with torch.inference_mode():
        years = network(torch.rand(4, 1, 160, 128), torch.zeros(4))
    assert (years - 58).abs().max() < 10


def test_grey_equals_three_equal_channels_of_torchvision() -> None:
    """The trunk is torchvision's network up to the last convolution, normalised its way."""
    import torchvision

    torch.manual_seed(0)
    trunk = Trunk("resnet50").eval()
    whole = torchvision.models.resnet50(weights=None).eval()
    whole.load_state_dict(
        {k.removeprefix("body."): v for k, v in trunk.state_dict().items()}, strict=False
    )
    whole.fc = nn.Identity()
    grey = torch.rand(1, 1, 96, 64)
    normal = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        expected = whole(normal(grey.expand(1, 3, 96, 64)))
        got = trunk(grey).mean(dim=(2, 3))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_unknown_trunk_is_refused_with_the_near_name() -> None:
    """A typo is answered, not guessed."""
    with pytest.raises(RecipeError, match="resnet50"):
        Trunk("resnet5")


def test_ensemble_is_monte_carlo_dropout_of_the_head() -> None:
    """Mean and spread of torch's own dropout over many draws; equal in every call and company."""
    config = recipes.recipe("small", ["regressor.dropout=0.4"]).regressor
    torch.manual_seed(2)
    network = Regressor(config).eval()
    pooled = 20 * torch.rand(3, network.trunk.channels)
    male = torch.tensor([0.0, 1.0, math.nan])
    with torch.inference_mode():
        thinned = network.ensemble(pooled, male)
        again = network.ensemble(pooled[1:], male[1:])
        network.head.train()
        drawn = network.answer(pooled[:2].repeat(2000, 1), male[:2].repeat(2000)).view(2000, 2)
    torch.testing.assert_close(thinned[:, 1:], again)
    assert thinned.shape == (32, 3)
    # 32 members know their mean to spread / sqrt(32) and their spread to an eighth
    assert ((thinned[:, :2].mean(0) - drawn.mean(0)).abs() < 0.7 * drawn.std(0)).all()
    torch.testing.assert_close(thinned[:, :2].std(0), drawn.std(0), rtol=0.5, atol=0)


def test_ensemble_without_dropout_always_gives_the_same_answer() -> None:
    """Every member gives the network's answer."""
    config = recipes.recipe("small", ["regressor.dropout=0"]).regressor
    network = Regressor(config).eval()
    pooled, male = torch.rand(2, network.trunk.channels), torch.tensor([0.0, math.nan])
    with torch.inference_mode():
        members, answer = network.ensemble(pooled, male), network.answer(pooled, male)
    torch.testing.assert_close(members, answer.expand(32, 2))
