"""What people write in cells of a labels file, in the words that ``labels`` knows.

Dates become ``1950-12-31``, sexes F, M or O, decimal commas points. Each distinct value is
looked at once. Dates and numbers that are none stay as they are, and ``labels`` refuses them.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from bae.archive import dates as archive_dates
from bae.errors import LabelsError

ABSENT = {"", "NA", "N/A", "NAN", "NONE", "NULL", "UNKNOWN", "?", "-"}
"""Cells that say nothing, in capitals."""

_MORE_ABSENT = {"#N/A", "#NV", "N.A.", "K.A.", "."}
_NOTHING = ABSENT | _MORE_ABSENT
_PLAIN = {"age_years", "birth_date", "scan_date", "sex", "view", "pixel_mm"}
"""Columns in which more stands for nothing; elsewhere it may be somebody's initials."""

SEXES = ("F", "M", "O")
_OWN = {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M", "O": "O", "OTHER": "O"}
_WORDS = {
    "F": "f w female woman weiblich frau femme feminin femenino femenina feminino feminina mujer "
    "mulher hembra femmina femminile donna vrouw vrouwelijk kvinna kvinde kvinne kobieta zena",
    "M": "m male man mannlich maennlich mann homme masculin masculino masculina hombre homem varon "
    "macho maschio maschile uomo mannelijk mand mezczyzna muz",
    "O": "o other divers diverse diverso unbekannt inconnu desconocido sconosciuto onbekend",
}
_KNOWN = {word: sex for sex, words in _WORDS.items() for word in words.split()}

DAY_FIRST, MONTH_FIRST = "day-first", "month-first"
_TIME = r"(?:(?:T|,?\s+)\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[AP]\.?M\.?)?)?"
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-./])(\d{{1,2}})\2(\d{{4}}){_TIME}", re.I | re.A)
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-./])(\d{{1,2}})\2(\d{{1,2}}){_TIME}", re.I | re.A)
_NO_DAY = re.compile(rf"0{{8}}|0{{1,4}}[-./]0{{1,2}}[-./]0{{1,4}}{_TIME}")
_COMMA = re.compile(r"-?\d+,\d+\s*[DWMY]?", re.I | re.A)
_POINT = re.compile(r"-?\d+\.\d+\s*[DWMY]?", re.I | re.A)


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """What a labels file does not say of itself; None and empty where it has to.

    Attributes:
        dates: ``day-first`` or ``month-first``: how 12/11/1950 is meant.
        sexes: what values of the column ``sex`` mean, folded, to F, M or O.
        encoding: of the letters, as Python calls it.
    """

    dates: str | None = None
    sexes: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None

    @classmethod
    def of(cls, dates: str | None, sexes: str | None, encoding: str | None) -> "Habits":
        """Return habits from flags, sexes as ``1=M,2=F``.

        Raises:
            LabelsError: a flag means nothing.
        """
        meant = {}
        for word, equals, sex in (
            part.rpartition("=") for part in (sexes or "").split(",") if part
        ):
            if not equals or not word.strip() or sex.strip().upper() not in {*SEXES, ""}:
                raise LabelsError("--label-sex: expected values and sexes, such as 1=M,2=F,9=")
            meant[_folded(word)] = sex.strip().upper() or "O"
        try:
            b"key".decode(encoding or "ascii", "replace")  # of nothing, Python decodes by any name
        except (LookupError, ValueError):
            raise LabelsError(
                "--label-encoding: unknown; windows-1252, cp850, mac-roman and utf-16-le are known"
            ) from None
        return cls(dates=dates, sexes=meant, encoding=encoding or None)


def plain(table: pa.Table, habits: Habits) -> tuple[pa.Table, list[str]]:
    """Return the columns in plain words, and what that took, a phrase for each.

    Raises:
        LabelsError: a value means two things; the message names the flag that settles it.
    """
    orders: dict[str, str] = {}
    commas, words = False, set()
    for name in [name for name in table.column_names if name in _PLAIN]:
        column = table[name]
        values = pc.unique(column)  # in the order of rows
        cells = {text: text.strip() for text in values.to_pylist() if text is not None}
        new = {text: "" for text, cell in cells.items() if cell.upper() in _MORE_ABSENT}
        cells = {text: cell for text, cell in cells.items() if cell.upper() not in _NOTHING}
        if name == "sex":
            new |= (meant := _sexes(column, cells, habits.sexes))
            words = {
                f"{cells[text].lower()} = {sex}"
                for text, sex in meant.items()
                if _OWN.get(cells[text].upper()) != sex
            }
        elif name in ("birth_date", "scan_date"):
            meant, order = _dates(name, column, cells, habits.dates)
            new |= meant
            orders |= {name: order} if order else {}
        elif name in ("age_years", "pixel_mm"):
            new |= (meant := _numbers(name, column, cells))
            commas |= bool(meant)
        if new:
            said = [new.get(text, text) for text in values.to_pylist()]
            column = pc.take(pa.array(said, pa.string()), pc.index_in(column, values))
            table = table.set_column(table.column_names.index(name), name, column)
    if len(set(orders.values())) == 1:
        orders = {"dates": next(iter(orders.values()))}
    done = ["decimal commas"] if commas else []
    done += [f"{name} {order.replace('-', ' ')}" for name, order in sorted(orders.items())]
    done += [f"sex {', '.join(sorted(words))}"] if words else []
    return table, done


