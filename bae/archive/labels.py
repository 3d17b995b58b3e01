"""Ages, sexes and views from a labels file.

A labels file is CSV or Parquet with one row per scan, patient or study:

=============  ==================================================================
``key``        object name (whole URI, any trailing part of its path, or the file
               name without its extension), Patient ID, or Study Instance UID
``age_years``  age at acquisition, or
``birth_date`` with ``scan_date``, from which the age follows
``sex``        F, M, female, male; anything else known counts as not known
``view``       ``anterior`` or ``posterior``; ``anterior+posterior`` for two views
``pixel_mm``   side of a pixel, mm
``patient``    who it is, for archives without headers: all scans of one are in one split
=============  ==================================================================

Only ``key`` is required. Labels override the header.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from bae import storage
from bae.archive import dates as archive_dates
from bae.errors import LabelsError
from bae.overrides import suggestion
from bae.scan import ANTERIOR, FEMALE, MALE, POSTERIOR, Scan, View

COLUMNS = ("key", "age_years", "birth_date", "scan_date", "sex", "view", "pixel_mm", "patient")
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


@dataclass(frozen=True)
class Labels:
    """A labels file in memory; about 200 bytes a row when pickled."""

    by_key: Mapping[str, Label]

    def __repr__(self) -> str:
        """Show no keys: they identify people."""
        return f"Labels({len(self.by_key)} keys)"


def load(uri: str) -> Labels:
    """Read a labels file.

    Args:
        uri: CSV or Parquet; the content decides.

    Raises:
        StorageError: the file cannot be read.
        LabelsError: no ``key`` column, an unknown column, or a value that is no age, date,
            sex, view or length. Messages name rows and columns, never values.
    """
    table = _table(storage.read_bytes(uri))
    unknown = [name for name in table.column_names if name not in COLUMNS]
    if "key" not in table.column_names:
        raise LabelsError(f"labels: no column 'key'; columns are {', '.join(COLUMNS)}")
    if unknown:
        raise LabelsError(
            f"labels: unknown column {unknown[0]!r}; {suggestion(unknown[0], COLUMNS)}"
        )
    if ("birth_date" in table.column_names) != ("scan_date" in table.column_names):
        raise LabelsError("labels: an age needs both columns birth_date and scan_date")
    by_key: dict[str, Label] = {}
    for number, row in enumerate(_rows(table), start=1):
        key = row.pop("key")
        if not key:
            raise LabelsError(f"labels row {number}: the key is empty")
        label = _label(row, number)
        if by_key.setdefault(key, label) != label:
            raise LabelsError(f"labels row {number}: an earlier row has the same key, other values")
    return Labels(by_key)


def apply(labels: Labels, object_uri: str, scan: Scan) -> Scan:
    """Return the scan with what the labels say of it; the header where they say nothing.

    Args:
        labels: as loaded.
        object_uri: the object, ``<zip>!/<member>`` for a member.
        scan: as decoded.
    """
    label = next((labels.by_key[k] for k in _keys(object_uri, scan) if k in labels.by_key), None)
    if label is None:
        return scan
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
            columns = [column.cast(pa.string()) for column in table.columns]
            return pa.table(columns, names=table.column_names)
        head = data.split(b"\n", 1)[0].decode("utf-8-sig").strip()
        delimiter = ";" if head.count(";") > head.count(",") else ","
        names = [name.strip().strip('"') for name in head.split(delimiter)]
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # pyarrow's text quotes cells of the file
        raise LabelsError(
            f"labels: neither CSV nor Parquet that can be read ({type(error).__name__})"
        ) from None


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
    return archive_dates.between(*dates) if len(dates) == 2 else None


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


def _keys(object_uri: str, scan: Scan) -> Iterator[str]:
    """Yield what a label's key may be, the most exact first."""
    yield object_uri
    parts = object_uri.replace("!/", "/").split("/")
    for start in range(1, len(parts)):
        yield "/".join(parts[start:])
    yield PurePosixPath(parts[-1]).stem
    if scan.identity.study:
        yield scan.identity.study
    if scan.identity.patient:
        yield scan.identity.patient.rpartition("\0")[2]
