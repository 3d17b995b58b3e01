"""What the README and the pages of its readers say is so.

The analyst's queries run in ``test_cookbook.py``; links and anchors of all pages are held by
``test_documents.py``.
"""

import argparse
import contextlib
import importlib
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from unittest import mock

import pytest

from bae import recipes
from bae.archive import label_files, privacy
from jobs import command, demo
from tests.fakes import dicoms, tiny

ROOT = Path(__file__).parents[2]
README = "README.md"
ENGINEER = "cluster/engineer.md"
OPERATIONS = "infra/operations.md"
ANALYST = "bae/tables/analyst.md"
CLINIC = "bae/report/dicom/clinic.md"
READERS = (ENGINEER, OPERATIONS, ANALYST, CLINIC)
TEXT = {name: (ROOT / name).read_text() for name in (README, *READERS)}
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("[a-z]*.py") if path.stem != "command")
NOT_OURS = {"--working-dir", "--no-deps"}
"""Flags of ``ray job submit`` and pip."""


def _blocks(name: str) -> list[tuple[str, str]]:
    """Return language and text of each fenced block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```", TEXT[name], re.MULTILINE | re.DOTALL)


def _commands() -> Iterator[tuple[str, str]]:
    """Find each job's whole command line, in blocks and where the text names one to run."""
    for name in (README, *READERS):
        for _, block in _blocks(name):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.search(r"python -m jobs\.[^#]*", line):
                    yield name, found[0].strip()
        prose = re.sub(r"^```.*?^```", "", TEXT[name], flags=re.MULTILINE | re.DOTALL)
        for text in re.findall(r"`(python -m jobs\.[^`]*)`", prose):
            yield name, " ".join(text.split())


COMMANDS = sorted(set(_commands()))


@contextlib.contextmanager
def _parsing(seen: list[command.Parser]) -> Iterator[None]:
    """Let a job's main hand its parser over in place of running."""

    def run(parser: command.Parser, job: object, argv: Sequence[str] | None) -> int:
        seen.append(parser)
        parser.parse_args(argv)
        return 0

    with mock.patch.object(command, "run", run):
        yield


@cache
def _flags() -> frozenset[str]:
    """Return every flag of every job."""
    seen: list[command.Parser] = []
    with _parsing(seen), contextlib.suppress(SystemExit):
        for name in JOBS:
            if not name.startswith("_"):
                with contextlib.suppress(SystemExit):
                    importlib.import_module(f"jobs.{name}").main([])
    assert len(seen) > 10
    return frozenset(
        flag for parser in seen for act in parser._actions for flag in act.option_strings
    )


# ---- each page ------------------------------------------------------------------------------


def test_the_readme_is_a_screen_and_leads_to_every_reader() -> None:
    """It fits in 125 lines and links each reader's page."""
    assert TEXT[README].count("\n") <= 125
    for page in READERS:
        assert f"]({page})" in TEXT[README], page


@pytest.mark.parametrize("name", READERS)
def test_a_page_says_what_one_gets_then_the_first_command(name: str) -> None:
    """Words first; a block to paste on the first screen."""
    lines = TEXT[name].splitlines()
    assert lines[0].startswith("# ") and not lines[2].startswith(("#", "`", "|"))
    assert next(i for i, line in enumerate(lines) if line.startswith("```")) < 30


def test_the_pages_have_commands_to_check() -> None:
    """The pattern above still finds them, on each page whose reader has any."""
    assert len(COMMANDS) >= 20
    assert {name for name, _ in COMMANDS} == {README, *READERS}