def _sexes(
    column: pa.ChunkedArray, cells: Mapping[str, str], told: Mapping[str, str]
) -> dict[str, str]:
    there = {text: _folded(cell) for text, cell in cells.items()}
    if told:  # M is a man in many languages, but beside H or V it may be a mujer
        known = {word: sex for word, sex in _KNOWN.items() if len(word) > 1} | dict(told)
    else:
        known = dict(_KNOWN)
        if "f" in there.values() and "m" not in there.values():
            known["h"] = "M"  # hommes and femmes; alone, or beside M, it may be a hembra
        if "w" in there.values():
            known["d"] = "O"  # weiblich and divers; else it may be a donna
    for text, word in there.items():
        if word not in known:
            raise LabelsError(
                f"labels row {_row(column, text)}, column sex: expected F, M, a word for them, or "
                "empty; --label-sex 1=M,2=F would say what numbers and all single letters mean"
            )
    return {text: known[word] for text, word in there.items() if known[word] != text}


def _dates(
    name: str, column: pa.ChunkedArray, cells: Mapping[str, str], told: str | None
) -> tuple[dict[str, str], str | None]:
    """Return dates as ISO 8601 has them, and which of day and month came first where it matters."""
    new: dict[str, str] = {}
    found: dict[str, tuple[int, int, int]] = {}
    only: dict[str, str] = {}  # order to the first text that has no other
    either = None
    for text, cell in cells.items():
        if _NO_DAY.fullmatch(cell):
            new[text] = ""  # as SAP and MySQL write it
        elif match := _YEAR_LAST.fullmatch(cell):
            one, two, year = found[text] = int(match[1]), int(match[3]), int(match[4])
            if one <= 12 and two <= 12:
                either = either or (text if one != two else None)
            elif one <= 12 or two <= 12:
                only.setdefault(DAY_FIRST if one > 12 else MONTH_FIRST, text)
        elif archive_dates.parse_date(cell) is None and (match := _YEAR_FIRST.fullmatch(cell)):
            new[text] = f"{match[1]}-{int(match[3]):02}-{int(match[4]):02}"
    rows = {order: _row(column, text) for order, text in only.items()}
    if len(rows) == 2:
        raise LabelsError(
            f"labels, column {name}: row {rows[DAY_FIRST]} can only be day first and row "
            f"{rows[MONTH_FIRST]} only month first; write dates as 1956-03-21"
        )
    if told and set(rows) - {told}:
        raise LabelsError(
            f"labels row {next(iter(rows.values()))}, column {name}: this date is not {told}, as "
            "--label-dates says"
        )
    order = told or next(iter(rows), None)
    if either and not order:
        raise LabelsError(
            f"labels row {_row(column, either)}, column {name}: day or month may be first, and no "
            f"row of the column tells; say --label-dates {DAY_FIRST} or {MONTH_FIRST}"
        )
    for text, (one, two, year) in found.items():
        day, month = (two, one) if order == MONTH_FIRST else (one, two)
        new[text] = f"{year:04}-{month:02}-{day:02}"
    return new, order if found else None


def _numbers(name: str, column: pa.ChunkedArray, cells: Mapping[str, str]) -> dict[str, str]:
    """Return numbers with a decimal point for those with a comma; no number here has thousands."""
    commas = [text for text, cell in cells.items() if _COMMA.fullmatch(cell)]
    points = [text for text, cell in cells.items() if _POINT.fullmatch(cell)] if commas else []
    if points:
        raise LabelsError(
            f"labels, column {name}: a decimal comma in row {_row(column, commas[0])} and a point "
            f"in row {_row(column, points[0])}; write all with a point"
        )
    return {text: cells[text].replace(",", ".") for text in commas}


def _folded(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text).casefold().strip(" .")
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _row(column: pa.ChunkedArray, text: str) -> int:
    return int(pc.index(column, pa.scalar(text)).as_py()) + 1
