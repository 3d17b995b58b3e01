"""Train one network of a model: scans table in, weights and card out.

The steps both training jobs share; ``loop`` knows how to train, this knows on what.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from bae import recipes, storage
from bae.errors import ModelError, after_writing
from bae.evaluation import metrics, plots, scorecard, trained_on
from bae.method import model
from bae.method.regional.attention import Attention
from bae.method.trunks import weights
from bae.pipeline import kept, outcomes
from bae.pipeline.cluster import resources
from bae.pipeline.step import OnPart, Reading
from bae.training import loop, samples, stack, trackers
from bae.training.card import learning_curve, markdown
from bae.training.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train, with everything that can be checked before Ray starts.

    Attributes:
        task: which network of which recipe.
        model_uri: the model folder; it holds the part that the task needs.
        weights_uri: see ``bae.method.trunks.weights.imagenet``.
        card: the card to extend: empty, or with the part that the task needs.
        imagenet: what the trunk starts from, None for a random start.
        scans: rows of the scans table for ``train`` and ``validation``.
        linear: scan_id to what a linear model says that did not see the patient, where the
            network reads that model's squares.
    """

    task: Task
    tables_uri: str
    model_uri: str
    weights_uri: str | None
    card: model.Card
    imagenet: dict[str, torch.Tensor] | None
    scans: dict[str, pa.Table]
    linear: Mapping[str, float] = field(default_factory=dict)


def plan(
    task: Task,
    tables_uri: str,
    model_uri: str,
    weights_uri: str | None,
    most: int | None = None,
) -> Plan:
    """Check what is asked for and gather what it needs; writes nothing.

    Args:
        most: scans to learn from at most.

    Raises:
        UseError: no scans to train on, no localizer to crop with, or one of another
            recipe, or ImageNet weights that cannot be had.
    """
    card = _card(task, model_uri)
    imagenet = weights.imagenet(task.section.trunk, task.section.weights, weights_uri)
    scans = {s: kept.training_scans(tables_uri, task.recipe, s) for s in ("train", "validation")}
    scans["train"] = kept.at_most(scans["train"], most)
    return Plan(
        task=task,
        tables_uri=tables_uri,
        model_uri=model_uri,
        weights_uri=weights_uri,
        card=card,
        imagenet=imagenet,
        scans=scans,
    )


def _card(task: Task, model_uri: str) -> model.Card:
    if not task.needs:
        return model.Card(recipe=task.recipe, parts={})
    return with_localizer(task.recipe, model_uri)


def with_localizer(recipe: recipes.Recipe, model_uri: str) -> model.Card:
    """Return a card of the recipe with the localizer of a model folder, and nothing else.

    Raises:
        ModelError: there is no localizer, or one of another recipe.
    """
    card = model.load_card(model_uri)
    model.load_localizer(model_uri, card)  # hash checked before hours of work
    for section in ("windowing", "localizer", "region"):
        if getattr(card.recipe, section) != getattr(recipe, section):
            raise ModelError(
                f"the localizer in {model_uri} was trained with another "
                f"{section} section (recipe {card.recipe.name}); train both with the same"
            )
    return model.Card(recipe=recipe, parts={"localizer": card.parts["localizer"]})


def train(
    planned: Plan,
    workers: int | tuple[int, int],
    gpus: int | None,
    on_samples: OnPart,
    on_epoch: Callable[[dict[str, float]], None],
    on_scored: OnPart,
) -> model.Card:
    """Prepare samples, train, calibrate a regressor, and write weights and card.

    Args:
        workers: training processes, a number or the least and the most (elastic).
        gpus: GPUs of each worker, 0 or 1; None: 1 where the cluster has enough.

    Raises:
        UseError: the cluster cannot give what is asked for; nothing was written.
        RunError: training failed; the same call goes on from the last checkpoint.
    """
    use_gpu = resources.gpus_for_training(workers, gpus)
    with after_writing():
        return _train(planned, workers, use_gpu, on_samples, on_epoch, on_scored)


def _train(
    planned: Plan,
    workers: int | tuple[int, int],
    use_gpu: bool,
    on_samples: OnPart,
    on_epoch: Callable[[dict[str, float]], None],
    on_scored: OnPart,
) -> model.Card:
    start = time.monotonic()
    scans, task = planned.scans, planned.task
    checkpoints = storage.join(planned.model_uri, CHECKPOINTS)
    files = samples.prepare(
        task, planned.tables_uri, planned.model_uri, planned.card, scans, on_samples
    )
    datasets = {split: samples.opened(names) for split, names in files.items()}
    counts = {split: dataset.count() for split, dataset in datasets.items()}
    task = replace(task, fit=task.fit.for_samples(counts["train"]))
    ages = np.asarray(scans["train"]["age_years"])
    assignment = loop.Assignment(
        task=task,
        rows=counts["train"],
        checkpoints_uri=checkpoints,
        run_name=_run_name(planned),
        workers=workers,
        use_gpu=use_gpu,
        imagenet=planned.imagenet,
        ages=(float(ages.mean()), max(float(ages.std()), 1.0)),
    )
    parameters = recipes.to_json(task.recipe)
    with trackers.tracked(planned.model_uri, assignment.run_name, parameters) as track:

        def epoch_done(metrics: dict[str, float]) -> None:
            track(metrics)
            on_epoch(metrics)

        network, history = loop.train(assignment, datasets, epoch_done)
    settled: dict[str, float] = {}
    held_out = scorecard.NO_OTHERS
    if isinstance(network, Attention) and task.recipe.regressor.members > 1:
        rows = datasets["train"].iter_batches(batch_size=64, batch_format="pyarrow")
        known = dict(
            zip(*(scans["train"][n].to_pylist() for n in ("scan_id", "age_years")), strict=True)
        )
        own = stack.held_out(network, samples.batches(rows, task, torch.device("cpu")), task)
        settled, years = stack.settle(
            network, own, planned.linear, known, stacked=task.recipe.method == "stack"
        )
        held_out = scorecard.answered(scans["train"], years)
    facts = {
        "metrics": _metrics(history) | settled,
        "fit": {
            "views": counts,
            "epochs": len(history),
            "seconds": round(time.monotonic() - start, 1),
            "workers": int(history[-1].get("workers", 1)),
            "device": "cuda" if use_gpu else "cpu",
            "history": history,
        },
    }
    made = Made(
        name=task.name,
        tensors=network.state_dict(),
        facts=facts,
        completes=task.completes,
        held_out=held_out,
    )
    card = finish(planned.tables_uri, planned.model_uri, planned.card, made, scans, on_scored)
    curve = storage.join(planned.model_uri, f"{task.name}_learning_curve.png")
    storage.write_bytes(curve, plots.png(learning_curve(history)))
    storage.delete(storage.join(planned.model_uri, CHECKPOINTS))
    return card