@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_command_has_flags_that_its_job_takes(
    name: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each pasteable line parses, and recipe and changed fields are there."""
    words = shlex.split(line)
    seen: list[argparse.Namespace] = []
    with mock.patch.object(
        command, "run", lambda parser, job, argv: seen.append(parser.parse_args(argv)) or 0
    ):
        try:
            importlib.import_module(words[2]).main(words[3:])
        except SystemExit:
            pytest.fail(f"{name}: {line}: {capsys.readouterr().err}")
    [options] = seen
    if hasattr(options, "recipe"):
        recipes.recipe(options.recipe, getattr(options, "changes", []))


@pytest.mark.parametrize("name", [README, *READERS])
def test_flags_and_variables_that_a_page_names_exist(name: str) -> None:
    """Also those in the middle of a sentence."""
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT[name]))
    bench = {flag for _, line in _benches(name) for flag in re.findall(r"--[a-z-]+", line)}
    assert flags <= _flags() | NOT_OURS | bench
    code = "\n".join(p.read_text() for p in (ROOT / "bae").rglob("*.py"))
    for variable in set(re.findall(r"\bBAE_[A-Z_]+", TEXT[name])):
        assert f'"{variable}"' in code, variable


def _benches(name: str) -> list[tuple[str, str]]:
    """Return module and flags of each measurement that a page names."""
    found = re.findall(r"python -m (tests\.[\w.]+)([^`\n]*)", TEXT[name])
    return [(module, flags) for module, flags in found]


@pytest.mark.parametrize("name", [README, *READERS])
def test_measurements_that_a_page_names_exist(name: str) -> None:
    """The module is there and has the flags."""
    for module, flags in _benches(name):
        text = (ROOT / (module.replace(".", "/") + ".py")).read_text()
        for flag in re.findall(r"--[a-z-]+", flags):
            assert f'"{flag}"' in text, f"{module} {flag}"


@pytest.mark.parametrize("name", [ENGINEER, OPERATIONS, CLINIC])
def test_what_is_to_be_pasted_into_a_shell_is_shell(name: str) -> None:
    """Every block without a language; only the engineer's has another."""
    for language, block in _blocks(name):
        if language:
            assert (name, language) == (ENGINEER, "python")
        else:
            subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize("name", [README, *READERS])
def test_extras_to_install_exist(name: str) -> None:
    """Of ``pip install -e .[extra]``."""
    known = (ROOT / "pyproject.toml").read_text()
    for extra in re.findall(r"-e \.\[(\w+)\]", TEXT[name]):
        assert re.search(rf"^{extra} = \[", known, re.MULTILINE), extra


# ---- the README -----------------------------------------------------------------------------


def test_tree_names_what_is_there() -> None:
    """The drawing under "Where things are" is the top level and the rooms of bae."""
    drawing = TEXT[README].split("## Where things are")[1].split("```")[1].strip().splitlines()
    top = {line.split()[0].rstrip("/") for line in drawing if not line.startswith(" ")}
    rooms = {line.split()[0].rstrip("/") for line in drawing if line.startswith(" ")}
    unnamed = {"__pycache__", "demo-data", "LICENSE", "pyproject.toml"}
    there = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} - unnamed
    assert {name for name in there if not name.endswith(".egg-info")} == top
    assert {p.parent.name for p in (ROOT / "bae").glob("*/__init__.py")} == rooms


def test_make_targets_exist() -> None:
    """Those of the README's block and those that any page names."""
    makefile = (ROOT / "Makefile").read_text()
    blocks = re.findall(r"^make ([\w-]+)", TEXT[README], re.MULTILINE)
    assert blocks == ["demo", "test"]
    for text in TEXT.values():
        for target in [*blocks, *re.findall(r"`make ([\w-]+)`", text)]:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_output_shown_is_what_the_demo_prints() -> None:
    """Its tables with these columns, in this order, and its query."""
    shown = TEXT[README].split("## What comes out")[1].split("```")[1]
    assert demo.query("demo-data/tables") in shown
    tables = re.findall(r"^(\w+/\w+): [\d]+ rows\n *(.*)", shown, re.MULTILINE)
    assert {name for name, _ in tables} >= {"cohort/ages", "cohort/boxes"}
    for name, header in tables:
        columns = demo.SHOWN[name].split()
        assert header.split() == [column for column in columns if column in header.split()]
        assert len(header.split()) > 2


def test_the_readme_keeps_two_tables_of_numbers() -> None:
    """One of accuracy, one of speed; others lie in the rooms' notes."""
    tables = re.findall(r"^\|(?:---\|)+$", TEXT[README], re.MULTILINE)
    assert len(tables) == 3, "the two, and the one that leads to the pages"


# ---- the engineer ---------------------------------------------------------------------------


