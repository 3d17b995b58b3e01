"""A labels file and the scans that are in the tables: what it changes, what it matched.

Ages and sexes follow the file without reading an object again; names of views, pixel sizes and
patients are taken when an object is read.
"""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from bae import storage
from bae.archive import labels, privacy
from bae.archive.labels import Labels
from bae.errors import LabelsError
from bae.scan import Identity, Scan
from bae.tables import contract, current, delta

_KEYS = ["object_uri", "etag", "scan_id"]
_CHANGED = ["age_years", "age_source", "sex", "flags", "label_by", "label_row", "labels_digest"]
_LABEL_FLAGS = {"label_age_disagrees", "label_sex_disagrees"}
_MOST_EXAMPLES = 100
_ZEROS = range(2, 13)
"""Lengths of Patient IDs whose leading zeros a spreadsheet may have eaten."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a labels file matched.

    Attributes:
        rows: rows of the file that are of some scan.
        ways: how scans were found, see ``archive.labels``, to their number.
    """

    rows: frozenset[int]
    ways: Counter[str]

    def check(self, known: Labels) -> None:
        """Refuse a file that does nothing, or whose ``key`` means several things.

        Raises:
            LabelsError: no row matches, or some by file name and others by Patient ID or study.
        """
        headers = self.ways[labels.BY_PATIENT] + self.ways[labels.BY_STUDY]
        files = self.ways[labels.BY_FILE_NAME]
        if known.mixed and (self.ways[labels.AMBIGUOUS] or (files and headers)):
            raise LabelsError(
                f"labels: the column key matches {files + self.ways[labels.AMBIGUOUS]} scans by "
                f"their file's name and {headers} by Patient ID or study; call the column "
                "object, patient_id or study_uid, as it is meant"
            )
        if known.rows and not self.rows:
            raise LabelsError(
                f"labels: none of {len(known.rows)} rows matches any scan (read as: "
                f"{known.read_as})"
            )


def found(scans: Iterable[pa.Table]) -> Found:
    """Return what was matched, from rows with the columns ``label_by`` and ``label_row``."""
    rows: set[int] = set()
    ways: Counter[str] = Counter()
    for table in scans:
        rows |= {row for row in table["label_row"].to_pylist() if row is not None}
        ways.update(by for by in table["label_by"].to_pylist() if by is not None)
    return Found(rows=frozenset(rows), ways=ways)


def scans(tables_uri: str, known: Labels) -> tuple[pa.Table, pa.Table]:
    """Return the scans of the tables as the labels file would have them.

    Returns:
        The rows that change, with the columns of ``change``, and all rows' ``label_by``,
        ``label_row`` and ``person_key``.
    """
    table = delta.read(tables_uri, "restricted/scans")
    schema = contract.SCHEMAS["restricted/scans"]
    names = [*_KEYS, *_CHANGED, "person_key"]
    same = pc.fill_null(pc.equal(table["labels_digest"], known.digest), fill_value=False)
    rows = [
        {name: row[name] for name in names}
        for batch in table.filter(pc.invert(same)).to_batches(max_chunksize=65536)
        for row in (_told(one, known) for one in batch.to_pylist())
    ]
    changed = pa.Table.from_pylist(rows, pa.schema([schema.field(name) for name in names]))
    told = ["label_by", "label_row", "person_key"]
    after = pa.concat_tables([table.filter(same).select(told), changed.select(told)])
    return changed.drop_columns("person_key"), after


def _told(row: dict[str, object], known: Labels) -> dict[str, object]:
    """Return a scan's row with what the labels say of it, from what its header said."""
    person, study = str(row["person_key"] or ""), str(row["study_key"] or "")
    match = known.match(str(row["object_uri"]), study, person)
    # rows of bae 0.1 do not tell the header's values from those of labels
    before = "" if row["person_key"] is None else "header_"
    scan = Scan(
        views=(),
        identity=Identity(patient="", study="", instance=""),
        age_years=row[f"{before}age_years"],  # type: ignore[arg-type]
        age_source=row[f"{before}age_source"],  # type: ignore[arg-type]
        sex=row[f"{before}sex"],  # type: ignore[arg-type]
        flags=tuple(flag for flag in row["flags"] if flag not in _LABEL_FLAGS),  # type: ignore[attr-defined]
    )
    if match is not None:
        label = known.label(match)
        scan = labels.apply(labels.without_views(label), scan)
    return row | {
        "age_years": scan.age_years,
        "age_source": scan.age_source,
        "sex": scan.sex,
        "flags": list(scan.flags),
        "label_by": match and match.by,
        "label_row": match and match.row,
        "labels_digest": known.digest,
    }


def change(tables_uri: str, rows: pa.Table, check: Callable[[], None]) -> None:
    """Write what ``scans`` returned first; ``current.tell_ages`` brings ages after it."""
    current.update(tables_uri, "restricted/scans", rows, _KEYS, check)


def note_unmatched(
    tables_uri: str, known: Labels, matched: Found, persons: set[str], names: set[str], key: bytes
) -> str:
    """Keep examples of rows that matched nothing in ``restricted/``, and say how many there are.

    Args:
        persons: ``person_key`` of all scans.
        names: objects of the archive.
        key: of the pseudonyms.

    Returns:
        A sentence without any key.
    """
    missing = [n for n in range(1, len(known.rows) + 1) if n not in matched.rows]
    if not missing:
        return f"all of {len(known.rows)} rows matched"
    stems = {_folded(name.rpartition("/")[2].rpartition(".")[0]) for name in names}
    causes: Counter[str] = Counter()
    sink = io.StringIO()
    lines = csv.writer(sink)
    lines.writerow(["row", "key", "would match with"])
    for number in missing[:_MOST_EXAMPLES]:
        text = known.keys[number - 1]
        cause = next(
            (why for why, other in _variants(text) if privacy.person_key(key, other) in persons),
            "another spelling" if _folded(text) in stems else "",
        )
        causes[cause] += 1
        lines.writerow([number, text, cause])
    storage.write_bytes(
        storage.join(tables_uri, contract.UNMATCHED_LABELS), sink.getvalue().encode()
    )
    said = "".join(f"; {n} would match with {why}" for why, n in causes.most_common() if why)
    return (
        f"{len(matched.rows)} of {len(known.rows)} rows matched, {len(missing)} did not (such as "
        f"row {missing[0]}{said}); examples in {contract.UNMATCHED_LABELS}"
    )


def _variants(text: str) -> Iterator[tuple[str, str]]:
    """Yield what a key may have been before something spoilt it, and what did."""
    for length in _ZEROS:
        if len(text) < length:
            yield "leading zeros", text.zfill(length)
    yield "no leading zeros", text.lstrip("0")
    for form in ("NFC", "NFD"):
        yield "another Unicode form", unicodedata.normalize(form, text)
    yield "capitals", text.upper()
    yield "small letters", text.lower()
    yield "blanks around it", f"{text} "


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip().lstrip("0")
