"""Imports follow the order of the rooms, and light doors stay light."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_rooms_import_in_their_order() -> None:
    """The contracts in pyproject.toml hold: layers, rooms that never meet, no heavy packages."""
    # a process of its own: it switches off the loggers of the one it runs in
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    found = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("bae.predictor", "ray"),
        ("bae.tables", "ray torch"),
        ("bae.archive.dicom.decode", "torch"),
        ("bae.pipeline.parts", "torch duckdb"),
        ("jobs.predict", "torch matplotlib"),
    ],
)
def test_importing_leaves_heavy_packages_out(module: str, heavy: str) -> None:
    """A notebook needs no Ray; an analyst, a decoding worker and a night's driver no torch."""
    code = f"import sys, {module}; print({set(heavy.split())} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[-2] == "set()"


def test_no_module_hides_one_of_pythons() -> None:
    """A script beside ``select.py`` or ``codecs.py`` could not import subprocess."""
    modules = {path.stem for path in (ROOT / "bae").rglob("*.py")}
    assert not modules & set(sys.stdlib_module_names)
