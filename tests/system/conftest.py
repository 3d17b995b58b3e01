"""Fixtures of tests that run whole jobs."""

from pathlib import Path

import pytest

from bae import recipes
from tests.fakes import tiny
from tests.fakes.place import Place


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both networks with random weights."""
    folder = tmp_path_factory.mktemp("model")
    changes = ["localizer.width=48", "localizer.height=96"]
    changes += ["regressor.width=48", "regressor.height=64"]
    tiny.write_model(folder, recipes.recipe("small", changes))
    return folder


@pytest.fixture
def place(
    tmp_path: Path, local_ray: None, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> Place:
    """An empty archive and no tables."""
    made = Place(tmp_path, capsys)
    made.model = str(tiny_model)
    return made
