"""The notes explain every flag that reading sets."""

import re
from pathlib import Path

from bae.archive import refusals

ARCHIVE = Path(__file__).parents[3] / "bae" / "archive"
FLAG = re.compile(
    r'"((?!label_)\w+_(?:conflict|disagrees|implausible|inverted|missing|placeholder|short|stated|'
    r'static|unknown|blanked)|lossy|clipped)"'
)


def test_the_notes_explain_every_flag() -> None:
    """The table is sorted, and has those that the sources name and no other."""
    text = (ARCHIVE / "NOTES.md").read_text().split("\n## Flags\n")[1].split("\n## ")[0]
    table = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    named = {flag for path in ARCHIVE.rglob("*.py") for flag in FLAG.findall(path.read_text())}
    assert table == sorted(named - set(refusals.REJECT_CODES))
