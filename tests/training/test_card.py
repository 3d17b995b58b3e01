"""What a model's page says of it."""

from __future__ import annotations

import pytest

from bae import recipes
from bae.evaluation import scorecard
from bae.method import model
from bae.training.card import markdown
from tests.fakes.made_outcomes import EDGES, outcomes


@pytest.mark.parametrize(
    ("recipe", "chose"), [("small", True), ("best", False), ("regional", False)]
)
def test_it_says_whether_the_validation_patients_chose_anything(recipe: str, chose: bool) -> None:
    """Where the last epoch is kept, or there is none, they did not."""
    told = scorecard.summary(outcomes(24), EDGES, 60.0)
    parts = {"regional": model.Part(sha256="0" * 64), "regions": model.Part(sha256="1" * 64)}
    page = markdown(model.Card(recipe=recipes.recipe(recipe), parts=parts, validation=told))
    assert ("that chose the epoch" in page) == chose
    assert "## The linear model" in page and "## The network of several regions" in page