CHECKPOINTS = "checkpoints"
"""Folder of a model folder, while one is trained."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A trained part, not yet in its model folder.

    Attributes:
        name: of the part.
        tensors: its weights.
        facts: metrics and fit, as ``model.Part``.
        completes: whether the model predicts ages now, and can be calibrated.
        held_out: training scans, answered by models that did not see the patient, if there are
            such: columns of ``scorecard.ANSWERED``.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]
    facts: dict[str, Any]
    completes: bool
    held_out: pa.Table = field(default_factory=lambda: scorecard.NO_OTHERS)


def finish(
    tables_uri: str,
    model_uri: str,
    card: model.Card,
    made: Made,
    scans: Mapping[str, pa.Table],
    on_scored: OnPart,
) -> model.Card:
    """Calibrate a part that completes its model, then write weights, cards and whom it knows.

    Args:
        card: the card to extend.
        scans: split to rows of the scans table.
    """
    facts = {**made.facts, "data": {name: _demographics(table) for name, table in scans.items()}}
    if made.completes:
        # the model folder is not touched before all of the new model is there
        folder = storage.join(model_uri, CHECKPOINTS, "made")
        model.copy(model_uri, folder, card)
        card = model.save_part(folder, card, made.name, made.tensors, facts)
        card = _calibrated(tables_uri, scans, folder, card, made.held_out, on_scored)
        model.copy(folder, model_uri, card)
    else:
        card = model.save_part(model_uri, card, made.name, made.tensors, facts)
    settings = Reading.of(tables_uri).settings
    trained_on.save(model_uri, made.name, card, scans, settings)
    storage.write_bytes(storage.join(model_uri, "card.md"), markdown(card).encode())
    return card


def _calibrated(
    tables_uri: str,
    scans: Mapping[str, pa.Table],
    made_uri: str,
    card: model.Card,
    held_out: pa.Table,
    on_part: OnPart,
) -> model.Card:
    """Score the validation scans as the nightly job would; return the card with what follows."""
    found = outcomes.score(tables_uri, made_uri, scans["validation"], on_part)
    edges = card.recipe.localizer.group_edges_years
    mean_age = float(pc.mean(scans["train"]["age_years"]).as_py())
    return replace(
        card,
        calibration=scorecard.calibrate(found, edges, held_out),
        validation=scorecard.summary(found, edges, mean_age, held_out),
    )


def _run_name(planned: Plan) -> str:
    """Name the checkpoints so that only the same training resumes from them."""
    state = [
        recipes.to_json(planned.task.recipe),
        {name: part.sha256 for name, part in planned.card.parts.items()},
        kept.digest(planned.scans["train"]),
        planned.weights_uri,
    ]
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
    return f"{planned.task.name}-{digest}"


def _metrics(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the best epoch's validation metrics under names that say so."""
    best = min(history, key=lambda metrics: metrics["score"])
    names = ("cross_entropy", "accuracy", "mae_years", "error_90_years", "epoch")
    return {f"validation_{name}": best[name] for name in names if name in best}


def _demographics(scans: pa.Table) -> dict[str, Any]:
    """Describe the training data without any person in it; None where too few would be told."""
    ages, sexes = scans["age_years"], scans["sex"].to_pylist()
    sizes: dict[str | None, set[str]] = {}
    for sex, key in zip(sexes, scans["patient_key"].to_pylist(), strict=True):
        sizes.setdefault(sex, set()).add(key)
    small = metrics.withheld({sex: len(keys) for sex, keys in sizes.items()})
    few = pc.count_distinct(scans["patient_key"]).as_py() < metrics.FEWEST
    return {
        "scans": scans.num_rows,
        "patients": pc.count_distinct(scans["patient_key"]).as_py(),
        "digest": kept.digest(scans),
        "age_mean_years": None if few else round(pc.mean(ages).as_py(), 2),
        "age_sd_years": None if few else round(pc.stddev(ages).as_py(), 2),
        "female_share": None if small else round(float(np.mean([s == "F" for s in sexes])), 3),
    }
