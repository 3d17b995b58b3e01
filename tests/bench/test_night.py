"""The benchmark measures what it says."""

import importlib.util
import time

import pytest

from bae import recipes
from bae.bench import meter, night
from jobs.benchmark import _table, _values, main

SMALL_PARTS = """
import sys
from bae.tables import runs
import {module} as job
runs.PART_OBJECTS = 8
sys.exit(job.main(sys.argv[1:]))
"""


def test_meter_counts_cpu_time_of_children_and_not_sleep() -> None:
    """A child that computes for a while is seen, waiting is not."""
    import subprocess
    import sys

    code = "import time; t = time.process_time()\nwhile time.process_time() - t < 1.5: pass"
    with meter.measured() as cost:
        subprocess.run([sys.executable, "-c", code], check=True)
    assert 0.8 < cost.cpu_s < 4
    assert cost.peak_bytes > 1e6
    with meter.measured() as idle:
        time.sleep(0.7)
    assert idle.cpu_s < 0.6 < idle.wall_s


def test_steady_state_counts_no_view_that_was_done_before_it_began() -> None:
    """Two parts at once, each taking twice its own time: four parts of 10 s in 40 s."""
    day = "2026-11-24T20:00:"
    parts = [{"time": f"{day}{end}+00:00", "seconds": 20.0, "scans": 5} for end in (20, 20, 40, 40)]
    begin, end, views = night.steady(parts)
    assert (end - begin, views) == (40, 40)


@pytest.mark.parametrize(
    ("flags", "lacking", "reason"),
    [
        (["--matrix", "wide"], (), "--matrix must be COLUMNSxROWS"),
        ([], ("psutil",), "pip install -e .[bench]"),
    ],
)
def test_wrong_use_gets_one_sentence(
    flags: list[str],
    lacking: tuple[str, ...],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 2 before anything is measured, also where the extra is not installed."""
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in lacking else there(name)
    )
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reason in line


@pytest.mark.ray
@pytest.mark.slow
def test_table_and_json_have_every_row(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bare networks, job, loop and each stage, with the ratios that the README states."""
    settings = night.Settings(
        views=64,
        recipe=recipes.recipe("small", ["localizer.width=48", "localizer.height=96"]),
        repeats=1,
    )
    command = night.predict_command

    def with_small_parts(*places: str) -> list[str]:
        python, _, module, *flags = command(*places)
        return [python, "-c", SMALL_PARTS.format(module=module), *flags]

    monkeypatch.setattr(night, "predict_command", with_small_parts)
    result = night.run(settings)
    values, table = _values(result), _table(result)
    for key in (
        "bare_views_per_s",
        "job_views_per_s",
        "loop_views_per_s",
        "job_per_bare",
        "job_per_loop",
        "device",
        "precision",
        "matrix",
    ):
        assert key in values
    for stage in (
        "list",
        "fetch",
        "decode RLELossless",
        "prepare",
        "localize",
        "heat map",
        "boxes",
        "crop",
        "regress",
        "write",
    ):
        assert result.row(stage), stage
        assert f"\n{stage} " in table
