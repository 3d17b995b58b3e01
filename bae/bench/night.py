"""How fast is a night, beside the bare networks and beside what a user would write?

All rows are measured on the same scans in one process tree, one after the other and again,
so that a machine's moods touch all of them. ``jobs.benchmark`` prints what comes out.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bae import logs, malloc, recipes, storage
from bae.bench import meter
from bae.bench.stages import Timing, bare, phantoms, read, ready, stages, untrained, write_copies
from bae.errors import RunError
from bae.method import hardware, model
from bae.method.predictor import Predictor
from bae.pipeline.score import SCANS_AT_ONCE
from bae.scan import Scan


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        views: of the job's run. Even, and enough for many parts of ``runs.PART_OBJECTS``
            scans: the first ones are decoded while the model loads.
        columns, rows: the stored matrix.
        repeats: how often everything is measured.
        place: where archive and tables lie; None: a temporary folder on this machine.
        recipe: of the model; one without a localizer has no bare networks and no loop beside it.
        loop: whether to run the user's loop too.
    """

    views: int = 512
    columns: int = 256
    rows: int = 1024
    recipe: recipes.Recipe = field(default_factory=recipes.paper)
    repeats: int = 3
    place: str | None = None
    loop: bool = True


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that was measured; ``start_up_s`` is the job's, one for each repeat."""

    settings: Settings
    device: str
    precision: str
    rows: list[Timing]
    start_up_s: list[float]

    def row(self, name: str) -> Timing | None:
        """Return a row by its name."""
        return next((row for row in self.rows if row.name == name), None)


