"""Train the linear model, then the network on its squares: scans table in, a model out.

The atlas of people is made of the same sheets.

The linear model has no epochs: what takes time is reading the archive, and its sheets are kept
beside the tables as samples of networks are. What follows the fit, the calibration and the card,
is ``run``'s.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from bae import recipes, storage
from bae.archive.intake import Decoded
from bae.errors import UseError, after_writing
from bae.evaluation import scorecard
from bae.method import hardware, model
from bae.method.baselines import nearest
from bae.method.regional import reader
from bae.method.regional.bodies import Bodies
from bae.method.regional.frame import FRAME, MARGIN, SHEET, lay
from bae.method.trunks import weights
from bae.pipeline import kept
from bae.pipeline.cluster import resources
from bae.pipeline.step import OnPart
from bae.scan import SEX_CODE, UNKNOWN
from bae.training import run, tasks

MOST_SCANS = 3000
"""Learned from at most, so that a scan's products with all others fit into memory; errors stop
falling long before."""

SHEETS = pa.schema(
    {
        "scan_id": pa.string(),
        "anterior": pa.binary(),
        "posterior": pa.binary(),
    }
)
"""Sheets as float16, row-major; null where a scan has no such view."""


@dataclass(kw_only=True, eq=False)
class Sheets(kept.KeptStep):
    """Lay both views of the wanted scans on the frame by their outlines."""

    name: ClassVar[str] = "Sheets"
    wanted: set[str]

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``SHEETS``; a view of unknown name counts as anterior, if that is free."""
        rows = []
        for scan_id, scan in kept.among(items, self.wanted):
            row: dict[str, object] = {"scan_id": scan_id}
            for view in sorted(scan.views, key=lambda v: v.name == UNKNOWN):
                free = [kind for kind in reader.KINDS if kind not in row]
                kind = view.name if view.name != UNKNOWN else next(iter(free), "")
                if kind in free:
                    density = lay(view.counts, scan.pixel_mm).density_VU
                    row[kind] = density.astype(np.float16).tobytes()
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=SHEETS)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train, checked before Ray starts; the fields are ``run.Plan``'s."""

    recipe: recipes.Recipe
    tables_uri: str
    model_uri: str
    scans: dict[str, pa.Table]
    weights_uri: str | None
    imagenet: dict[str, Tensor] | None


def plan(
    recipe: recipes.Recipe,
    tables_uri: str,
    model_uri: str,
    weights_uri: str | None = None,
    most: int | None = None,
) -> Plan:
    """Check what is asked for; writes nothing.

    Args:
        weights_uri: see ``bae.method.trunks.weights.imagenet``.
        most: scans to learn from at most; no more than ``MOST_SCANS`` in any case.

    Raises:
        UseError: the recipe has a localizer, there are no scans to train on, or ImageNet
            weights cannot be had.
    """
    if recipe.in_two_steps:
        raise UseError(
            f"recipe {recipe.name} is trained in two steps; run jobs.train_localizer, then "
            "jobs.train_regressor"
        )
    scans = {s: kept.training_scans(tables_uri, recipe, s) for s in ("train", "validation")}
    scans["train"] = kept.at_most(scans["train"], min(most or MOST_SCANS, MOST_SCANS))
    imagenet = None
    if recipe.reads_squares:
        imagenet = weights.imagenet(recipe.regressor.trunk, recipe.regressor.weights, weights_uri)
    return Plan(
        recipe=recipe,
        tables_uri=tables_uri,
        model_uri=model_uri,
        scans=scans,
        weights_uri=weights_uri,
        imagenet=imagenet,
    )


def train(
    planned: Plan,
    workers: int | tuple[int, int],
    gpus: int | None,
    on_samples: OnPart,
    on_epoch: Callable[[dict[str, float]], None],
    on_scored: OnPart,
) -> model.Card:
    """Train the linear model and, where the recipe has one, the network on its squares.

    See ``run.train``, also for what is raised; the model is whole when the last part is.
    """
    if planned.recipe.reads_squares:
        resources.gpus_for_training(workers, gpus)
    with after_writing():
        card, linear = _bodies(planned, on_samples, on_scored)
        if not planned.recipe.reads_squares:
            return card
        network = run.Plan(
            task=tasks.regions(planned.recipe),
            tables_uri=planned.tables_uri,
            model_uri=planned.model_uri,
            weights_uri=planned.weights_uri,
            card=card,
            imagenet=planned.imagenet,
            scans=planned.scans,
            linear=linear,
        )
        return run.train(network, workers, gpus, on_samples, on_epoch, on_scored)


def _bodies(
    planned: Plan, on_samples: OnPart, on_scored: OnPart
) -> tuple[model.Card, dict[str, float]]:
    """Read the scans' sheets and learn; return the card, and answers out of fold by scan."""
    start = time.monotonic()
    rows = planned.scans["train"]
    cache = kept.cache(
        planned.tables_uri, "sheets", [list(FRAME), list(MARGIN), kept.digest(rows)], SHEETS
    )
    cache.drop_others()
    step = Sheets(cache=cache, wanted=set(rows["scan_id"].to_pylist()))
    found = kept.answers(planned.tables_uri, rows, step, on_samples)
    sheets = {kind: [_sheet(one) for one in found[kind].to_pylist()] for kind in reader.KINDS}
    ages = np.array(rows["age_years"].to_pylist(), float)
    male = np.array([SEX_CODE[sex] for sex in rows["sex"].to_pylist()])
    hardware.use_cores(1)  # small matrices: two threads wait for each other more than they help
    atlas = planned.recipe.method == "nearest"
    fit: Callable[..., tuple[Bodies[Any], NDArray[np.float64]]]
    fit = nearest.fit if atlas else reader.fit
    learned, held_out = fit(sheets, male, ages, rows["patient_key"].to_pylist())
    facts = {
        "metrics": {"held_out_mae_years": float(np.abs(held_out - ages).mean())},
        "fit": {"seconds": round(time.monotonic() - start, 1), "device": "cpu"},
    }
    alone = not planned.recipe.reads_squares
    answers = dict(zip(rows["scan_id"].to_pylist(), held_out.tolist(), strict=True))
    made = run.Made(
        name="nearest" if atlas else "regional",
        tensors=learned.tensors(),
        facts=facts,
        completes=alone,
        held_out=scorecard.answered(rows, answers),
    )
    card = model.Card(recipe=planned.recipe, parts={})
    card = run.finish(planned.tables_uri, planned.model_uri, card, made, planned.scans, on_scored)
    if alone:
        storage.delete(storage.join(planned.model_uri, run.CHECKPOINTS))
    return card, answers


def _sheet(data: bytes | None) -> NDArray[np.float32] | None:
    if data is None:
        return None
    return np.frombuffer(data, np.float16).astype(np.float32).reshape(SHEET)
