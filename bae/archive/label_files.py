"""The form of a labels file: bytes to columns of text, whoever wrote them.

Encoding, separator and names of columns are found here, what cells say in ``label_words``.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from bae.archive import label_words
from bae.archive.label_words import Habits
from bae.errors import LabelsError
from bae.overrides import suggestion

KEYS = ("object", "patient_id", "study_uid", "key")
COLUMNS = (*KEYS, "age_years", "birth_date", "scan_date", "sex", "view", "pixel_mm", "patient")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_EXCEL = (b"PK\3\4", b"\xd0\xcf\x11\xe0")
_GUESS = "Windows-1252"


def read(data: bytes, habits: Habits) -> tuple[pa.Table, str]:
    """Read CSV or Parquet into columns of text, in the words that ``labels`` knows.

    Returns:
        The rows that are not empty; and how they were read, such as "semicolon-separated
        Windows-1252, decimal commas, dates day first".

    Raises:
        LabelsError: it cannot be read, or has other columns than ``COLUMNS``, or means two things.
            Messages name rows and columns, never values; rows are counted below the columns'
            names, without empty ones.
    """
    encoding = ""
    try:
        if data[:4] == b"PAR1":
            table = pyarrow.parquet.read_table(io.BytesIO(data))
            columns, names = [_text(column) for column in table.columns], table.column_names
            said = ["Parquet"]
        else:
            text, encoding = _decoded(data, habits.encoding)
            columns, names, separator = _csv(text)
            said = [f"{_SEPARATORS.get(separator, 'otherwise')}-separated {encoding}"]
    except (pa.ArrowException, csv.Error, OSError) as error:
        # pyarrow's text quotes cells of the file
        raise LabelsError(
            f"labels: neither CSV nor Parquet that can be read ({type(error).__name__})"
        ) from None
    table, dropped = _full(columns, ["_".join(name.lower().split()) for name in names])
    if encoding == _GUESS and not habits.encoding and "patient" in table.column_names:
        # a key that is read wrongly matches nothing, but this goes into pseudonyms and splits
        plain = pc.string_is_ascii(table["patient"])
        if (row := pc.index(plain, pa.scalar(False)).as_py()) >= 0:
            raise LabelsError(
                f"labels row {row + 1}, column patient: letters that are not UTF-8; say "
                f"--label-encoding {_GUESS.lower()}, or what they are, or save the file as UTF-8"
            )
    table, words = label_words.plain(table, habits)
    return table, ", ".join([*said, *dropped, *words])


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of Parquet as text; a time with a zone as the date there."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pc.strftime(column, "%Y-%m-%d")
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return column.cast(pa.string())


def _decoded(data: bytes, encoding: str | None) -> tuple[str, str]:
    """Return text and the name of its encoding."""
    if data.startswith(_EXCEL):
        raise LabelsError("labels: a workbook of Excel; save it as CSV UTF-8")
    if encoding is None and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16"
    tries = [encoding] if encoding else ["UTF-8", _GUESS]
    for name in tries:
        try:
            text = data.decode(name)
        except UnicodeError as error:
            # letters in UTF-8 beside the broken one: no other encoding has those by chance
            start = error.start if isinstance(error, UnicodeDecodeError) else 0
            if name != tries[-1] and data.decode("UTF-8", "ignore").isascii():
                continue
            line = data.count(b"\n", 0, start) + 1
            raise LabelsError(
                f"labels line {line}: not {' or '.join(tries[: tries.index(name) + 1])}; say what "
                "it is, as in --label-encoding cp850, or save the file as UTF-8"
            ) from None
        if "\0" in text[:1000]:
            raise LabelsError(
                "labels line 1: zeros between letters, as in UTF-16 without its mark; say "
                "--label-encoding utf-16-le, or save the file as UTF-8"
            )
        break
    return text.removeprefix("\ufeff"), name


def _csv(text: str) -> tuple[list[pa.ChunkedArray], list[str], str]:
    """Read CSV with any line ends and blank first lines: columns, their names, the separator."""
    if not text.strip():
        raise pa.ArrowInvalid("empty")
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n\t ")
    said = re.match(r'"?sep=(.)"?\n+', text, re.IGNORECASE)  # as Excel writes and reads
    text = text[said.end() :] if said else text
    head = text.split("\n", 1)[0]
    delimiter = said[1] if said else max(_SEPARATORS, key=head.count)
    names = next(csv.reader([head], delimiter=delimiter), [])
    places = [str(place) for place in range(len(names))]  # of one name twice, too
    body = text[len(head) :].lstrip("\n")
    if not body:
        return [pa.chunked_array([], pa.string())] * len(names), names, delimiter
    try:
        columns = pyarrow.csv.read_csv(
            io.BytesIO(body.encode()),
            read_options=pyarrow.csv.ReadOptions(column_names=places),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False
            ),
        ).columns
    except pa.ArrowInvalid:  # slowly: too many or too few cells, or lines inside of some
        rows = list(_cells(body, delimiter, len(names)))
        columns = [
            pa.chunked_array([[row[place] for row in rows]], pa.string())
            for place in range(len(names))
        ]
    return columns, names, delimiter


def _cells(body: str, delimiter: str, expected: int) -> Iterator[list[str]]:
    rows = csv.reader(io.StringIO(body), delimiter=delimiter, strict=True)
    for number, row in enumerate((row for row in rows if "".join(row).strip()), start=1):
        if len(row) < expected or "".join(row[expected:]).strip():
            raise LabelsError(
                f"labels row {number}: {len(row)} cells for {expected} columns; put quotes round "
                "cells that hold the separator"
            )
        yield row[:expected]


def _full(columns: list[pa.ChunkedArray], names: list[str]) -> tuple[pa.Table, list[str]]:
    """Check the names of columns, leave out what is empty, and say so."""
    if not set(names) & set(KEYS):  # first: without a line of names, "names" are people
        raise LabelsError(f"labels: no column 'key'; columns are {', '.join(COLUMNS)}")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise LabelsError(f"labels: two columns are called {twice[0]!r}")
    if unknown := [name for name in names if name and name not in COLUMNS]:
        raise LabelsError(
            f"labels: unknown column {unknown[0]!r}; {suggestion(unknown[0], COLUMNS)}"
        )
    if ("birth_date" in names) != ("scan_date" in names):
        raise LabelsError("labels: an age needs both columns birth_date and scan_date")
    dropped = []
    empty = _blank(columns[0])
    for column in columns[1:]:
        if pc.any(empty).as_py():  # mostly the first has no empty cell
            empty = pc.and_(empty, _blank(column))
    if pc.any(empty).as_py():
        columns = [column.filter(pc.invert(empty)) for column in columns]
        dropped.append("empty rows left out")
    kept = {}
    for place, (name, column) in enumerate(zip(names, columns, strict=True)):
        if name:
            kept[name] = column
        elif place == 0 and _counts(column):
            dropped.append("row numbers left out")
        elif (row := pc.index(_blank(column), pa.scalar(False)).as_py()) >= 0:
            raise LabelsError(f"labels row {row + 1}: column {place + 1} has a value, but no name")
    return pa.table(kept), dropped


def _blank(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.or_(pc.equal(column, ""), pc.utf8_is_space(column)), True)


def _counts(column: pa.ChunkedArray) -> bool:
    """Say whether a column is the row numbers that pandas (from 0) and R (from 1) write."""
    found = column.to_pylist()
    return any(found == [str(n + start) for n in range(len(found))] for start in (0, 1))
