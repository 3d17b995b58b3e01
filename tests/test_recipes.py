"""Recipes and ``--set``."""

import pytest

from bae import recipes
from bae.errors import RecipeError


def test_paper_recipe_is_the_paper() -> None:
    """Section III and IV's numbers."""
    paper = recipes.paper()
    assert (paper.localizer.trunk, paper.localizer.width, paper.localizer.height) == (
        "resnet50",
        300,
        1000,
    )
    assert paper.localizer.groups == 4
    assert paper.region.gamma == 150
    assert paper.regressor.trunk == "inception_v3"
    assert (paper.regressor.sex_neurons, paper.regressor.hidden_neurons) == (32, 1024)
    assert paper.regressor.dropout == 0.2
    for fit in (paper.fit_localizer, paper.fit_regressor):
        assert (fit.batch_size, fit.learning_rate, fit.schedule) == (32, 1e-4, "constant")
        assert (fit.average_decay, fit.warmup_epochs) == (0, 0)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_recipe_survives_its_card(name: str) -> None:
    """JSON and back gives the same recipe, whose name is its function's."""
    made = recipes.recipe(name)
    assert recipes.from_json(recipes.to_json(made)) == made
    assert made.name == name


def test_set_changes_one_field_by_its_type() -> None:
    """Numbers, words, yes or no, lists."""
    made = recipes.recipe(
        "small",
        [
            "region.gamma=120.5",
            "localizer.width=64",
            "regressor.use_sex=false",
            "localizer.group_edges_years=40,55,80",
            "fit_regressor.schedule=constant",
        ],
    )
    assert made.region.gamma == 120.5
    assert made.localizer.width == 64
    assert made.regressor.use_sex is False
    assert made.localizer.group_edges_years == (40.0, 55.0, 80.0)
    assert made.fit_regressor.schedule == "constant"
    assert made.fit_localizer.schedule == "cosine"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("papr", "region.gamma=1", "did you mean 'paper'"),
        ("small", "region.gama=1", "did you mean 'gamma'"),
        ("small", "regio.gamma=1", "did you mean 'region'"),
        ("small", "localizer.width=wide", "expected int"),
        ("small", "regressor.use_sex=maybe", "expected bool"),
        ("small", "region.gamma=300", "must lie in"),
        ("small", "gamma", "expected section.field=value"),
        ("small", "name.x=1", "no section"),
        ("small", "localizer.group_edges_years=80,40,60", "rising"),
    ],
)
def test_wrong_change_gets_one_sentence(name: str, change: str, words: str) -> None:
    """Each says what was found and what was expected."""
    with pytest.raises(RecipeError, match=words) as caught:
        recipes.recipe(name, [change])
    assert "\n" not in str(caught.value)


def test_card_with_unknown_field_is_refused() -> None:
    """A card from a newer version is not half understood."""
    values = recipes.to_json(recipes.small())
    values["region"]["delta"] = 3
    with pytest.raises(RecipeError, match="delta"):
        recipes.from_json(values)


def test_small_cohorts_get_more_passes() -> None:
    """So many steps at least; large cohorts keep their epochs."""
    how = recipes.Fit(epochs=4, batch_size=10, least_steps=30)
    assert how.for_samples(95).epochs == 4  # ten steps each
    assert how.for_samples(50).epochs == 6
    assert how.for_samples(1).epochs == 30
    assert recipes.paper().fit_localizer.for_samples(1) == recipes.paper().fit_localizer


def test_the_small_pretrained_network_starts_from_weights_that_the_index_has() -> None:
    """ImageNet's by default, the whole view, whole cells of a map with stride 32."""
    made = recipes.small_pretrained()
    assert (made.regressor.trunk, made.regressor.weights) == ("efficientnet_lite0", "imagenet")
    assert (made.region.parts, made.regressor.width % 32, made.regressor.height % 32) == (
        "whole",
        0,
        0,
    )
