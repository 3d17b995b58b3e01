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
``sex``         F, M, female, male; anything else known counts as not known
``view``        ``anterior`` or ``posterior``; ``anterior+posterior`` for two views
``pixel_mm``    side of a pixel, mm
``patient``     who it is, for archives without headers: all scans of one are in one split
==============  =================================================================

One of the first four is required. Labels override the header. A patient's ID may also be
the name of somebody else's file: where a ``key`` could mean both, it means neither.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from bae import storage
from bae.archive import dates as archive_dates
from bae.archive import privacy
from bae.errors import LabelsError
from bae.overrides import suggestion
from bae.scan import ANTERIOR, FEMALE, MALE, POSTERIOR, Scan, View

KEYS = ("object", "patient_id", "study_uid", "key")
COLUMNS = (*KEYS, "age_years", "birth_date", "scan_date", "sex", "view", "pixel_mm", "patient")
_SEXES = {"F": FEMALE, "FEMALE": FEMALE, "M": MALE, "MALE": MALE, "O": None, "OTHER": None}
_ABSENT = {"", "NA", "N/A", "NAN", "NONE", "NULL", "UNKNOWN", "?", "-"}

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
        digest: of the file's bytes.
        rows: what each row says.
        keys: what each row is about, for messages in ``restricted/``.
        objects, studies, patients: key to the row's number, from 1.
        mixed: whether the file has a column ``key``, whose meaning has to be found out.
    """

    digest: str
    rows: Sequence[Label]
    keys: Sequence[str]
    objects: Mapping[str, int]
    studies: Mapping[str, int]
    patients: Mapping[str, int]
    mixed: bool

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


def load(uri: str, key: bytes) -> Labels:
    """Read a labels file.

    Args:
        uri: CSV or Parquet; the content decides.
        key: of the pseudonyms.

    Raises:
        StorageError: the file cannot be read.
        LabelsError: no column that says what a row is about, an unknown column, two of one name,
            or a value that is no age, date, sex, view or length. Messages name rows and
            columns, never values.
    """
    data = storage.read_bytes(uri)
    table = _table(data)
    names = table.column_names
    if not set(names) & set(KEYS):
        raise LabelsError(f"labels: no column 'key'; columns are {', '.join(COLUMNS)}")
    if unknown := [name for name in names if name not in COLUMNS]:
        raise LabelsError(
            f"labels: unknown column {unknown[0]!r}; {suggestion(unknown[0], COLUMNS)}"
        )
    if ("birth_date" in names) != ("scan_date" in names):
        raise LabelsError("labels: an age needs both columns birth_date and scan_date")
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
    some = known["key"]
    studies, patients = some | known["study_uid"], some | known["patient_id"]
    return Labels(
        digest=hashlib.sha256(data).hexdigest()[:16],
        rows=rows,
        keys=keys,
        objects=some | known["object"],
        studies={privacy.study_key(key, uid): row for uid, row in studies.items()},
        patients={privacy.person_key(key, text): row for text, row in patients.items()},
        mixed="key" in names,
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


def _table(data: bytes) -> pa.Table:
    """Read CSV or Parquet into columns of text."""
    try:
        if data[:4] == b"PAR1":
            table = pyarrow.parquet.read_table(io.BytesIO(data))
            columns = [_text(column) for column in table.columns]
            names = table.column_names
        else:
            table, names = _csv(data)
            columns = table.columns
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # pyarrow's text quotes cells of the file
        raise LabelsError(
            f"labels: neither CSV nor Parquet that can be read ({type(error).__name__})"
        ) from None
    names = [name.strip() for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LabelsError(f"labels: two columns are called {twice[0]!r}")
    return pa.table(columns, names=names)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of Parquet as text; a time with a zone as the date there."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pc.strftime(column, "%Y-%m-%d")
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return column.cast(pa.string())


def _csv(data: bytes) -> tuple[pa.Table, list[str]]:
    """Read CSV with any line ends, blank first lines, a byte order mark, commas or semicolons."""
    if not data.strip():
        raise pa.ArrowInvalid("empty")
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").lstrip("\n\t ")
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    names = next(csv.reader([head], delimiter=delimiter), [])
    columns = [str(place) for place in range(len(names))]  # of one name twice, too
    body = text[len(head) :].lstrip("\n")
    if not body:
        return pa.table([pa.array([], pa.string())] * len(names), names=columns), names
    return pyarrow.csv.read_csv(
        io.BytesIO(body.encode()),
        read_options=pyarrow.csv.ReadOptions(column_names=columns),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
        ),
    ), names


def _rows(table: pa.Table) -> Iterator[dict[str, str]]:
    for batch in table.to_batches(max_chunksize=65536):
        for row in batch.to_pylist():
            yield {
                name: "" if value is None or value.strip().upper() in _ABSENT else value.strip()
                for name, value in row.items()
            }


def _label(row: Mapping[str, str], number: int) -> Label:
    age = _age(row, number)
    plausible = age is not None and archive_dates.plausible(age)
    sex = row.get("sex", "").upper()
    if sex and sex not in _SEXES:
        raise _wrong(number, "sex", "F, M or empty")
    views = tuple(word.strip() for word in row.get("view", "").lower().split("+") if word.strip())
    if not set(views) <= {ANTERIOR, POSTERIOR} or len(set(views)) < len(views):
        raise _wrong(number, "view", "anterior, posterior or anterior+posterior")
    return Label(
        age_years=age if plausible else None,
        implausible=age is not None and not plausible,
        sex=_SEXES.get(sex),
        views=views,
        pixel_mm=_pixel_mm(row, number),
        patient=row.get("patient", ""),
    )


def _age(row: Mapping[str, str], number: int) -> float | None:
    if text := row.get("age_years", ""):
        negative = text.startswith("-")
        age = archive_dates.parse_age(text.removeprefix("-"))
        if age is None:
            raise _wrong(number, "age_years", "years, or an age such as 063Y")
        return -age if negative else age
    dates = []
    for column in ("birth_date", "scan_date"):
        if text := row.get(column, ""):
            if (date := archive_dates.parse_date(text)) is None:
                raise _wrong(number, column, "a date such as 1956-03-21 or 19560321")
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
