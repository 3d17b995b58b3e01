"""Labels as hospitals write them: bytes to rows, or one sentence that names a row and a flag."""

import argparse
import datetime
import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bae.archive import labels
from bae.archive.label_words import Habits
from bae.errors import LabelsError
from jobs import _archive, index

KEY = bytes(32)
SEMICOLONS = "semicolon-separated UTF-8"
DAYS = "key;birth_date;scan_date\n"


def _load(tmp_path: Path, data: bytes | str, **flags: str) -> labels.Labels:
    place = tmp_path / "labels"
    place.write_bytes(data if isinstance(data, bytes) else data.encode())
    return labels.load(str(place), KEY, Habits.of(*map(flags.get, ("dates", "sexes", "encoding"))))


def _ages(*ages: float | None) -> list[labels.Label]:
    return [labels.Label(age_years=age) for age in ages]


def _sexes(sexes: str) -> list[labels.Label]:
    return [labels.Label(sex=sex if sex in "FM" else None) for sex in sexes]


def _days(*pairs: tuple[tuple[int, int, int], tuple[int, int, int]]) -> list[labels.Label]:
    spans = [datetime.date(*day) - datetime.date(*birth) for birth, day in pairs]
    return _ages(*(span.days / 365.25 for span in spans))


READ = {
    "as always": ("key,age_years\na,63.5\n", _ages(63.5), "comma-separated UTF-8"),
    "semicolons": ("key;age_years\na;63.5\n", _ages(63.5), SEMICOLONS),
    "tabs": ("key\tage_years\na\t63,5\n", _ages(63.5), "tab-separated UTF-8, decimal commas"),
    "bars": ("key|sex\na|M\n", _sexes("M"), "bar-separated UTF-8"),
    "Excel says what separates": ("sep=;\r\nkey;sex\r\na;F\r\n", _sexes("F"), SEMICOLONS),
    "names of columns": (" KEY ; Age Years\na;50\n", _ages(50), SEMICOLONS),
    "decimal commas": (
        "key;age_years;pixel_mm\na;63,5;2,26\nb;70;\n",
        [labels.Label(age_years=63.5, pixel_mm=2.26), labels.Label(age_years=70)],
        f"{SEMICOLONS}, decimal commas",
    ),
    "quoted decimal commas": (
        '"key","age_years"\n"a","63,5"\n',
        _ages(63.5),
        "comma-separated UTF-8, decimal commas",
    ),
    "a DICOM age with a comma": (
        "key;age_years\na;63,5Y\n",
        _ages(63.5),
        f"{SEMICOLONS}, decimal commas",
    ),
    "a mark of UTF-8": ("\ufeffkey;sex\nä;F\n", _sexes("F"), SEMICOLONS),
    "UTF-16": ("key\tsex\nä\tF\n".encode("utf-16"), _sexes("F"), "tab-separated UTF-16"),
    "big-endian": (
        "\ufeffkey;sex\nä;F\n".encode("utf-16-be"),
        _sexes("F"),
        "semicolon-separated UTF-16",
    ),
    "Latin-1": (
        "key;sex\nMüller;männlich\n".encode("latin-1"),
        _sexes("M"),
        "semicolon-separated Windows-1252, sex männlich = M",
    ),
    "Windows-1252": (
        "key;sex\nŠkoda – 1;f\n".encode("cp1252"),
        _sexes("F"),
        "semicolon-separated Windows-1252",
    ),
    "day first": (
        DAYS + "a;31.12.1950;15.1.2011\nb;12.11.1950;20.01.2011\n",
        _days(((1950, 12, 31), (2011, 1, 15)), ((1950, 11, 12), (2011, 1, 20))),
        f"{SEMICOLONS}, dates day first",
    ),
    "month first": (
        DAYS + "a;12/31/1950;1/15/2011\nb;12/11/1950;01/02/2011\n",
        _days(((1950, 12, 31), (2011, 1, 15)), ((1950, 12, 11), (2011, 1, 2))),
        f"{SEMICOLONS}, dates month first",
    ),
    "each column its own": (
        DAYS + "a;31-12-1950;2011-01-15\nb;12-11-1950;01/20/2011\n",
        _days(((1950, 12, 31), (2011, 1, 15)), ((1950, 11, 12), (2011, 1, 20))),
        f"{SEMICOLONS}, birth_date day first, scan_date month first",
    ),
    "year first": (
        DAYS + "a;1950-12-31;20110115\nb;1950/3/7;2011-01-15T10:30:00\n",
        _days(((1950, 12, 31), (2011, 1, 15)), ((1950, 3, 7), (2011, 1, 15))),
        SEMICOLONS,
    ),
    "with a time": (
        DAYS + "a;12/31/1950 12:00:00 AM;1/15/2011 9:05 PM\n",
        _days(((1950, 12, 31), (2011, 1, 15))),
        f"{SEMICOLONS}, dates month first",
    ),
    "the same either way": (
        DAYS + "a;05.05.1950;20110115\n",
        _days(((1950, 5, 5), (2011, 1, 15))),
        SEMICOLONS,
    ),
    "SAP's and MySQL's none": (
        DAYS + "a;00.00.0000;20110115\nb;0000-00-00;\n",
        _ages(None, None),
        SEMICOLONS,
    ),
    "a day that stands for none": (
        DAYS + "a;01.01.1900;15.01.2011\nb;13.01.1900;15.01.2011\n",
        [labels.Label(implausible=True), *_days(((1900, 1, 13), (2011, 1, 15)))],
        f"{SEMICOLONS}, dates day first",
    ),
    "English": (
        "key,sex\na,Male\nb,female\nc,WOMAN\n",
        _sexes("MFF"),
        "comma-separated UTF-8, sex woman = F",
    ),
    "German": (
        "key;sex\na;m\nb;w\nc;Mann\nd;Frau\ne;d\n",
        _sexes("MFMFO"),
        f"{SEMICOLONS}, sex d = O, frau = F, mann = M, w = F",
    ),
    "French": (
        "key;sex\na;Homme\nb;Féminin\n",
        _sexes("MF"),
        f"{SEMICOLONS}, sex féminin = F, homme = M",
    ),
    "French letters": ("key;sex\na;H\nb;F\n", _sexes("MF"), f"{SEMICOLONS}, sex h = M"),
    "Spanish": (
        "key;sex\na;Hombre\nb;mujer\nc;Varón\n",
        _sexes("MFM"),
        f"{SEMICOLONS}, sex hombre = M, mujer = F, varón = M",
    ),
    "Italian": (
        "key;sex\na;Maschio\nb;Femmina\n",
        _sexes("MF"),
        f"{SEMICOLONS}, sex femmina = F, maschio = M",
    ),
    "Dutch": ("key;sex\na;Man\nb;Vrouw\n", _sexes("MF"), f"{SEMICOLONS}, sex man = M, vrouw = F"),
    "decomposed": (
        "key;sex\na;ma\u0308nnlich\n",
        _sexes("M"),
        f"{SEMICOLONS}, sex ma\u0308nnlich = M",
    ),
    "empty columns and rows": (
        "key;sex;;\na;M;;\n;;;\nb;F;;\n ; ;;\n;;;\n",
        _sexes("MF"),
        f"{SEMICOLONS}, empty rows left out",
    ),
    "more empty cells than columns": ("key;sex\na;M;;\nb;F\n;;;\n", _sexes("MF"), SEMICOLONS),
    "lines in a cell": ('key;sex\n"a\nb";M\nb;F\n', _sexes("MF"), SEMICOLONS),
    "pandas' and R's row numbers": (
        '"","key","sex"\n"1","a","M"\n"2","b","F"\n',
        _sexes("MF"),
        "comma-separated UTF-8, row numbers left out",
    ),
    "nothing": (
        "key;age_years;sex\na;NA;n/a\nb;-;\nc;#NV;k.A.\nd;50;.\n",
        _ages(None, None, None, 50),
        SEMICOLONS,
    ),
    "old Mac's lines": ("key;sex\ra;M\rb;F\r", _sexes("MF"), SEMICOLONS),
    "only names": ("key;sex;\n", [], SEMICOLONS),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_plain_is_read_and_said(tmp_path: Path, name: str) -> None:
    """The rows are what a person would read; the phrase says how."""
    data, rows, said = READ[name]
    known = _load(tmp_path, data)
    assert list(known.rows) == rows
    assert known.read_as == said


REFUSED = {
    "either day": (
        DAYS + "a;5.5.1950;\nb;12/11/1950;\n",
        "row 2, column birth_date.*--label-dates",
    ),
    "settled in the other column only": (
        DAYS + "a;31.12.1950;1.2.2011\n",
        "row 1, column scan_date",
    ),
    "both orders": (
        DAYS + "a;1.2.1950;\nb;31.12.1950;\nc;12/31/1950;\n",
        "birth_date: row 2 can only be day first and row 3 only month first",
    ),
    "no such day": (DAYS + "a;31.02.1950;\n", "row 1, column birth_date: expected a date"),
    "a year of two digits": (DAYS + "a;31.12.50;\n", "row 1, column birth_date: expected a date"),
    "a day of Excel": (DAYS + "a;18628;\n", "row 1, column birth_date: expected a date"),
    "numbers for sexes": ("key;sex\na;M\nb;2\n", "row 2, column sex: .*--label-sex 1=M,2=F"),
    "hombre or hembra": ("key;sex\na;M\nb;H\n", "row 2, column sex: .*--label-sex"),
    "hombres alone": ("key;sex\na;H\nb;H\n", "row 1, column sex: .*--label-sex"),
    "H beside F and M": ("key;sex\na;F\nb;M\nc;H\n", "row 3, column sex: .*--label-sex"),
    "divers or donna": ("key;sex\na;M\nb;D\n", "row 2, column sex: .*--label-sex"),
    "uomo or unknown": ("key;sex\na;U\nb;D\n", "row 1, column sex: .*--label-sex"),
    "vrouw or varón": ("key;sex\na;M\nb;V\n", "row 2, column sex: .*--label-sex"),
    "thousands": ("key;age_years\na;1.234,5\n", "row 1, column age_years: expected years"),
    "millions": ("key;pixel_mm\na;1,234,5\n", "row 1, column pixel_mm: expected the side"),
    "commas and points": (
        "key;pixel_mm\na;2,26\nb;3\nc;2.26\n",
        "pixel_mm: a decimal comma in row 1 and a point in row 3",
    ),
    "commas that separate": ("key,age_years,sex\na,63,5,M\n", "row 1: 4 cells for 3 columns"),
    "a cell too few": ("key;age_years;sex\na;63;M\nb;63\n", "row 2: 2 cells for 3 columns"),
    "a value without a name": (
        "key;sex;\na;M;\nb;F;x\n",
        "row 2: column 3 has a value, but no name",
    ),
    "one name twice": ("key;Sex;sex\na;M;F\n", "two columns are called 'sex'"),
    "no names": ("Doe;Doe\n", "no column 'key'"),
    "a row without a key": ("key;sex\na;M\n;F\n", "row 2: the key is empty"),
    "whose letters decide a split": (
        "key;patient\na;Doe\nb;Müller\n".encode("latin-1"),
        "row 2, column patient: .*--label-encoding windows-1252",
    ),
    "UTF-8 with a broken letter": (
        "key;sex\nMüller;M\n".encode() + b"B\xfcrger;F\n",
        "line 3: not UTF-8;.*--label-encoding",
    ),
    "neither": ("key;sex\nMüller;M\n".encode("cp850"), "line 2: not UTF-8 or .*--label-encoding"),
    "UTF-16 without a mark": ("key;sex\na;M\n".encode("utf-16-le"), "--label-encoding utf-16-le"),
    "UTF-16 cut off": ("key;sex\na;M\n".encode("utf-16")[:-1], "not UTF-16;.*--label-encoding"),
    "a workbook": (b"PK\3\4" + bytes(99), "a workbook of Excel; save it as CSV UTF-8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_plain_is_refused_with_a_row(tmp_path: Path, name: str) -> None:
    """And the flag that settles it, but no value."""
    data, expected = REFUSED[name]
    with pytest.raises(LabelsError, match=expected) as wrong:
        _load(tmp_path, data)
    said = str(wrong.value)
    assert "\n" not in said
    assert not [value for value in ("Doe", "ller", "12/11", "1950", "31.") if value in said]


@pytest.mark.parametrize(
    ("data", "flags", "rows", "said"),
    [
        (
            DAYS + "a;1.2.1950;3.4.2011\n",
            {"dates": "day-first"},
            _days(((1950, 2, 1), (2011, 4, 3))),
            f"{SEMICOLONS}, dates day first",
        ),
        (
            DAYS + "a;1/2/1950;20110115\n",
            {"dates": "month-first"},
            _days(((1950, 1, 2), (2011, 1, 15))),
            f"{SEMICOLONS}, dates month first",
        ),
        (
            "key;sex\na;1\nb;2\nc;9\n",
            {"sexes": "1=M, 2=f,9="},
            _sexes("MFO"),
            f"{SEMICOLONS}, sex 1 = M, 2 = F, 9 = O",
        ),
        (
            "key;sex\na;H\nb;M\n",
            {"sexes": "H=M,M=F"},
            _sexes("MF"),
            f"{SEMICOLONS}, sex h = M, m = F",
        ),
        (
            "key;sex\na;V\nb;man\n",
            {"sexes": "V=F"},
            _sexes("FM"),
            f"{SEMICOLONS}, sex man = M, v = F",
        ),
        (
            "key;patient\na;Müller\n".encode("cp850"),
            {"encoding": "cp850"},
            [labels.Label(patient="Müller")],
            "semicolon-separated cp850",
        ),
        (
            "key;patient\na;Müller\n".encode("utf-16-le"),
            {"encoding": "utf-16-le"},
            [labels.Label(patient="Müller")],
            "semicolon-separated utf-16-le",
        ),
    ],
)
def test_a_flag_settles_it(
    tmp_path: Path,
    data: bytes | str,
    flags: dict[str, str],
    rows: list[labels.Label],
    said: str,
) -> None:
    """Without it the file is refused."""
    with pytest.raises(LabelsError):
        _load(tmp_path, data)
    known = _load(tmp_path, data, **flags)
    assert list(known.rows) == rows
    assert known.read_as == said


def test_the_same_file_with_another_flag_is_another_file(tmp_path: Path) -> None:
    """Else tables that have the first reading would keep it."""
    data = DAYS + "a;1.2.1950;8.4.2011\n"
    first, second = (_load(tmp_path, data, dates=f"{what}-first") for what in ("day", "month"))
    assert first.rows != second.rows and first.digest != second.digest
    plain = "key,age_years\na,50\n"
    digest = hashlib.sha256(plain.encode()).hexdigest()[:16]  # as before there were flags
    assert _load(tmp_path, plain).digest == digest


@pytest.mark.parametrize(
    ("data", "flags", "expected"),
    [
        (DAYS + "a;31.12.1950;\n", {"dates": "month-first"}, "row 1.*is not month-first"),
        ("key;sex\na;M\nb;H\n", {"sexes": "H=M"}, "row 1, column sex.*all single letters"),
        ("key;sex\na;3\n", {"sexes": "1=M,2=F"}, "row 1, column sex"),
        ("key;sex\na;1\n", {"sexes": "1"}, "--label-sex: expected"),
        ("key;sex\na;1\n", {"sexes": "1=male"}, "--label-sex: expected"),
        ("key;sex\na;M\n", {"encoding": "base64"}, "--label-encoding: unknown"),
        ("key;sex\na;M\n", {"encoding": "windows"}, "--label-encoding: unknown"),
        (b"key;sex\n\xe4;M\n", {"encoding": "utf-8"}, "line 2: not utf-8;"),
    ],
)
def test_a_flag_that_does_not_fit_is_refused(
    tmp_path: Path, data: bytes | str, flags: dict[str, str], expected: str
) -> None:
    """Beside H, M may be a mujer, so it has to be said, too."""
    with pytest.raises(LabelsError, match=expected):
        _load(tmp_path, data, **flags)


def _parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_text_in_parquet_is_read_as_in_csv(tmp_path: Path) -> None:
    """Typed columns beside it as ever."""
    data = _parquet(
        Key=["a", "b"],
        birth_date=["31.12.1950", "1.2.1950"],
        scan_date=[datetime.date(2011, 1, 15), None],
        sex=pa.array(["männlich", None]).dictionary_encode(),
        pixel_mm=[2.26, None],
    )
    known = _load(tmp_path, data)
    [age] = _days(((1950, 12, 31), (2011, 1, 15)))
    assert list(known.rows) == [replace(age, sex="M", pixel_mm=2.26), labels.Label()]
    assert known.read_as == "Parquet, dates day first, sex männlich = M"


@pytest.mark.parametrize("values", [[1, 2], [1.0, 2.0], ["1", "2"]])
def test_numbers_in_parquet_are_named_as_people_see_them(
    tmp_path: Path, values: list[object]
) -> None:
    """Whatever type a data frame made of them."""
    known = _load(tmp_path, _parquet(key=["a", "b"], sex=values), sexes="1=M,2=F")
    assert list(known.rows) == _sexes("MF")


PEOPLE = st.lists(
    st.tuples(
        st.dates(datetime.date(1920, 1, 1), datetime.date(1990, 12, 31)),
        st.sampled_from(["M", "F", ""]),
        st.decimals(1, 9, places=2),
    ),
    max_size=6,
)
WORDS = {"M": ["M", "male", "Mann", "homme"], "F": ["F", "female", "Frau", "femme"], "": ["", "NA"]}


@settings(max_examples=60, deadline=None)
@given(PEOPLE, st.data())
def test_habits_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    people: list[tuple[datetime.date, str, object]],
    data: st.DataObject,
) -> None:
    """A table written as somebody likes it says what it says when written as we like it."""

    def pick(*choices: str) -> str:
        return data.draw(st.sampled_from(choices))

    people = [*people, (datetime.date(1950, 12, 31), "M", 2)]  # settles the order
    separator, order = pick(";", "\t", "|"), pick("%d.%m.%Y", "%m/%d/%Y", "%Y-%m-%d", "%Y%m%d")
    point, end, blank = pick(",", "."), pick("\n", "\r\n"), pick("", separator * 4)
    strict = ["object,birth_date,scan_date,sex,pixel_mm"]
    odd = [separator.join(["Object", " BIRTH_DATE", "scan_date ", "Sex", "pixel_mm"])]
    for number, (birth, sex, size) in enumerate(people):
        strict.append(f"ü{number}.dcm,{birth},2011-01-31,{sex},{size}")
        day = datetime.date(2011, 1, 31).strftime(order)
        word, mm = pick(*WORDS[sex]), str(size).replace(".", point)
        odd.append(separator.join([f"ü{number}.dcm", birth.strftime(order), day, word, mm]))
    folder = tmp_path_factory.mktemp("labels")
    expected = _load(folder, "\n".join(strict))
    encoding = pick("utf-8", "utf-8-sig", "utf-16", "cp1252")
    found = _load(folder, end.join([*odd, blank]).encode(encoding))
    assert (found.rows, found.keys, found.objects) == (
        expected.rows,
        expected.keys,
        expected.objects,
    )


def test_wrong_labels_are_exit_code_2_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any object is read; one line."""
    monkeypatch.setenv("BAE_PSEUDONYM_KEY", "11" * 32)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.dcm").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("key;sex\na;M\nb;2\n")
    tables = tmp_path / "tables"
    places = ["--archive", str(tmp_path / "archive"), "--tables", str(tables)]
    for flags, said in (([], "row 2"), (["--label-sex", "2:F"], "--label-sex")):
        assert index.main([*places, "--labels", str(tmp_path / "labels.csv"), *flags]) == 2
        error = capsys.readouterr().err.strip()
        assert said in error and len(error.splitlines()) == 1
    assert not tables.exists()


def test_table_one_hands_the_flags_on() -> None:
    """To the index that it runs, as they were given."""
    parser = argparse.ArgumentParser()
    _archive.add_labels(parser)
    flags = ["--labels", "l.csv", "--label-dates", "day-first", "--label-sex", "1=M"]
    assert _archive.labels_argv(parser.parse_args(flags)) == flags
    assert _archive.labels_argv(parser.parse_args([])) == []
