"""Scans table to a whole model in one command, for recipes without networks."""

import argparse
import sys
from collections.abc import Sequence

from bae import environment, recipes, storage
from bae.errors import after_writing
from bae.pipeline import monitoring, session
from bae.training import regional
from jobs import _training, command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "train",
        "Train a model of one step on the scans table and write it to the model folder. The two "
        "networks of the paper's method have two jobs: train_localizer, then train_regressor.",
        "python -m jobs.train --tables tables --model model --recipe regional",
    )
    _training.add_flags(parser, "regional")

    def job(options: argparse.Namespace) -> None:
        environment.check()
        storage.check_writable(options.model)
        recipe = recipes.recipe(options.recipe, options.changes)
        plan = regional.plan(recipe, options.tables, options.model)
        with session.session(), after_writing():
            card = regional.train(
                plan,
                _training.counter("prepared", "the archive"),
                _training.counter("scored", "the validation scans"),
            )
        done = card.parts["regional"]
        print(f"trained model {card.model_id}, recipe {recipe.name}")
        print(_training.learned_from(done))
        print(f"  in {done.fit['seconds']:.0f} s; written to {options.model}")

    return command.run(parser, monitoring.counted(parser, job), argv)


if __name__ == "__main__":
    sys.exit(main())
