"""How fast is a night, beside the bare networks and beside what a user would write?

All rows are measured on the same scans in one process tree, one after the other and again,
so that a machine's moods touch all of them. ``jobs.benchmark`` prints what comes out.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bae import batch, meter, model, recipes, storage
from bae.bench_stages import Row, bare, phantoms, read, ready, stages, untrained, write_copies
from bae.predictor import Predictor
from bae.scan import Scan
from bae.scoring import SCANS_AT_ONCE


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        views: of the job's shorter run; the longer one has twice as many. Even.
        columns, rows: the stored matrix.
        recipe: of a model with random weights.
        repeats: how often everything is measured.
        place: where archive and tables lie; None: a temporary folder on this machine.
        loop: whether to run the user's loop too.
    """

    views: int = 128
    columns: int = 256
    rows: int = 1024
    recipe: recipes.Recipe = field(default_factory=recipes.paper)
    repeats: int = 3
    place: str | None = None
    loop: bool = True


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that was measured; ``start_up_s`` is the job's, one for each repeat."""

    plan: Plan
    device: str
    precision: str
    rows: list[Row]
    start_up_s: list[float]

    def row(self, name: str) -> Row | None:
        """Return a row by its name."""
        return next((row for row in self.rows if row.name == name), None)


def run(plan: Plan, say: Callable[[str], None] = lambda line: None) -> Result:
    """Measure everything.

    The job's steady state is what further scans cost: the time of a run over twice as many
    scans less the time of a run over one times as many. Its start-up is the rest: starting
    Ray, listing, loading the model, publishing.

    Args:
        plan: what to measure.
        say: called with a line before each measurement.
    """
    # Ray's workers are nicer than others by default; on a busy machine the job would starve
    os.environ.setdefault("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory(prefix="bae-benchmark-") as folder:
        home = Path(folder)
        place = plan.place or folder
        say("making phantoms")
        objects = phantoms(plan.columns, plan.rows)
        for name, count in (("once", plan.views // 2), ("twice", plan.views)):
            write_copies(storage.join(place, name), objects, count)
        files = home / "files"
        write_copies(str(files), objects, max(4, plan.views // 8))
        model_uri = untrained(home / "model", plan.recipe)
        predictor = Predictor.load(model_uri)
        scans = [read(data) for data in objects]
        rows: dict[str, list[meter.Cost]] = {"bare": [], "job": [], "loop": []}
        start_ups = []
        for repeat in range(plan.repeats):
            say(f"bare networks, {repeat + 1} of {plan.repeats}")
            rows["bare"].append(_bare(predictor, scans, plan))
            say(f"jobs.predict, {repeat + 1} of {plan.repeats}")
            once, twice = (_job(place, name, model_uri, repeat) for name in ("once", "twice"))
            rows["job"].append(
                meter.Cost(twice.wall_s - once.wall_s, twice.cpu_s - once.cpu_s, twice.peak_bytes)
            )
            start_ups.append(2 * once.wall_s - twice.wall_s)
            if plan.loop:
                say(f"the user's loop, {repeat + 1} of {plan.repeats}")
                rows["loop"].append(_loop(files, model_uri, plan.recipe, home / "loop.parquet"))
        views = {"bare": plan.views, "job": plan.views, "loop": 2 * max(4, plan.views // 8)}
        for name, costs in rows.items():
            for cost in costs:
                wall, cpu = cost.wall_s / views[name], cost.cpu_s / views[name]
                say(f"{name}: {wall:.3f} s a view, {cpu:.3f} s of CPU")
        measured = [_row(name, views[name], costs) for name, costs in rows.items() if costs]
        say("each stage alone")
        measured += stages(predictor, objects, home, place)
    return Result(
        plan=plan,
        device=predictor.device,
        precision=precision(predictor),
        rows=measured,
        start_up_s=start_ups,
    )


def precision(predictor: Predictor) -> str:
    """Name the numbers that the trunks compute with."""
    trunks = [n.trunk for n in (predictor.fast_localizer, predictor.fast_regressor) if n]
    return " and ".join(sorted({str(trunk.dtype).removeprefix("torch.") for trunk in trunks}))


def _row(name: str, views: int, costs: Sequence[meter.Cost]) -> Row:
    return Row(
        name=name,
        views=views,
        wall_s=[cost.wall_s / views for cost in costs],
        cpu_s=[cost.cpu_s / views for cost in costs],
        peak_bytes=max(cost.peak_bytes for cost in costs),
    )


def _bare(predictor: Predictor, scans: Sequence[Scan], plan: Plan) -> meter.Cost:
    """Both networks on ready tensors, in as many lanes as the job has."""
    views = [view for scan in scans for view in scan.views]
    at_once = 2 * SCANS_AT_ONCE[predictor.device]
    chosen = [views[i % len(views)] for i in range(at_once)]
    inputs_N1HW, crops_N1HW, male_N = ready(predictor, chosen)
    lanes = model.cores() if predictor.device == "cpu" else 1
    torch.set_num_threads(1)

    def once(_: int) -> None:
        bare(predictor, inputs_N1HW, crops_N1HW, male_N)

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(once, range(lanes)))
        with meter.measured() as cost:
            list(pool.map(once, range(-(-plan.views // at_once))))
    return cost


def _job(place: str, name: str, model_uri: str, repeat: int) -> meter.Cost:
    tables_uri = storage.join(place, f"tables-{name}-{repeat}")
    request = batch.Request(
        archive_uri=storage.join(place, name), tables_uri=tables_uri, model_uri=model_uri
    )
    with meter.measured() as cost:
        batch.run(request)
    return cost


def _loop(files: Path, model_uri: str, recipe: recipes.Recipe, out: Path) -> meter.Cost:
    from bae import user_loop

    card = model.load_card(model_uri)
    device = model.best_device()
    localizer = model.onto(model.load_localizer(model_uri, card), device)
    regressor = model.onto(model.load_regressor(model_uri, card), device)
    torch.set_num_threads(model.cores())
    with meter.measured() as cost:
        user_loop.run(sorted(files.iterdir()), localizer, regressor, recipe, out)
    return cost