def test_recipes_that_the_engineer_reads_of_exist() -> None:
    """In the table, and the default is named as such."""
    table = TEXT[ENGINEER].split("## Which recipe")[1].split("\n\n")[1]
    rows = [line.split("|") for line in table.splitlines()[2:]]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    assert len(named) > 8 and [name for name in named if name not in recipes.RECIPES] == []
    for row in rows:
        for job in re.findall(r"`jobs\.(\w+)`", row[3]):
            assert job in JOBS


def test_the_notebooks_lines_say_an_age_and_leave_the_model_folder_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is kept beside the model: it may lie where nobody can write."""
    model = tmp_path / "demo-data" / "model"
    tiny.write_model(model, recipes.small())
    (tmp_path / "scan.dcm").write_bytes(dicoms.scan())
    before = sorted((path, path.stat().st_mtime_ns) for path in model.rglob("*"))
    [lines] = [block for language, block in _blocks(ENGINEER) if language == "python"]
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, ENGINEER, "exec"), {})
    assert 0 < float(capsys.readouterr().out) < 130
    assert sorted((path, path.stat().st_mtime_ns) for path in model.rglob("*")) == before


# ---- operations -----------------------------------------------------------------------------


def test_the_key_is_made_once_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block, run twice by a shell, gives one key that bae takes."""
    [block] = [b for _, b in _blocks(OPERATIONS) if privacy.KEY_FILE_VARIABLE in b]
    told = []
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-e"],
            input=f"{block}\necho ${privacy.KEY_FILE_VARIABLE}",
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            text=True,
            capture_output=True,
            check=True,
        )
        file = Path(done.stdout.strip())
        told.append(file.read_text())
    assert told[0] == told[1] and re.fullmatch("[0-9a-f]{64}", told[0])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.delenv(privacy.KEY_VARIABLE, raising=False)
    monkeypatch.setenv(privacy.KEY_FILE_VARIABLE, str(file))
    assert privacy.load_key()


def test_exit_codes_are_those_of_the_jobs() -> None:
    """As ``jobs.command`` says."""
    table = re.findall(r"^\| (\d+) \|", TEXT[OPERATIONS], re.MULTILINE)
    assert command.__doc__ is not None
    assert table == re.findall(
        r"(?<=[ \n])(\d+) (?=[a-z])", command.__doc__.split("Exit codes:")[1]
    )


def test_every_column_of_a_labels_file_is_named() -> None:
    """Under its heading."""
    section = TEXT[OPERATIONS].split("\n## Labels")[1].split("\n## ")[0]
    assert [name for name in label_files.COLUMNS if f"`{name}`" not in section] == []


# ---- the clinic -----------------------------------------------------------------------------


def test_the_clinic_reads_the_caution_that_its_pictures_carry() -> None:
    """In the same words, before the first command."""
    from bae.report.dicom import picture

    assert picture.CAUTION.rstrip(".").lower() in TEXT[CLINIC].split("```")[0].lower()


# ---- the analyst ----------------------------------------------------------------------------


def test_questions_need_only_the_packages_that_the_page_names() -> None:
    """Of the packages that bae declares, asking loads no other."""
    [line] = re.findall(r"pip install --no-deps -e \. && pip install ([^`\n]+)", TEXT[ANALYST])
    declared = (ROOT / "pyproject.toml").read_text().split("\n]")[0]
    names = set(re.findall(r'^    "([\w-]+)', declared, re.MULTILINE))
    enough = set(line.split())
    assert enough < names | {"pandas"}
    code = (
        "import sys, tempfile, bae.tables; from bae.tables import query\n"
        "with tempfile.TemporaryDirectory() as place:\n"
        "    bae.tables.connect(place).sql('FROM latest_ages').df()\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    loaded = set(done.stdout.decode().split())
    modules = {"pillow": "PIL", "scikit-learn": "sklearn", "markdown-it-py": "markdown_it"}
    brought = {"numpy", "botocore", "aiohttp"}  # by pandas and s3fs
    others = {modules.get(name, name.replace("-", "_")) for name in names - enough - brought}
    assert {"torch", "ray", "pydicom"} <= others
    assert loaded & others == set()
