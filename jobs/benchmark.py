"""Speed, side by side with the bare networks and with what a user would write otherwise."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bae import recipes
from bae.errors import UseError
from jobs import command

if TYPE_CHECKING:
    from bae.bench import night


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "benchmark",
        "Measure the nightly job beside its bare networks and beside a plain loop, and each "
        "stage alone. The model has random weights, the scans are simulated.",
        "python -m jobs.benchmark --views 512 --json",
    )
    parser.add_argument("--views", type=int, default=512, help="of the job's run (default 512)")
    parser.add_argument(
        "--matrix", default="256x1024", metavar="COLUMNSxROWS", help="stored size (256x1024)"
    )
    parser.add_argument("--recipe", default="paper", help="of the model (default paper)")
    parser.add_argument("--repeats", type=int, default=3, help="of everything (default 3)")
    parser.add_argument(
        "--place",
        metavar="URI",
        help="where archive and tables lie, such as s3://bench/one "
        "(default: a temporary folder on this machine)",
    )
    parser.add_argument("--no-loop", action="store_true", help="leave the user's loop out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return command.run(parser, _run, argv)


def _run(options: argparse.Namespace) -> None:
    if not (matrix := re.fullmatch(r"(\d+)x(\d+)", options.matrix)):
        raise UseError(f"--matrix must be COLUMNSxROWS such as 256x1024, not {options.matrix}")
    if any(importlib.util.find_spec(name) is None for name in ("psutil", "pytorch_grad_cam")):
        raise UseError("the benchmark's extra is not here; install it: pip install -e .[bench]")
    from bae.bench import night

    columns, rows = (int(side) for side in matrix.groups())
    settings = night.Settings(
        views=options.views,
        columns=columns,
        rows=rows,
        recipe=recipes.recipe(options.recipe),
        repeats=options.repeats,
        place=options.place,
        loop=not options.no_loop,
    )
    result = night.run(settings, command.say)
    print(json.dumps(_values(result), indent=2) if options.json else _table(result))


def _values(result: night.Result) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": _device(result),
        "precision": result.precision,
        "recipe": result.settings.recipe.name,
        "matrix": f"{result.settings.columns}x{result.settings.rows}",
        "views": result.settings.views,
        "job_start_up_s": result.start_up_s,
    }
    for name in ("bare", "job", "loop"):
        if row := result.row(name):
            found[f"{name}_views_per_s"] = row.views_per_s
            found[f"{name}_cpu_s_per_view"] = statistics.median(row.cpu_s)
            found[f"{name}_peak_gb"] = row.peak_bytes / 1e9
    for other in ("bare", "loop"):
        if f"{other}_views_per_s" in found:
            found[f"job_per_{other}"] = found["job_views_per_s"] / found[f"{other}_views_per_s"]
            # on a busy machine the clock says little
            found[f"job_per_{other}_by_cpu"] = (
                found[f"{other}_cpu_s_per_view"] / found["job_cpu_s_per_view"]
            )
    found["rows"] = [vars(row) for row in result.rows]
    return found


def _device(result: night.Result) -> str:
    import torch

    from bae.method import hardware

    if result.device == "cuda":
        return torch.cuda.get_device_name()
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{hardware.cores()} CPU cores ({platform.machine()}, {vectors})"


def _table(result: night.Result) -> str:
    values = _values(result)
    lines = [
        f"{values['device']}, {result.precision}, recipe {values['recipe']}, "
        f"{values['matrix']} (columns x rows)",
        f"{'':<32}{'ms/view':>9}{'min':>8}{'max':>8}{'CPU ms':>8}{'views/s':>9}"
        f"{'MB/s':>7}{'peak GB':>9}",
    ]
    for row in result.rows:
        wall = [1000 * seconds for seconds in row.wall_s]
        rate = row.bytes_per_view * row.views_per_s / 1e6
        lines.append(
            f"{row.name:<32}{statistics.median(wall):9.2f}{min(wall):8.2f}{max(wall):8.2f}"
            f"{1000 * statistics.median(row.cpu_s):8.2f}{row.views_per_s:9.1f}"
            f"{f'{rate:7.0f}' if rate else '':>7}"
            f"{f'{row.peak_bytes / 1e9:9.2f}' if row.peak_bytes else '':>9}"
        )
    for other in ("bare", "loop"):
        if f"job_per_{other}" in values:
            lines.append(
                f"job / {other:<26}{values[f'job_per_{other}']:9.2f}  on the clock, "
                f"{values[f'job_per_{other}_by_cpu']:.2f} by CPU time"
            )
    start_up = statistics.median(result.start_up_s)
    lines.append(f"{'start-up of the job':<32}{start_up:9.1f}  s, once a night")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
