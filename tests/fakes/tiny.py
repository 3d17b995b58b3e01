"""Models for tests: one so small that it trains in seconds, and any with random weights."""

from pathlib import Path

from bae.method import model
from bae.recipes import Recipe

SETTINGS = [
    "localizer.width=48",
    "localizer.height=96",
    "regressor.trunk=small_vgg16",
    "regressor.width=48",
    "regressor.height=64",
    "fit_localizer.epochs=1",
    "fit_regressor.epochs=1",
]
FLAGS = ["--recipe", "small", *(word for setting in SETTINGS for word in ("--set", setting))]


def write_model(folder: str | Path, recipe: Recipe) -> model.Card:
    """Write a model of a recipe with random weights, the same ones each time."""
    import torch

    from bae.method.networks import Localizer, Regressor

    torch.manual_seed(0)
    card = model.Card(recipe=recipe, parts={})
    card = model.save_part(
        str(folder), card, "localizer", Localizer(recipe.localizer).state_dict(), {}
    )
    return model.save_part(
        str(folder), card, "regressor", Regressor(recipe.regressor).state_dict(), {}
    )
