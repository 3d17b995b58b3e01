"""What a job does without: a night with nothing new, and --help, must be quick."""

import subprocess
import sys

HEAVY = ("ray", "torch", "pandas", "scipy", "duckdb", "deltalake", "matplotlib", "pydicom")


def _heavy(code: str) -> set[str]:
    """Return which heavy packages a fresh interpreter has imported once it ran some code."""
    ask = f"{code}\nimport sys\nprint('heavy', *sorted(set({HEAVY}) & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    return set(said.stdout.splitlines()[-1].split()[1:])


def test_help_needs_no_heavy_package() -> None:
    """--help of every job is shown before any of them is imported (0.3 s each in place of 8)."""
    code = (
        "import contextlib, importlib, io, pkgutil, jobs\n"
        "for found in pkgutil.iter_modules(jobs.__path__):\n"
        "    if not found.name.startswith('_') and found.name != 'command':\n"
        "        job = importlib.import_module(f'jobs.{found.name}')\n"
        "        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "            job.main(['--help'])\n"
    )
    assert _heavy(code) == set()


def test_the_test_can_fail() -> None:
    assert _heavy("import pandas") == {"pandas"}
