"""The pages draw the tree that is there, and every link leads somewhere."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BAE = ROOT / "bae"
PAGE = (BAE / "README.md").read_text()
ROOMS = sorted(path.parent.relative_to(BAE).as_posix() for path in BAE.glob("*/**/__init__.py"))
WALKS = ("One scan's way to its row", "One training sample's way into the weights")
MOST_MODULES = 13
MOST_LINES = 340


def _pages() -> list[str]:
    """Return every page under version control, new ones too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = done.stdout.split() or [str(path.relative_to(ROOT)) for path in BAE.rglob("*.md")]
    return [name for name in found if (ROOT / name).exists()]


def _section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_library_page_is_short() -> None:
    """Who opens it reads it to the end."""
    assert PAGE.count("\n") < 100


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_drawn_and_says_what_it_gives(room: str) -> None:
    """Its name is on the page, and its docstring fits one screen."""
    assert re.search(rf"(?<![\w/.]){room}(?![\w/])", PAGE)
    docstring = ast.get_docstring(ast.parse((BAE / room / "__init__.py").read_text()))
    assert docstring and docstring.count("\n") < 40


@pytest.mark.parametrize("title", WALKS)
def test_files_of_a_walk_exist(title: str) -> None:
    """Each that the page names."""
    files = re.findall(r"`([\w/]+\.py)`", _section(title))
    assert 5 < len(files) == len(set(files)) <= 28
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_no_room_is_crowded() -> None:
    """A folder has no more modules than one can keep in mind."""
    for folder in [BAE, *(BAE / room for room in ROOMS)]:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MOST_MODULES, folder


def test_no_module_is_long() -> None:
    """Each can be read in one sitting."""
    lines = {path: path.read_text().count("\n") for path in BAE.rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def _anchors(page: Path) -> set[str]:
    """Return what a link may name behind ``#``, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def _dead_links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield link


@pytest.mark.parametrize("name", _pages())
def test_links_lead_somewhere(name: str) -> None:
    """To a file and, where one is named, to a heading in it."""
    assert list(_dead_links(ROOT / name)) == []


def test_code_that_the_paper_table_names_exists() -> None:
    """Each ``module.name`` is a definition in that module."""
    table = (BAE / "method" / "PAPER.md").read_text().split("## Our readings")[0]
    names = re.findall(r"`((?:\w+\.)*\w+)\.(\w+)`", table)
    assert len(names) > 8
    for module, name in names:
        place = module.replace(".", "/")
        tries = (ROOT / f"{place}.py", BAE / f"{place}.py", BAE / "method" / f"{place}.py")
        texts = [path.read_text() for path in tries if path.exists()]
        folder = any((parent / place / f"{name}.py").exists() for parent in (ROOT, BAE))
        defined = rf"^(?:def|class) {name}\b|^{name}\b.* ="
        assert folder or any(re.search(defined, text, re.M) for text in texts), f"{module}.{name}"
