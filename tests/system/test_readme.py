"""What the README says is so."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from bae import recipes
from jobs import command
from tests.fakes import dicoms, tiny

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(
    set(re.findall(r"^python -m jobs\.[^\n]*", README.replace("\\\n", " "), re.MULTILINE))
)


def test_the_readme_has_commands_to_check() -> None:
    """The pattern above still finds them."""
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("line", COMMANDS)
def test_command_has_flags_that_its_job_takes(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pasteable line parses."""
    words = shlex.split(line)
    parsed = {}
    monkeypatch.setattr(
        command, "run", lambda parser, job, argv: parsed.update(vars(parser.parse_args(argv))) or 0
    )
    importlib.import_module(words[2]).main(words[3:])
    assert parsed


def test_tree_names_what_is_there() -> None:
    """The drawing under "Where things are" is the top level and the rooms of bae."""
    drawing = README.split("## Where things are")[1].split("```")[1].strip().splitlines()
    top = {line.split()[0].rstrip("/") for line in drawing if not line.startswith(" ")}
    rooms = {line.split()[0].rstrip("/") for line in drawing if line.startswith(" ")}
    unnamed = {"__pycache__", "demo-data", "LICENSE", "pyproject.toml"}
    there = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} - unnamed
    assert {name for name in there if not name.endswith(".egg-info")} == top
    assert {p.parent.name for p in (ROOT / "bae").glob("*/__init__.py")} == rooms


def test_make_targets_exist() -> None:
    """Both commands of the README are targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_and_pictures_are_there() -> None:
    """No dead relative link."""
    for path in (ROOT / "README.md", ROOT / "bae" / "README.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if "://" not in link:
                assert (path.parent / link).exists(), link


def test_the_notebooks_lines_say_an_age_and_leave_the_model_folder_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is kept beside the model: it may lie where nobody can write."""
    model = tmp_path / "demo-data" / "model"
    tiny.write_model(model, recipes.small())
    (tmp_path / "scan.dcm").write_bytes(dicoms.scan())
    before = sorted((path, path.stat().st_mtime_ns) for path in model.rglob("*"))
    lines = README.split("Without Ray, in a notebook:")[1].split("```python")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "README.md", "exec"), {})
    assert 0 < float(capsys.readouterr().out) < 130
    assert sorted((path, path.stat().st_mtime_ns) for path in model.rglob("*")) == before
