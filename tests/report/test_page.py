"""The page: self-contained, whole for any number of scans, accessible, and naming nobody."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jobs.report
from bae import body, storage, tables
from bae.archive.sandbox import Decoder
from bae.report import charts
from bae.report import page as report_page
from bae.scan import Scan
from bae.tables import current, settings
from tests.fakes import dicoms, many_rows, planted, rows
from tests.system.test_rooms import ROOT

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects elements, and fails on ones that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """Objects under planted names, words in every header, writing burnt into the pixels."""
    folder = tmp_path_factory.mktemp("QZXVARCHIVE")
    words = planted.words()
    good, secrets = planted.plant(words)
    (folder / "QZXVDOE^JANE").mkdir()
    for number in (6, 13):
        (folder / "QZXVDOE^JANE" / f"{number:07d}.dcm").write_bytes(good)
    return str(folder), [*secrets, "QZXV"]


@pytest.fixture(scope="module")
def scored(archive: tuple[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tables that name two objects of the archive and some that are gone."""
    root = str(tmp_path_factory.mktemp("tables"))
    there = storage.list_objects(archive[0])
    gone = rows.listing(range(14, 40), archive=archive[0])
    run = rows.night(root, gone, "one", archive[0])
    assert run is not None
    rows.night(root, there, "one", archive[0])
    return root


@pytest.fixture(scope="module")
def page(scored: str) -> Page:
    """A page with two pictures and a card."""
    card = Path(scored).parent / "report-card"
    card.mkdir(exist_ok=True)
    (card / "card.json").write_text(
        json.dumps(
            {
                "model_id": "one",
                "intended_use": "research",
                "recipe": {"region": {"gamma": 150.0}},
                "parts": {"regressor": {"metrics": {"validation_mae_years": 3.25}}},
            }
        )
    )
    return Page(report_page.build(scored, str(card)))


def test_page_asks_nothing_from_outside(page: Page) -> None:
    """Every source is inside the page, and its own policy forbids the rest."""
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data", "style"):
            place = attributes.get(name, "data:")
            assert place.startswith(("data:", "#")), (tag, place[:60])
    assert not page.all("script") and not page.all("link")
    [policy] = [m for m in page.all("meta") if m.get("http-equiv")]
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    template = (ROOT / "bae" / "report" / "page.html.jinja").read_text()
    assert not re.search(r"url\(|@import|https?:", template)


def test_page_says_what_the_tables_say(page: Page, scored: str) -> None:
    """Counts, refusals with their meaning, the card's numbers, the query's model."""
    assert re.search(r"Scans scored 27 of \d+ people", page.text)
    assert "Objects refused 1" in page.text
    assert "3.25" in page.text and "research" in page.text
    assert "model_id = 'one'" in page.text
    assert "mean age gap, years" in page.text and "centre of heat, posterior" in page.text


def test_pictures_come_from_the_archive_and_their_absence_is_said(page: Page) -> None:
    """Of the six farthest scans those that can be read again have a picture."""
    pictures = [image for image in page.all("img") if "image/webp" in image["src"]]
    missing = page.text.count("No picture: the object cannot be read again.")
    assert len(pictures) + missing == report_page.OUTLIERS
    assert f"{missing} of {report_page.OUTLIERS} pictures are missing" in page.text
    for image in pictures:
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert picture.size == (int(image["width"]), int(image["height"]))


