"""Table 1's other methods: built at full size, small ones answer, one registry."""

import numpy as np
import pytest
import torch

from bae import recipes
from bae.method import baselines
from bae.method.networks import Regressor
from bae.method.predictor import Predictor, localize, regressor_inputs
from bae.method.trunks import TRUNKS
from bae.recipes import RECIPES
from bae.scan import Identity, Scan, View

# Published sizes without the classifier: torchvision's model pages (143,667,240 less the
# classifier, ...); Keras' page for Xception (22,855,952 trainable less 2,049,000).
PUBLISHED = {
    "vgg19": 20_024_384,
    "resnet50": 23_508_032,
    "xception": 20_806_952,
    "multi_input_vgg16": 14_714_688,
}


@pytest.mark.parametrize("sex", ["", "_without_sex"])
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_each_method_has_the_published_size(name: str, sex: str) -> None:
    """Trunk as published, at 250 x 750, head and sex branch as the proposed method's."""
    config = RECIPES[name + sex]().regressor
    assert (config.width, config.height) == (250, 750)
    with torch.device("meta"):
        network = Regressor(config)
    assert sum(p.numel() for p in network.trunk.parameters()) == PUBLISHED[name]
    views = 2 if name == "multi_input_vgg16" else 1
    inputs = views * TRUNKS[config.trunk].channels + (0 if sex else 32)
    outputs = 121 if views == 2 else 1
    layers = [(inputs, 1024), (1024, 1024), (1024, outputs)] + ([] if sex else [(1, 32)])
    expected = PUBLISHED[name] + sum(a * b + b for a, b in layers)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("name", sorted(n for n in RECIPES if n.startswith("small")))
def test_each_small_variant_answers_in_years(name: str) -> None:
    """One age for each scan, near the cohort's mean before training."""
    recipe = recipes.recipe(name)
    assert recipe.name == name
    network = baselines.build(recipe.regressor).eval()
    config = recipe.regressor
    with torch.inference_mode():
        pictures = torch.rand(3, 2 if config.pair else 1, config.height, config.width)
        years = network(pictures, torch.tensor([0.0, 1.0, float("nan")]))
    assert years.shape == (3,)
    assert (years - 60).abs().max() < 10


def test_every_method_of_table_1_has_both_columns_and_both_sizes() -> None:
    """Five methods of networks, and three named beside them, each with and without sex, full and
    small; one beside the table."""
    networks = {name: build for name, build in RECIPES.items() if build().method == "networks"}
    assert networks.pop("small_pretrained")().regressor.use_sex
    assert len(networks) == 32
    for name, build in networks.items():
        assert build().regressor.use_sex is not name.endswith("_without_sex")


def _scan(*names: str) -> Scan:
    views = tuple(
        View(name=name, counts=np.full((64, 24), 10 * (i + 1), np.uint16))
        for i, name in enumerate(names)
    )
    return Scan(views=views, identity=Identity(patient="p", study="s", instance="i"), sex="F")


def test_both_views_enter_together_anterior_first() -> None:
    """A missing view is black; a view without a name takes the free place."""
    recipe = recipes.recipe("small_multi_input_vgg16", ["windowing.power=1"])

    def places(*names: str) -> list[bool]:
        found = localize(None, recipe, _scan(*names).views, "cpu")
        (both,) = regressor_inputs(recipe, found)
        return [bool(view.any()) for view in both]

    assert places("posterior", "anterior") == [True, True]
    assert places("posterior") == [False, True]
    assert places("anterior", "unknown") == [True, True]
    assert places("unknown") == [True, False]


@pytest.mark.parametrize("name", ["small_vgg19", "small_multi_input_vgg16"])
def test_a_model_without_localizer_predicts(name: str) -> None:
    """The region is the whole view; there is no heat map, and the age gives the group."""
    from bae.method import model

    recipe = recipes.recipe(name)
    card = model.Card(recipe=recipe, parts={"regressor": model.Part(sha256="0")})
    predictor = Predictor(None, Regressor(recipe.regressor), card)
    (found,) = predictor.predict([_scan("anterior", "posterior")])
    assert 50 < found.age_years < 70
    assert found.group == (1 if found.age_years < 60 else 2)
    assert found.probabilities.size == 0
    assert [(b.x0, b.y0, b.x1, b.y1) for v in found.views for b in v.boxes] == [(0, 0, 24, 64)] * 2
    assert len(found.view_ages_years) == (1 if recipe.regressor.pair else 2)
