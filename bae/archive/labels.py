"""Ages, sexes and views from a labels file.

A labels file is CSV or Parquet with one row per scan, patient or study:

==============  =================================================================
``object``      object name: whole URI, any trailing part of its path, or the file
                name without its extension
``patient_id``  Patient ID
``study_uid``   Study Instance UID
``key``         any of these three
``age_years``   age at acquisition, or
``birth_date``  with ``scan_date``, from which the age follows
``sex``         F, M, female, male; O, other: not known
``view``        ``anterior`` or ``posterior``; ``anterior+posterior`` for two views
``pixel_mm``    side of a pixel, mm
``patient``     who it is, for archives without headers: all scans of one are in one split
==============  =================================================================

One of the first four is required. Other ways to write dates, sexes and numbers are in
``label_words``. Labels override the header. A patient's ID may also be the name of somebody
else's file: where a ``key`` could mean both, it means neither.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow as pa

from bae import storage
from bae.archive import dates as archive_dates
from bae.archive import label_files, privacy
from bae.archive.label_files import KEYS
from bae.archive.label_words import ABSENT, Habits
from bae.errors import LabelsError
from bae.scan import ANTERIOR, FEMALE, MALE, POSTERIOR, Scan, View

_SEXES = {"F": FEMALE, "M": MALE, "O": None}

LABEL_TOLERANCE_YEARS = 1.0
"""Patient's Age truncates to a year, so a smaller difference means nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What a labels file says of one key; None and empty where it says nothing.

    Attributes:
        age_years: plausible age at acquisition.
        implausible: there was an age, but no person has it.
        sex: ``F``, ``M`` or None.
        views: names of the views in the order of frames.
        pixel_mm: side of a pixel.
        patient: whose scan it is.
    """

    age_years: float | None = None
    implausible: bool = False
    sex: str | None = None
    views: tuple[str, ...] = ()
    pixel_mm: float | None = None
    patient: str = ""


BY_OBJECT, BY_FILE_NAME, BY_STUDY, BY_PATIENT = "object", "file name", "study", "patient"
AMBIGUOUS = "ambiguous"
"""How a label was found; ambiguous where a key means two things that say different things."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The label of a scan, and how it was found.

    Attributes:
        by: ``object``, ``file name``, ``study``, ``patient`` or ``ambiguous``.
        row: of the labels file, from 1; None where ambiguous.
    """

    by: str
    row: int | None = None


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A labels file in memory; studies and patients by their pseudonyms.

    Attributes:
        digest: of the file's bytes, and of what was said of them.
        rows: what each row says.
        keys: what each row is about, for messages in ``restricted/``.
        objects, studies, patients: key to the row's number, from 1.
        mixed: whether the file has a column ``key``, whose meaning has to be found out.
        read_as: how separators, letters, dates, ... were understood, for people.
    """

    digest: str
    rows: Sequence[Label]
    keys: Sequence[str]
    objects: Mapping[str, int]
    studies: Mapping[str, int]
    patients: Mapping[str, int]
    mixed: bool
    read_as: str

    def __repr__(self) -> str:
        """Show no keys: they identify people."""
        return f"Labels({len(self.rows)} rows)"

    def match(self, object_uri: str, study_key: str, person_key: str) -> Match | None:
        """Return the label of a scan, the most exact first; None where there is none.

        Args:
            object_uri: the object, ``<zip>!/<member>`` for a member.
            study_key, person_key: pseudonyms, see ``privacy``; empty where not known.
        """
        parts = object_uri.replace("!/", "/").split("/")
        for name in (object_uri, *("/".join(parts[start:]) for start in range(1, len(parts)))):
            if row := self.objects.get(name):
                return Match(by=BY_OBJECT, row=row)
        ways = {
            BY_FILE_NAME: self.objects.get(PurePosixPath(parts[-1]).stem),
            BY_STUDY: self.studies.get(study_key),
            BY_PATIENT: self.patients.get(person_key),
        }
        found = [Match(by=by, row=row) for by, row in ways.items() if row]
        said = {self.rows[row - 1] for row in ways.values() if row}
        if self.mixed and len(said) > 1 and found[0].by == BY_FILE_NAME:
            return Match(by=AMBIGUOUS)
        return found[0] if found else None

    def label(self, match: Match) -> Label:
        """Return what the file says; nothing where the match is ambiguous."""
        return Label() if match.row is None else self.rows[match.row - 1]


_PLAIN = Habits()