def test_outliers_of_several_regions_say_where_their_answer_comes_from(tmp_path: Path) -> None:
    """The shares of the tables, views and sides together; one region has no account."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 10)), rows.REGIONS)
    found = Page(report_page.build(root)).text
    shares: defaultdict[str, float] = defaultdict(float)
    ages = tables.read(root, "cohort/ages").to_pylist()
    worst = max(ages, key=lambda row: (abs(row["age_gap_years"]), row["scan_id"]))["scan_id"]
    for box in tables.read(root, "cohort/boxes").to_pylist():
        if box["scan_id"] == worst:
            shares[box["region"].replace("left knee", "knees")] += box["weight"]
    for place, share in shares.items():
        assert f"{place} {100 * share:.0f} %" in found
    assert found.count("lumbar spine") == report_page.OUTLIERS


def test_without_the_archive_there_is_a_page_all_the_same(
    archive: tuple[str, list[str]], scored: str, tmp_path: Path
) -> None:
    """It says so for all six."""
    moved = tmp_path / "moved"
    shutil.move(archive[0], moved)
    try:
        found = Page(report_page.build(scored))
    finally:
        shutil.move(moved, archive[0])
    assert "6 of 6 pictures are missing" in found.text


@pytest.mark.slow
def test_page_leaves_out_what_the_archive_no_longer_has(tmp_path: Path) -> None:
    """And it is written all the same after a merge, whatever types that has left behind."""
    root, objects = str(tmp_path / "tables"), rows.listing(range(1, 60))
    rows.night(root, objects, "one")
    out = tmp_path / "page.html"
    for left in (56, 40):  # of 57 scans; three objects are refused
        assert jobs.report.main(["--tables", root, "--out", str(out)]) == 0
        assert current.mark(root, rows.ARCHIVE, objects.slice(0, left)) > 0
        current.tell_ages(root, settings.Settings(key_fingerprint=""))
    assert jobs.report.main(["--tables", root, "--out", str(out)]) == 0
    assert "Scans scored 38 of" in Page(out.read_text()).text


def test_replaced_object_gives_no_picture(tmp_path: Path) -> None:
    """What lies under the name now is not what was scored."""
    folder = tmp_path / "archive"
    (folder / "x").mkdir(parents=True)
    (folder / "x" / "0000001.dcm").write_bytes(dicoms.scan())
    root = str(tmp_path / "tables")
    rows.night(root, storage.list_objects(str(folder)), "one", str(folder))
    assert "image/webp" in report_page.build(root)
    (folder / "x" / "0000001.dcm").write_bytes(dicoms.scan(PatientID="other"))
    assert "image/webp" not in report_page.build(root)


@pytest.mark.slow
def test_nothing_planted_is_on_the_page(
    archive: tuple[str, list[str]], scored: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """No word of any header, no path, etag, UID or date of a scan; no patient's key either."""
    out = tmp_path / "report.html"
    assert jobs.report.main(["--tables", scored, "--out", str(out)]) == 0
    said = capfd.readouterr()
    text = out.read_text()
    assert "image/webp" in text, "the planted objects were read"
    hidden = {*archive[1], archive[0], scored, "DOE^JANE"}
    for name in ("restricted/scans", "restricted/rejects"):
        for row in tables.read(scored, name).to_pylist():
            hidden |= {row["object_uri"], row["source_uri"], row["etag"]}
    hidden |= {row["patient_key"] for row in tables.read(scored, "cohort/ages").to_pylist()}
    decoded = "".join(
        base64.b64decode(found).decode("latin-1") for found in re.findall(r"base64,([^\"]+)", text)
    )
    for place in (text, decoded, said.out.replace(str(out), ""), said.err):
        assert not [word for word in hidden if word in place]


def test_writing_beside_the_body_is_not_in_a_picture() -> None:
    """A name burnt into the corners of the counts is gone; the body is untouched."""
    counts = dicoms.real_counts().copy()
    with Decoder() as decoder:
        [(_, before)] = decoder.scans("", dicoms.scan(np.stack([counts, counts])))
    for corner in (counts[4:40, 4:90], counts[-40:-4, -90:-4]):
        corner[::4] = corner[:, ::5] = 200
    shown = body.only_body(counts)
    assert not shown[:44, :94].any() and not shown[-44:, -94:].any()
    assert isinstance(before, Scan)
    inside = before.views[0].counts > 30
    inside[:44, :94] = inside[-44:, -94:] = False
    assert (shown == counts)[inside].mean() > 0.99


