"""A night that was planned does what the plan said."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bae.tables import nights
from tests.fakes.place import Place


def test_the_night_does_what_its_plan_said(place: Place, tmp_path: Path) -> None:
    """New, changed, gone, indexed only, refused and asked for again: not a byte is written before.

    The numbers are told by the plan's lines, by the night's own, and by the rows afterwards.
    """
    for number in range(5):
        place.scan(f"{number}.dcm", f"p{number}", number)
    for name in ("a.txt", "b.txt"):
        (place.archive / name).write_bytes(b"no image")
    places = ["--archive", str(place.archive), "--tables", place.tables]
    code, said = place.job("predict", *places, "--model", place.model, "--plan")
    assert code == 0 and "to read    7 objects; how long is not known" in said
    assert not Path(place.tables).exists()
    place.night("index")

    place.scan("1.dcm", "p1", 1, PatientSex="F")  # changed
    (place.archive / "2.dcm").unlink()
    place.scan("7.dcm", "p7", 7)
    (place.archive / "b.txt").write_bytes(b"PK\x03\x04")  # changed, and refused once more
    again = ["--retry-rejected", "format_unknown"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, told = place.job("predict", *places, "--model", place.model, *again, "--plan")
    assert code == 0, told
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    counts = {word: int(n) for word, n in re.findall(r"^(\w[\w ]+?) +(\d+)", told, re.MULTILINE)}
    done = int(re.findall(r"objects, (\d+) done before", told)[0])
    assert counts == {"new": 1, "changed": 2, "retried": 1, "unscored": 3, "gone": 1, "to read": 7}
    assert done == 0

    said = place.night("predict", *again)
    assert f"7 objects, {done} done before" in said
    assert f"retried    {counts['retried']} objects" in said
    assert nights.last(place.tables)[-1].objects == counts["to read"]
    gone = place.ask("SELECT count(*) FROM scans WHERE ends_with(object_uri, '/2.dcm')"
                     " AND removed_at IS NOT NULL")  # fmt: skip
    assert gone == [(counts["gone"],)]
    assert place.ask("SELECT count(*) FROM ages") == [(counts["unscored"] + 2,)]

    code, told = place.job("predict", *places, "--model", place.model, "--plan")
    assert code == 0 and "to read    0 objects: the tables are up to date" in told
    place.scan("8.dcm", "p8", 8)
    code, told = place.job("predict", *places, "--model", place.model, "--plan")
    assert code == 0 and re.search(
        r"to read    1 objects, about [\d.]+ \w+ by the last night", told
    )
    text = json.dumps([vars(night) for night in nights.last(place.tables)])
    assert "dcm" not in text and str(tmp_path) not in text, "no object's name"
