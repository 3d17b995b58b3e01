"""The codes of refusal are the same in the code and in what people read."""

import re
from pathlib import Path

from bae.archive import refusals

NOTES = Path(refusals.__file__).with_name("NOTES.md")


def test_the_notes_table_of_codes_is_that_of_the_code() -> None:
    """Every code, in the same order, with its stage, its meaning and what to do."""
    section = NOTES.read_text().split("## Codes of refusal")[1].split("\n## ")[0]
    written = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert written == [
        (code, reject.stage, reject.meaning, reject.action)
        for code, reject in refusals.REJECT_CODES.items()
    ]
