"""Train one network of a model: scans table in, weights and card out.

The steps both training jobs share; ``ray_train`` knows how to train, this knows on what.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import torch

from bae import recipes, storage
from bae.errors import ModelError, UseError
from bae.evaluation import plots, scorecard
from bae.method import model, weights
from bae.pipeline import kept, outcomes, resources
from bae.pipeline.parts import PartDone
from bae.training import loop, samples, trackers
from bae.training.card import learning_curve, markdown


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to train.

    Attributes:
        part: ``localizer`` or ``regressor``.
        tables_uri: root of the tables; the scans table must be filled.
        model_uri: the model folder; for a regressor it must hold a localizer, unless the
            recipe takes whole views.
        recipe: the recipe; a regressor's must agree with the localizer's card.
        weights_uri: see ``bae.method.weights.imagenet``.
        workers: training processes, a number or the least and the most (elastic).
        gpus: GPUs of each worker, 0 or 1; None: 1 where the cluster has enough.
    """

    part: str
    tables_uri: str
    model_uri: str
    recipe: recipes.Recipe
    weights_uri: str | None = None
    workers: int | tuple[int, int] = 1
    gpus: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request with everything that can be checked before Ray starts.

    Attributes:
        request: what was asked for.
        card: the card to extend: empty, or the localizer's for a regressor.
        imagenet: what the trunk starts from, None for a random start.
        scans: rows of the scans table for ``train`` and ``validation``.
    """

    request: Request
    card: model.Card
    imagenet: dict[str, torch.Tensor] | None
    scans: dict[str, pa.Table]


def plan(request: Request) -> Plan:
    """Check a request and gather what it needs; writes nothing.

    Raises:
        UseError: no scans to train on, no localizer to crop with, or one of another
            recipe, or ImageNet weights that cannot be had.
    """
    section = getattr(request.recipe, request.part)
    return Plan(
        request=request,
        card=_card(request),
        imagenet=weights.imagenet(section.trunk, section.weights, request.weights_uri),
        scans={
            split: kept.training_scans(request.tables_uri, request.recipe, split)
            for split in ("train", "validation")
        },
    )


def _card(request: Request) -> model.Card:
    whole = request.recipe.region.parts == "whole"
    if whole and request.part == "localizer":
        raise UseError(
            f"recipe {request.recipe.name} takes whole views and has no localizer; run "
            "jobs.train_regressor at once"
        )
    if whole or request.part == "localizer":
        return model.Card(recipe=request.recipe, parts={})
    card = model.load_card(request.model_uri)
    model.load_localizer(request.model_uri, card)  # hash checked before hours of work
    for section in ("windowing", "localizer", "region"):
        if getattr(card.recipe, section) != getattr(request.recipe, section):
            raise ModelError(
                f"the localizer in {request.model_uri} was trained with another "
                f"{section} section (recipe {card.recipe.name}); train both with the same"
            )
    return model.Card(recipe=request.recipe, parts={"localizer": card.parts["localizer"]})


def train(
    planned: Plan,
    on_samples: Callable[[int, PartDone], None],
    on_epoch: Callable[[dict[str, float]], None],
    on_scored: Callable[[int, PartDone], None] = lambda parts, done: None,
) -> model.Card:
    """Prepare samples, train, calibrate a regressor, and write weights and card.

    Args:
        planned: what to train, on what, from what.
        on_samples: called with the number of parts and each finished part.
        on_epoch: called with each epoch's metrics.
        on_scored: as ``on_samples``, for the validation scans that calibrate.

    Raises:
        RunError: training failed; the same call goes on from the last checkpoint.
    """
    start = time.monotonic()
    request, scans = planned.request, planned.scans
    use_gpu = resources.gpus_for_training(request.workers, request.gpus)
    files = _prepare(planned, on_samples)
    datasets = {split: _dataset(names) for split, names in files.items()}
    counts = {split: dataset.count() for split, dataset in datasets.items()}
    ages = np.asarray(scans["train"]["age_years"])
    run_name = _run_name(request, planned.card, scans["train"])
    with trackers.tracked(request.model_uri, run_name, recipes.to_json(request.recipe)) as track:

        def epoch_done(metrics: dict[str, float]) -> None:
            track(metrics)
            on_epoch(metrics)

        network, history = loop.train(
            request.part,
            request.recipe,
            datasets,
            counts,
            storage.join(request.model_uri, "checkpoints"),
            run_name,
            workers=request.workers,
            use_gpu=use_gpu,
            imagenet=planned.imagenet,
            ages=(float(ages.mean()), max(float(ages.std()), 1.0)),
            on_epoch=epoch_done,
        )
    card = model.save_part(
        request.model_uri,
        planned.card,
        request.part,
        network,
        {
            "metrics": _metrics(history),
            "data": {split: _demographics(table) for split, table in scans.items()},
            "fit": {
                "views": counts,
                "epochs": len(history),
                "seconds": round(time.monotonic() - start, 1),
                "workers": int(history[-1].get("workers", 1)),
                "device": "cuda" if use_gpu else "cpu",
                "history": history,
            },
        },
    )
    if request.part == "regressor":
        card = _calibrated(request, card, scans, on_scored)
    storage.write_bytes(storage.join(request.model_uri, "card.md"), markdown(card).encode())
    curve = storage.join(request.model_uri, f"{request.part}_learning_curve.png")
    storage.write_bytes(curve, plots.png(learning_curve(history)))
    storage.delete(storage.join(request.model_uri, "checkpoints"))
    return card


def _calibrated(
    request: Request,
    card: model.Card,
    scans: dict[str, pa.Table],
    on_part: Callable[[int, PartDone], None],
) -> model.Card:
    """Score the validation scans as the nightly job would, and write what follows to the card."""
    found = outcomes.score(request.tables_uri, request.model_uri, scans["validation"], on_part)
    edges = request.recipe.localizer.group_edges_years
    mean_age = float(pc.mean(scans["train"]["age_years"]).as_py())
    card = replace(
        card,
        calibration=scorecard.calibrate(found, edges),
        validation=scorecard.summary(found, edges, mean_age),
    )
    model.save_card(request.model_uri, card)
    return card


def _prepare(planned: Plan, on_samples: Callable[[int, PartDone], None]) -> dict[str, list[str]]:
    """Make the samples that are not there yet; return the files of each split."""
    request, scans = planned.request, planned.scans
    localizer = planned.card.parts.get("localizer")
    made_by = "" if localizer is None else localizer.sha256
    cache = samples.cache(request.tables_uri, request.recipe, request.part, scans, made_by)
    known = {k: v for table in scans.values() for k, v in samples.truth(table).items()}
    step: kept.KeptStep = samples.LocalizerSamples(cache=cache, recipe=request.recipe, known=known)
    if request.part == "regressor":
        model_uri = None if localizer is None else request.model_uri
        step = samples.RegressorSamples(
            cache=cache, recipe=request.recipe, known=known, model_uri=model_uri
        )
    cache.drop_others()
    return kept.make(request.tables_uri, scans, step, on_samples)


def _dataset(files: list[str]) -> ray.data.Dataset:
    """Open the samples, in Ray's object store where they fit into half of it.

    Streaming them from files starts the readers anew in each epoch, which costs ten
    seconds an epoch on two cores; from the object store it costs none.
    """
    filesystem, _ = storage.pyarrow_filesystem(files[0])
    paths = [storage.pyarrow_filesystem(name)[1] for name in files]
    dataset = ray.data.read_parquet(paths, filesystem=filesystem)
    size_bytes = sum(info.size for info in filesystem.get_file_info(paths))
    if 4 * size_bytes < ray.cluster_resources().get("object_store_memory", 0.0):
        # 4: two datasets, and Parquet shrinks the grey values to about half
        return dataset.materialize()
    return dataset


def _run_name(request: Request, card: model.Card, scans: pa.Table) -> str:
    """Name the checkpoints so that only the same training resumes from them."""
    state = [
        recipes.to_json(request.recipe),
        {name: part.sha256 for name, part in card.parts.items()},
        kept.digest(scans),
        request.weights_uri,
    ]
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
    return f"{request.part}-{digest}"


def _metrics(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the best epoch's validation metrics under names that say so."""
    best = min(history, key=lambda metrics: metrics["score"])
    names = ("cross_entropy", "accuracy", "mae_years", "error_90_years", "epoch")
    return {f"validation_{name}": best[name] for name in names if name in best}


def _demographics(scans: pa.Table) -> dict[str, Any]:
    """Describe the training data without any person in it."""
    ages = scans["age_years"]
    return {
        "scans": scans.num_rows,
        "patients": pc.count_distinct(scans["patient_key"]).as_py(),
        "digest": kept.digest(scans),
        "age_mean_years": round(pc.mean(ages).as_py(), 2),
        "age_sd_years": round(pc.stddev(ages).as_py(), 2),
        "female_share": round(float(np.mean([s == "F" for s in scans["sex"].to_pylist()])), 3),
    }
