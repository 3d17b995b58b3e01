"""Train recipes one after the other, each once: what ``worlds`` and ``table_one`` share."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence

from bae import recipes, storage
from bae.errors import RunError
from bae.method import card
from jobs import train, train_localizer, train_regressor

DONE = "trained"
"""Empty file in the folder of a model that is whole."""


def step(main: Callable[[Sequence[str]], int], *flags: str) -> None:
    """Run one job as its command would.

    Raises:
        RunError: it failed.
    """
    print(f"\n$ {main.__module__} {' '.join(flags)}", flush=True)
    if main(list(flags)) != 0:
        raise RunError(f"{main.__module__} failed; the same command goes on after it")


def trained(name: str, tables: str, home: str, folder: str, most: int | None = None) -> str:
    """Return the model folder of a recipe, which is trained first where that was not done.

    Recipes with the same localizer share one, which is trained once.

    Args:
        name: of the recipe.
        home: where model folders lie.
        folder: the model's, inside it.
        most: scans to learn from at most.
    """
    uri, recipe = storage.join(home, folder), recipes.recipe(name)
    if _done(uri):
        return uri
    flags = ["--tables", tables, "--recipe", name]
    flags += [] if most is None else ["--most", str(most)]
    if recipe.in_two_steps and not recipe.region.whole:
        shared = storage.join(home, f"localizer-{_digest(recipe, most)}")
        if not _done(shared):
            step(train_localizer.main, *flags, "--model", shared)
            _mark(shared)
        if not storage.exists(storage.join(uri, card.CARD)):
            from bae.evaluation import trained_on
            from bae.method import model

            trained_on.copy(shared, uri, "localizer")
            model.copy(shared, uri, model.load_card(shared))
    last = train_regressor.main if recipe.in_two_steps else train.main
    step(last, *flags, "--model", uri)
    _mark(uri)
    return uri


def _digest(recipe: recipes.Recipe, most: int | None) -> str:
    sections = (recipe.windowing, recipe.localizer, recipe.region, recipe.fit_localizer)
    state = [[dataclasses.asdict(section) for section in sections], most]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:8]


def _done(uri: str) -> bool:
    return storage.exists(storage.join(uri, DONE))


def _mark(uri: str) -> None:
    storage.write_bytes(storage.join(uri, DONE), b"")
