"""Imports point down only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = {"torch": 2, "torchvision": 2, "safetensors": 2, "ray": 3, "jobs": 4}
"""Outside packages that lift a module to a layer."""


def _imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _modules() -> dict[str, Path]:
    found = {}
    for path in (ROOT / "bae").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def _drawn() -> dict[str, int]:
    """Read the layer of each module from the drawing in bae/README.md: lines ``L2  a.py b.py``."""
    layers: dict[str, int] = {}
    level = -1
    drawing = (ROOT / "bae" / "README.md").read_text().split("```")[1]
    for line in drawing.splitlines():
        words = line.split()
        if words and words[0] in ("L0", "L1", "L2", "L3"):
            level = int(words.pop(0)[1])
        if words and level >= 0 and (words[0].endswith(".py") or words[0].endswith("/")):
            name = words[0].removesuffix(".py").rstrip("/")
            layers[f"bae.{name}"] = level
    return layers


def _layer(module: str, drawn: dict[str, int]) -> int:
    parts = module.split(".")
    return drawn[".".join(parts[:2])]


def test_every_module_is_in_the_drawing_and_nothing_else() -> None:
    """bae/README.md's drawing is true."""
    there = {".".join(name.split(".")[:2]) for name in _modules()} - {"bae"}
    assert set(_drawn()) == there


@pytest.mark.parametrize("module", sorted(_modules()))
def test_imports_point_down(module: str) -> None:
    """A module imports nothing from a layer above its own."""
    if module == "bae":
        return
    drawn = _drawn()
    own = _layer(module, drawn)
    for name in _imports(_modules()[module]):
        top = name.split(".")[0]
        if top == "bae" and ".".join(name.split(".")[:2]) in drawn:
            assert _layer(name, drawn) <= own, f"{module} (L{own}) imports {name}"
        elif top in LIBRARIES:
            assert LIBRARIES[top] <= own, f"{module} (L{own}) imports {name}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("bae.predictor", "ray"), ("bae.tables", "ray"), ("bae.tables", "torch"),
     ("bae.dicom", "torch"), ("bae.ray_data", "torch"), ("bae.ray_data", "duckdb"),
     ("jobs.predict", "torch"), ("jobs.predict", "matplotlib")],
)  # fmt: skip
def test_importing_leaves_heavy_packages_out(module: str, heavy: str) -> None:
    """A notebook needs no Ray; an analyst, a decoding worker and a night's driver no torch."""
    code = f"import sys, {module}; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
