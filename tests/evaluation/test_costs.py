"""What a model costs, counted a second way."""

from pathlib import Path

import pytest
import torch
from torch import nn

from bae import recipes
from bae.evaluation import costs
from bae.method import baselines, model
from bae.method.predictor import Predictor
from bae.phantom import scan as phantom_scan
from bae.scan import Identity, Scan

SETTINGS = ["regressor.width=48", "regressor.height=64", "regressor.hidden_neurons=16"]


def test_arithmetic_and_numbers_are_those_of_every_layer(tmp_path: Path) -> None:
    """Two operations for each weight of a convolution at each place, and of a linear layer."""
    recipe = recipes.recipe("small_vgg19", SETTINGS)
    torch.manual_seed(0)
    network = baselines.build(recipe.regressor)
    card = model.Card(recipe=recipe, parts={})
    model.save_part(
        str(tmp_path), card, "regressor", network.state_dict(), {"fit": {"seconds": 90.0}}
    )
    one = phantom_scan.make(1)
    who = Identity(patient="1", study="1", instance="1")
    scan = Scan(views=one.views, identity=who, sex=one.sex)
    found = costs.costs(str(tmp_path), [scan])

    counted: list[int] = []

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        places = out[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        counted.append(2 * len(out) * places * layer.weight.numel())

    plain = Predictor.load(str(tmp_path))
    plain.fast_regressor = plain.regressor
    for layer in plain.regressor.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    plain.predict([scan])
    # the thinned copies of the head share their layers, and call some of them by hand
    assert found["gflop"] == pytest.approx(sum(counted) / 1e9, rel=0.02)
    assert found["numbers"] == sum(t.numel() for t in network.state_dict().values())
    assert found["training_minutes"] == 1.5 and found["cpu_ms"] > 0