@pytest.mark.parametrize("scans", [0, 1, 3000])
def test_any_number_of_scans_gives_a_whole_page(scans: int, tmp_path: Path) -> None:
    """None but refusals, one, and thousands: the page does not grow with the scans."""
    root = str(tmp_path)
    many_rows.publish_nights(root, scans, refused=2)
    text = report_page.build(root)
    found = Page(text)
    assert f"Scans scored {scans:,}" in found.text
    assert ("No scan has been scored" in found.text) == (scans == 0)
    assert len(text) < 250_000, "charts hold counts, not scans"


CARD = """\
# Model one

Recipe `small` <script>alert(1)</script> [elsewhere](https://example.org).

## Figures

| measure | value |
| --- | --- |
| mean absolute error, years | 3.25 (3.01 to 3.50) |

```json
{"gamma": 150}
```
"""


@pytest.mark.slow
def test_readable_card_is_part_of_the_page(scored: str, tmp_path: Path) -> None:
    """Its tables and headings fit in; what it says stays text, and nothing is fetched."""
    (tmp_path / "card.json").write_text('{"model_id": "one"}')
    (tmp_path / "card.md").write_text(CARD)
    found = Page(report_page.build(scored, str(tmp_path)))
    assert "3.25 (3.01 to 3.50)" in found.text and '{"gamma": 150}' in found.text
    assert "<script>alert(1)</script>" in found.text and not found.all("script")
    assert all(link["href"].startswith("#") for link in found.all("a"))
    _check_names(found)


def test_every_picture_table_and_region_has_a_name(page: Page) -> None:
    """Language, title, one h1, no heading level left out, alt texts, scopes, unique ids."""
    _check_names(page)


def _check_names(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    assert len(page.all("img")) >= 5
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids
        assert attributes.get("href", "#" + ids[0])[1:] in ids
    for region in page.elements:
        if region[1].get("class") == "wide":  # what scrolls sideways must be reachable by key
            assert region[1]["tabindex"] == "0" and region[1]["aria-label"]


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, two: str) -> float:
    high, low = sorted((_luminance(one), _luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _style() -> dict[str, str]:
    text = (ROOT / "bae" / "report" / "page.html.jinja").read_text()
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", text))


def test_text_stands_out_from_every_background() -> None:
    """WCAG 1.4.3: 4.5 to 1 for all text; 1.4.11: 3 to 1 for the lines of charts."""
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    style = _style()
    text = (ROOT / "bae" / "report" / "page.html.jinja").read_text()
    inks = set(re.findall(r"[^-]color: var\(--(\w+)\)", text))
    papers = set(re.findall(r"background: var\(--(\w+)\)", text))
    assert inks == {"ink", "soft", "link", "warn"} and papers == {"paper", "panel", "notice"}
    for ink in inks:
        for paper in papers:
            assert _contrast(style[ink], style[paper]) >= 4.5, (ink, paper)
    for colour in charts.SEX_COLOURS.values():
        assert _contrast(colour, "#ffffff") >= 3
    assert not re.search(r"(?<!-)color: #", text), "every colour of text is one of those"


def _job(*flags: str) -> int:
    return jobs.report.main(list(flags))


def test_wrong_use_gets_one_sentence_and_writes_nothing(
    scored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No tables, no such run, no such model: exit code 2."""
    out = tmp_path / "page.html"
    wrong: Iterator[tuple[str, list[str]]] = iter(
        [
            ("no tables at", ["--tables", str(tmp_path / "nowhere")]),
            ("no run x of model", ["--tables", scored, "--run", "x"]),
            ("no model at", ["--tables", scored, "--model", str(tmp_path / "nowhere")]),
        ]
    )
    for words, flags in wrong:
        assert _job(*flags, "--out", str(out)) == 2
        error = capsys.readouterr().err.strip()
        assert words in error and len(error.splitlines()) == 1
        assert not out.exists()