def run(settings: Settings, say: Callable[[str], None] = lambda line: None) -> Result:
    """Measure everything.

    Raises:
        RunError: the job failed, or its run was too short.
    """
    with tempfile.TemporaryDirectory(prefix="bae-benchmark-") as folder:
        home = Path(folder)
        place = settings.place or folder
        say("making phantoms")
        objects = phantoms(settings.columns, settings.rows)
        write_copies(storage.join(place, "archive"), objects, settings.views // 2)
        files = home / "files"
        of_loop = max(8, settings.views // 16 * 2)
        write_copies(str(files), objects, of_loop // 2)
        model_uri = untrained(home / "model", settings.recipe)
        predictor = Predictor.load(model_uri)
        scans = [read(data) for data in objects]
        found: defaultdict[str, list[Measured]] = defaultdict(list)
        start_ups = []

        def note(name: str, made: Measured) -> None:
            found[name].append(made)
            say(f"{name}: {made.wall_s:.4f} s a view, {made.cpu_s:.4f} s of CPU")

        for repeat in range(settings.repeats):
            say(f"repeat {repeat + 1} of {settings.repeats}")
            if predictor.fast_localizer is not None:
                note("bare", _bare(predictor, scans, settings))
            measured, start_up_s = _job(place, model_uri, repeat)
            note("job", measured)
            start_ups.append(start_up_s)
            if settings.loop and predictor.fast_localizer is not None:
                out = home / "loop.parquet"
                note("loop", _loop(files, of_loop, model_uri, settings.recipe, out))
        rows = []
        for name, measurements in found.items():
            wall_s, cpu_s, peaks = map(list, zip(*measurements, strict=True))
            views = of_loop if name == "loop" else settings.views
            rows.append(Timing(name, views, wall_s, cpu_s, peak_bytes=max(peaks)))
        say("each stage alone")
        rows += stages(predictor, objects, home, place)
    return Result(
        settings=settings,
        device=predictor.device,
        precision=precision(predictor),
        rows=rows,
        start_up_s=start_ups,
    )


class Measured(NamedTuple):
    """One measurement: seconds per view, and most memory."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def precision(predictor: Predictor) -> str:
    """Name the numbers that the trunks compute with."""
    trunks = predictor.fast_trunks()
    return (
        " and ".join(sorted({str(trunk.dtype).removeprefix("torch.") for trunk in trunks}))
        or "float32"
    )


def _bare(predictor: Predictor, scans: Sequence[Scan], settings: Settings) -> Measured:
    """Both networks on ready tensors, in as many lanes as the job has."""
    views = [view for scan in scans for view in scan.views]
    at_once = 2 * SCANS_AT_ONCE[predictor.device]
    chosen = [views[i % len(views)] for i in range(at_once)]
    inputs_N1HW, crops_N1HW, male_N = ready(predictor, chosen)
    lanes = hardware.cores() if predictor.device == "cpu" else 1
    rounds = -(-settings.views // at_once)
    torch.set_num_threads(1)
    malloc.keep_freed()  # as in the job

    def once(_: int) -> None:
        bare(predictor, inputs_N1HW, crops_N1HW, male_N)

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(once, range(lanes)))
        with meter.measured() as cost:
            list(pool.map(once, range(rounds)))
    views_done = rounds * at_once
    return Measured(cost.wall_s / views_done, cost.cpu_s / views_done, cost.peak_bytes)


def predict_command(archive_uri: str, tables_uri: str, model_uri: str) -> list[str]:
    """Return the nightly job's command line, as a user types it."""
    flags = ["--archive", archive_uri, "--tables", tables_uri, "--model", model_uri]
    return [sys.executable, "-m", "jobs.predict", *flags]


def _job(place: str, model_uri: str, repeat: int) -> tuple[Measured, float]:
    """Run ``jobs.predict`` as a user does: what a view costs once it runs, and its start-up.

    The steady state lies between the first part's start in the model process and the last
    part's end, as the job's log has them. (From the first end to the last would be too good:
    two parts are in hand at once, so that another is half done at the first end.) Start-up
    is all the rest: importing, starting Ray, listing, loading the model, publishing.
    """
    tables_uri = storage.join(place, f"tables-{repeat}")
    command = predict_command(storage.join(place, "archive"), tables_uri, model_uri)
    job = subprocess.Popen(
        command,
        env=os.environ | {logs.VARIABLE: "json"},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with job, meter.measured(job.pid) as cost:
        assert job.stderr is not None
        said = list(job.stderr)
    parts = [line for line in map(_json, said) if "number" in line]
    if job.returncode or not parts:
        raise RunError(f"the job came to {len(parts)} parts: {said[-1:]}")
    begin, end, views = steady(parts)
    seen, cpu_s = zip(*cost.history, strict=True)
    busy_s = float(np.diff(np.interp([begin, end], seen, cpu_s))[0])
    measured = Measured((end - begin) / views, busy_s / views, cost.peak_bytes)
    return measured, cost.wall_s - (end - begin)


def steady(parts: Sequence[Mapping[str, object]]) -> tuple[float, float, int]:
    """Return when the steady state began and ended (seconds since 1970), and its views.

    ``parts`` are log records: ``time`` of a part's end, its ``seconds`` and ``scans``.
    """
    ends = [datetime.fromisoformat(str(part["time"])).timestamp() for part in parts]
    begin = min(end - float(str(part["seconds"])) for end, part in zip(ends, parts, strict=True))
    return begin, max(ends), 2 * sum(int(str(part["scans"])) for part in parts)


def _json(line: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _loop(files: Path, views: int, model_uri: str, recipe: recipes.Recipe, out: Path) -> Measured:
    from bae.bench import user_loop

    card = model.load_card(model_uri)
    device = hardware.best_device()
    localizer = hardware.onto(model.load_localizer(model_uri, card), device)
    regressor = hardware.onto(model.load_regressor(model_uri, card), device)
    torch.set_num_threads(hardware.cores())
    with meter.measured() as cost:
        user_loop.run(sorted(files.iterdir()), localizer, regressor, recipe, out)
    return Measured(cost.wall_s / views, cost.cpu_s / views, cost.peak_bytes)
