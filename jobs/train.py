"""Scans table to a whole model in one command, for recipes that know the body's regions."""

import argparse
import sys
from collections.abc import Sequence

from bae import environment, recipes, storage
from bae.pipeline.cluster import monitoring
from jobs import _training, command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "train",
        "Train a model on the scans table and write it to the model folder: recipes best, "
        "regions, small_regions, regional and atlas_nn. The two networks of the paper's method "
        "have two jobs: train_localizer, then train_regressor.",
        "python -m jobs.train --tables tables --model model --recipe best",
    )
    _training.add_flags(parser, "best")
    _training.add_network_flags(parser)

    def job(options: argparse.Namespace) -> None:
        from bae.pipeline.cluster import session
        from bae.training import regional

        environment.check()
        storage.check_writable(options.model)
        recipe = recipes.recipe(options.recipe, options.changes)
        plan = regional.plan(recipe, options.tables, options.model, options.weights, options.most)
        with session.session():
            card = regional.train(
                plan,
                options.workers,
                options.gpus,
                _training.counter("prepared", "the archive"),
                _training.report_epoch,
                _training.counter("scored", "the validation scans"),
            )
        print(f"trained model {card.model_id}, recipe {recipe.name}")
        for name, done in card.parts.items():
            print(f"{name}, in {done.fit['seconds']:.0f} s:")
            print(_training.learned_from(done))
        print(f"written to {options.model}")

    return command.run(parser, monitoring.counted(parser, job, "bae.training.regional"), argv)


if __name__ == "__main__":
    sys.exit(main())
