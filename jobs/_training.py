"""What ``train_localizer`` and ``train_regressor`` share: they differ in the network."""

import argparse
from collections.abc import Callable, Sequence

from bae import environment, recipes, storage
from bae.method import card
from bae.pipeline.cluster import monitoring
from bae.pipeline.step import PartDone
from jobs import command


def main(name: str, argv: Sequence[str] | None) -> int:
    """Train the network of that name: ``localizer`` or ``regressor``."""
    parser = command.Parser(
        f"train_{name}",
        f"Train the {name} on the scans table and write it to the model folder.",
        f"python -m jobs.train_{name} --tables tables --model model --recipe small",
    )
    add_flags(parser, "paper")
    add_network_flags(parser)

    def job(options: argparse.Namespace) -> None:
        from bae.pipeline.cluster import session
        from bae.training import run, tasks

        environment.check()
        storage.check_writable(options.model)
        recipe = recipes.recipe(options.recipe, options.changes)
        if recipe.method == "svr" and name == "regressor":
            _support_vectors(recipe, options)
            return
        task = {"localizer": tasks.localizer, "regressor": tasks.regressor}[name](recipe)
        plan = run.plan(task, options.tables, options.model, options.weights, most=options.most)
        with session.session():
            trained = run.train(
                plan,
                options.workers,
                options.gpus,
                counter("prepared", "the archive"),
                report_epoch,
                counter("scored", "the validation scans"),
            )
        done = trained.parts[name]
        print(f"trained the {name} of model {trained.model_id}, recipe {recipe.name}")
        print(learned_from(done))
        print(
            f"  {done.fit['epochs']} epochs in {done.fit['seconds']:.0f} s with "
            f"{done.fit['workers']} worker(s); written to {options.model}"
        )

    return command.run(parser, monitoring.counted(parser, job, "bae.training.run"), argv)


def _support_vectors(recipe: recipes.Recipe, options: argparse.Namespace) -> None:
    """Train what stands in a regressor's place."""
    from bae.pipeline.cluster import session
    from bae.training import svr

    plan = svr.plan(recipe, options.tables, options.model, options.most)
    with session.session():
        trained = svr.train(
            plan, counter("prepared", "the archive"), counter("scored", "the validation scans")
        )
    print(f"trained the support vectors of model {trained.model_id}, recipe {recipe.name}")
    print(learned_from(trained.parts["svr"]))
    print(f"  in {trained.parts['svr'].fit['seconds']:.0f} s; written to {options.model}")


def add_flags(parser: argparse.ArgumentParser, recipe: str) -> None:
    """Add what every training needs: tables, model folder, and a recipe with its changes."""
    parser.add_argument("--tables", required=True, metavar="URI", help="root of the tables")
    parser.add_argument("--model", required=True, metavar="URI", help="model folder to write")
    parser.add_argument(
        "--recipe", default=recipe, metavar="NAME", help=f"one of {', '.join(recipes.RECIPES)}"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        dest="changes",
        help="change one field of the recipe; may be repeated",
    )
    parser.add_argument(
        "--most",
        type=_positive,
        metavar="N",
        help="learn from at most so many scans, of patients drawn by their pseudonyms",
    )


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Add what a network's training needs beside."""
    parser.add_argument(
        "--weights", metavar="URI", help="folder with files of ImageNet weights, or none"
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N|MIN:MAX",
        help="training processes (default 1); MIN:MAX takes as many as the cluster has",
    )
    parser.add_argument(
        "--gpus",
        type=int,
        choices=(0, 1),
        default=None,
        help="GPUs of each training process (default: 1 where the cluster has them)",
    )


def learned_from(part: card.Part) -> str:
    """Return lines that say on how many scans a part learned, and how well."""
    lines = [
        f"  scans      {part.data['train']['scans']} to train on, "
        f"{part.data['validation']['scans']} to validate"
    ]
    lines += [
        f"  {metric.replace('_', ' '):<26} {value:.3f}" for metric, value in part.metrics.items()
    ]
    return "\n".join(lines)


def counter(verb: str, what: str) -> Callable[[int, PartDone], None]:
    """Return what says how many parts are done."""
    done_so_far: list[int] = []

    def report(parts: int, done: PartDone) -> None:
        if len(done_so_far) >= parts:
            done_so_far.clear()  # the next of several rounds
        done_so_far.append(done.number)
        command.say(f"{verb} {len(done_so_far)} of {parts} parts of {what}")

    return report


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return int(text)


def _workers(text: str) -> int | tuple[int, int]:
    numbers = [int(word) for word in text.split(":")]
    if len(numbers) > 2 or numbers[0] < 1 or numbers[-1] < numbers[0]:
        raise argparse.ArgumentTypeError(f"{text!r}: expected N or MIN:MAX, at least 1")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def report_epoch(metrics: dict[str, float]) -> None:
    """Say how an epoch went."""
    score = (
        f"mean absolute error {metrics['mae_years']:.2f} years"
        if "mae_years" in metrics
        else f"accuracy {metrics['accuracy']:.2f}"
    )
    left = metrics["seconds"] * (metrics["epochs"] - metrics["epoch"])
    command.say(
        f"epoch {metrics['epoch']:.0f} of {metrics['epochs']:.0f}: "
        f"training loss {metrics['train_loss']:.3f}, validation {score}, "
        f"{metrics['train_views'] / metrics['seconds']:.0f} views per second, {left:.0f} s left"
    )
