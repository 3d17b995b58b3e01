"""What short runs take, start-up and all: ``python -m tests.bench.start_up [--objects 100000]``.

``--help`` of every job; a connection to the tables; a night over an archive in which nothing is
new; nights of ten new scans (recipe ``small``, random weights). Each is a process of its own;
medians of the clock and of CPU seconds, its children's too. ``--code FOLDER`` measures another
checkout beside this one, in turn.
"""

import argparse
import os
import pkgutil
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jobs
from bae import phantom, recipes, storage
from bae.archive import privacy
from bae.phantom import write
from bae.pipeline.rows import killer
from bae.pipeline.step import Reading
from bae.tables import publish, runs, settings
from tests.fakes import tiny

SCANS = 10


def known(folder: Path, objects: int) -> list[str]:
    """Write so many objects and tables that know them all; return the flags of the night."""
    archive, tables, model = (folder / name for name in ("archive", "tables", "model"))
    for n in range(objects):
        place = archive / f"{n // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n:06d}.dcm").write_bytes(b"x")
    settings.keep(str(tables), Reading.of(str(tables)).settings)
    run = runs.open_run(str(tables), str(archive), None, storage.list_objects(str(archive)))
    for number, part in run.remaining().items():
        run.store(number, killer(part))
    publish.finish(run)
    tiny.write_model(model, recipes.small())
    return [f"--{name}={folder / name}" for name in ("archive", "tables", "model")]


def timed(code: Path, *command: str) -> tuple[float, float]:
    """Return seconds by the clock and CPU seconds of a Python process in a checkout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(code)}
    subprocess.run(
        [sys.executable, *command], cwd=code, env=environment, check=True, capture_output=True
    )
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--code", type=Path, action="append", default=[Path.cwd()])
    options = parser.parse_args(argv)
    os.environ.setdefault(privacy.KEY_VARIABLE, privacy.DEMO)
    helps = [
        ("-m", f"jobs.{found.name}", "--help")
        for found in pkgutil.iter_modules(jobs.__path__)
        if not found.name.startswith("_") and found.name != "command"
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        night = ("-m", "jobs.predict", *known(folder, options.objects))
        asked = f"import bae.tables; bae.tables.connect({str(folder / 'tables')!r})"
        rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for n in range(options.rounds):
            for code in options.code:
                there = [w for w in helps if (code / f"{w[1].replace('.', '/')}.py").exists()]
                measured = {" ".join(words[1:]): timed(code, *words) for words in there}
                measured["bae.tables.connect"] = timed(code, "-c", asked)
                measured[f"nothing new of {options.objects}"] = timed(code, *night)
                archive, seed = f"{folder}/archive/{code.name}", n * SCANS
                write.write_piece(archive, seed, seed + SCANS, 0, phantom.PhantomConfig())
                measured[f"{SCANS} new scans"] = timed(code, *night)
                for what, spent in measured.items():
                    rows.setdefault((what, code.name), []).append(spent)
    for (what, code_name), spent in rows.items():
        wall, cpu = (statistics.median(each) for each in zip(*spent, strict=True))
        print(f"{what:<36}{code_name:<12}{wall:7.2f} s {cpu:7.2f} CPU s")


if __name__ == "__main__":
    main()