def load(uri: str, key: bytes, habits: Habits = _PLAIN) -> Labels:
    """Read a labels file.

    Args:
        uri: CSV or Parquet; the content decides.
        key: of the pseudonyms.
        habits: how values are meant that could mean two things.

    Raises:
        StorageError: the file cannot be read.
        LabelsError: no column that says what a row is about, an unknown column, two of one name,
            or a value that is no age, date, sex, view or length, or could be two. Messages name
            rows and columns, never values.
    """
    data = storage.read_bytes(uri)
    table, read_as = label_files.read(data, habits)
    names = table.column_names
    rows: list[Label] = []
    keys: list[str] = []
    known: dict[str, dict[str, int]] = {name: {} for name in KEYS}
    for number, row in enumerate(_rows(table), start=1):
        about = {name: row.pop(name) for name in KEYS if row.get(name)}
        if not about:
            raise LabelsError(f"labels row {number}: the key is empty")
        rows.append(_label(row, number))
        keys.append(next(iter(about.values())))
        for name, value in about.items():
            earlier = known[name].setdefault(value, number)
            if rows[earlier - 1] != rows[-1]:
                raise LabelsError(
                    f"labels row {number}: an earlier row has the same key, other values"
                )
    said = "" if habits == _PLAIN else repr(habits)  # said otherwise, it is another file
    some = known["key"]
    studies, patients = some | known["study_uid"], some | known["patient_id"]
    return Labels(
        digest=hashlib.sha256(data + said.encode()).hexdigest()[:16],
        rows=rows,
        keys=keys,
        objects=some | known["object"],
        studies={privacy.study_key(key, uid): row for uid, row in studies.items()},
        patients={privacy.person_key(key, text): row for text, row in patients.items()},
        mixed="key" in names,
        read_as=read_as,
    )


def without_views(label: Label) -> Label:
    """Return the label less what needs the pixels: names of views, their size, whose they are."""
    return replace(label, views=(), pixel_mm=None, patient="")


def apply(label: Label, scan: Scan) -> Scan:
    """Return the scan with what a label says of it; the header where it says nothing."""
    flags = set(scan.flags)
    if label.implausible:
        flags.add("age_implausible")
    if label.age_years is not None:
        known = scan.age_years
        if known is not None and abs(known - label.age_years) > LABEL_TOLERANCE_YEARS:
            flags.add("label_age_disagrees")
        flags -= {"age_implausible", "age_disagrees"}
        scan = replace(scan, age_years=label.age_years, age_source="labels")
    if label.sex is not None:
        if scan.sex is not None and scan.sex != label.sex:
            flags.add("label_sex_disagrees")
        scan = replace(scan, sex=label.sex)
    if label.pixel_mm is not None:
        flags -= {"pixel_size_missing", "pixel_size_implausible"}
        scan = replace(scan, pixel_mm=(label.pixel_mm, label.pixel_mm))
    if label.views:
        if len(label.views) == len(scan.views):
            named = zip(label.views, scan.views, strict=True)
            views = tuple(View(name=name, counts=view.counts) for name, view in named)
            flags -= {"view_unknown", "view_conflict"}
            scan = replace(scan, views=views)
        else:
            flags.add("label_views_do_not_fit")
    if label.patient:
        scan = replace(scan, identity=replace(scan.identity, patient=label.patient))
    return replace(scan, flags=tuple(sorted(flags)))


def _rows(table: pa.Table) -> Iterator[dict[str, str]]:
    for batch in table.to_batches(max_chunksize=65536):
        for row in batch.to_pylist():
            yield {
                name: "" if value is None or value.strip().upper() in ABSENT else value.strip()
                for name, value in row.items()
            }


def _label(row: Mapping[str, str], number: int) -> Label:
    age = _age(row, number)
    plausible = age is not None and archive_dates.plausible(age)
    views = tuple(word.strip() for word in row.get("view", "").lower().split("+") if word.strip())
    if not set(views) <= {ANTERIOR, POSTERIOR} or len(set(views)) < len(views):
        raise _wrong(number, "view", "anterior, posterior or anterior+posterior")
    return Label(
        age_years=age if plausible else None,
        implausible=age is not None and not plausible,
        sex=_SEXES[row.get("sex") or "O"],
        views=views,
        pixel_mm=_pixel_mm(row, number),
        patient=row.get("patient", ""),
    )


def _age(row: Mapping[str, str], number: int) -> float | None:
    if text := row.get("age_years", ""):
        negative = text.startswith("-")
        age = archive_dates.parse_age(text.removeprefix("-"))
        if age is None:
            raise _wrong(number, "age_years", "years such as 63.5, or an age such as 063Y")
        return -age if negative else age
    dates = []
    for column in ("birth_date", "scan_date"):
        if text := row.get(column, ""):
            if (date := archive_dates.parse_date(text)) is None:
                raise _wrong(number, column, "a date such as 1956-03-21, 19560321 or 21.03.1956")
            dates.append(date)
    none = archive_dates.stands_for_none(row.get("birth_date", ""))  # no age says otherwise
    return (float("nan") if none else archive_dates.between(*dates)) if len(dates) == 2 else None


def _pixel_mm(row: Mapping[str, str], number: int) -> float | None:
    if not (text := row.get("pixel_mm", "")):
        return None
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < 100:
        raise _wrong(number, "pixel_mm", "the side of a pixel in mm")
    return size


def _wrong(number: int, column: str, expected: str) -> LabelsError:
    return LabelsError(f"labels row {number}, column {column}: expected {expected}")
