"""The contract, and reading the tables with whatever an analyst has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import write_deltalake

from bae.errors import TablesError
from bae.tables import contract, current, delta, query, settings
from tests.fakes import rows

INFRA = Path(__file__).parents[2] / "infra"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tables after three nights: two models, a changed object, new objects."""
    place = str(tmp_path_factory.mktemp("it's tables"))
    rows.night(place, rows.listing(range(1, 200)), "m1")
    rows.night(place, rows.listing(range(1, 150)), "m22")
    rows.night(place, rows.listing(range(5, 8), version="v2"), "m1")
    return place


def test_every_column_is_described_and_carries_its_unit() -> None:
    """Numbers of a physical kind end in their unit; shares of an answer or a body have none."""
    for name, schema in contract.SCHEMAS.items():
        for field in schema:
            assert (field.metadata or {}).get(b"description"), (name, field.name)
            if pa.types.is_floating(field.type):
                unit = r"_(years|mm|share|min|max)$|^pixel_mm$|^weight$|^body_[xy]$"
                assert re.search(unit, field.name), field.name


def test_cohort_tables_have_no_column_that_leads_to_a_person() -> None:
    """No path, no etag, no birth date, no free text."""
    for name, schema in contract.SCHEMAS.items():
        if name.startswith("cohort/"):
            assert not {"object_uri", "source_uri", "etag", "message"} & set(schema.names)


def test_a_table_never_written_reads_as_empty(tmp_path: Path) -> None:
    """In the contract's schema, by all readers."""
    for name, schema in contract.SCHEMAS.items():
        assert delta.read(str(tmp_path), name).schema.equals(schema)
    connection = query.connect(str(tmp_path), restricted=True)
    for view in ("ages", "boxes", "heatmaps", "scans", "rejects", "latest_ages"):
        assert connection.sql(f"SELECT count(*) FROM {view}").fetchall() == [(0,)]


def test_an_unknown_table_is_refused(tmp_path: Path) -> None:
    """With the names there are."""
    with pytest.raises(TablesError, match="cohort/ages"):
        delta.read(str(tmp_path), "ages")


def test_a_table_of_other_types_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """A schema change is additive or refused."""
    write_deltalake(f"{tmp_path}/cohort/ages", pa.table({"age_group": ["young"]}))
    with pytest.raises(TablesError, match=r"cohort/ages.age_group is string on disk"):
        delta.read(str(tmp_path), "cohort/ages")


@pytest.mark.parametrize(
    "columns", [["heat_share"], ["region", "weight", "body_x", "body_y", "added_years"]]
)
def test_an_older_table_gains_the_new_columns(
    columns: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old rows read null, new rows have values, in read and in the views."""
    root = str(tmp_path)
    now = contract.SCHEMAS["cohort/boxes"]
    with monkeypatch.context() as older:
        without = pa.schema([field for field in now if field.name not in columns])
        older.setitem(contract.SCHEMAS, "cohort/boxes", without)
        rows.night(root, rows.listing(range(1, 10)), "m1")
    new = rows.REGIONS if "region" in columns else "m1"
    each = 2 * len(rows.PLACES) if "region" in columns else 2
    for column in columns:
        assert delta.read(root, "cohort/boxes")[column].null_count == 18
        ask = f"SELECT count({column}), count(*) FROM boxes"
        assert query.connect(root).sql(ask).fetchall() == [(0, 18)]
    rows.night(root, rows.listing(range(10, 15)), new)
    for column in columns:
        ask = f"SELECT count({column}), count(*) FROM boxes"
        assert query.connect(root).sql(ask).fetchall() == [(5 * each, 18 + 5 * each)]
        assert delta.read(root, "cohort/boxes")[column].null_count == 18


def _rounded(row: tuple[object, ...]) -> list[object]:
    return [round(value, 9) if isinstance(value, float) else value for value in row]


def _newest(root: str) -> dict[str, tuple[int, str]]:
    """Find each scan's newest object and model by a loop; models here sort by their age."""
    best: dict[str, tuple[int, str]] = {}
    for row in delta.read(root, "cohort/ages").to_pylist():
        rank = (row["object_version"], row["model_id"])
        best[row["scan_id"]] = max(best.get(row["scan_id"], (0, "")), rank)
    return best


NIGHTS = [
    (range(1, 40), "v1", "m1"),
    (range(30, 50), "v1", "m1"),
    (range(1, 30), "v1", "m2"),
    (range(5, 9), "v2", "m1"),
    (range(7, 12), "v2", "m2"),
    (range(20, 60), "v1", "m3"),
    (range(8, 9), "v3", "m1"),
]


def test_latest_ages_is_the_newest_object_and_model_per_scan(tmp_path: Path) -> None:
    """Against a loop over all rows, before and after each of several nights."""
    root = str(tmp_path)

    def right() -> bool:
        found = query.connect(root).sql("SELECT scan_id, object_version, model_id FROM latest_ages")
        there, newest = found.fetchall(), _newest(root)
        return len(there) == len(newest) and newest == {
            scan_id: (version, model_id) for scan_id, version, model_id in there
        }

    assert right()
    for numbers, version, model_id in NIGHTS:
        rows.night(root, rows.listing(numbers, version=version), model_id)
        assert right()


def test_an_older_version_shows_the_older_night(root: str) -> None:
    """Ages as of its version, the other views to match."""
    for version, scans, maps in ((0, 0, 0), (1, 190, 380), (2, 190 + 142, 380 + 284)):
        connection = query.connect(root, version=version, restricted=True)
        counts = [
            connection.sql(f"SELECT count(*) FROM {view}").fetchall()[0][0]
            for view in ("ages", "boxes", "heatmaps", "scans")
        ]
        assert counts == [scans, maps, maps, min(scans, 190)]
    with pytest.raises(TablesError, match="no version 99"):
        query.connect(root, version=99)


def test_the_sql_file_defines_the_same_views(root: str) -> None:
    """infra/views.sql, run with a stand-in for the delta extension, answers alike."""
    import duckdb

    text = (INFRA / "views.sql").read_text()
    text = re.sub(r"^(INSTALL|LOAD|CREATE OR REPLACE SECRET)[^;]*;", "", text, flags=re.M)
    plain, ours = duckdb.connect(), query.connect(root)
    for name in ("ages", "boxes", "heatmaps"):
        plain.register(f"_{name}", delta.dataset(root, f"cohort/{name}"))
        there = f"delta_scan(getvariable('tables') || '/cohort/{name}')"
        assert there in text
        text = text.replace(there, f"_{name}")
    plain.execute(text)
    for columns, view in (("* EXCLUDE (predicted_at)", "latest_ages"), ("*", "age_gap_by_decade")):
        ask = f"SELECT {columns} FROM {view} ORDER BY ALL"
        for one, other in zip(plain.sql(ask).fetchall(), ours.sql(ask).fetchall(), strict=True):
            # sums in another order end in other last digits
            assert _rounded(one) == _rounded(other)


def test_a_connection_does_not_change_under_the_analyst(tmp_path: Path) -> None:
    """A publish while it is open does not show."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 10)), "m1")
    connection = query.connect(root)
    rows.night(root, rows.listing(range(10, 15)), "m1")
    assert connection.sql("SELECT count(*) FROM ages").fetchall() == [(9,)]
    assert query.connect(root).sql("SELECT count(*) FROM ages").fetchall() == [(14,)]


def test_columns_are_explained_inside_duckdb(root: str) -> None:
    """DESCRIBE-like catalogues carry the descriptions."""
    found = query.connect(root).sql(
        "SELECT comment FROM duckdb_columns() "
        "WHERE table_name = 'ages' AND column_name = 'age_gap_years'"
    )
    assert found.fetchall() == [("predicted_age_years minus age_years, years",)]


def test_heat_maps_become_one_array(root: str) -> None:
    """In the table's order, equal to unpacking them one by one."""
    maps = delta.read(root, "cohort/heatmaps", ["heat", "rows", "columns"])
    expected = [
        np.frombuffer(row["heat"], np.uint8).reshape(row["rows"], row["columns"])
        for row in maps.to_pylist()
    ]
    assert np.array_equal(query.heat_array(maps), np.stack(expected))
    assert np.array_equal(query.heat_array(maps.slice(7, 5)), np.stack(expected[7:12]))
    assert query.heat_array(maps.slice(0, 0)).shape == (0, 0, 0)


def test_heat_maps_of_different_sizes_are_refused(root: str) -> None:
    """Instead of a wrong array."""
    maps = delta.read(root, "cohort/heatmaps", ["heat", "rows", "columns"])
    wider = maps.set_column(
        2, maps.schema.field("columns"), pa.array([4] * maps.num_rows, pa.int32())
    )
    with pytest.raises(TablesError, match="differ in size"):
        query.heat_array(pa.concat_tables([maps, wider]))
    with pytest.raises(TablesError, match="differ in size"):
        query.heat_array(wider)


def test_any_parquet_reader_opens_the_files(root: str) -> None:
    """pandas, polars where installed, and pyarrow read what Delta lists, without bae."""
    import pandas as pd
    import pyarrow.parquet as pq

    table = delta.delta(root, "cohort/ages")
    assert table is not None
    total = delta.read(root, "cohort/ages").num_rows
    assert sum(pq.read_table(path).num_rows for path in delta.files(table)) == total
    frame = pd.concat(pd.read_parquet(path) for path in delta.files(table))
    assert len(frame) == total and frame["predicted_age_years"].between(30, 90).all()


def test_reading_needs_neither_ray_nor_torch(root: str) -> None:
    """An analyst's machine may have neither."""
    code = (
        "import sys\n"
        "for name in ('ray', 'torch', 'pydicom'): sys.modules[name] = None\n"
        "from bae import tables\n"
        f"tables.connect({root!r}).sql('FROM age_gap_by_decade').fetchall()\n"
        f"print(tables.read({root!r}, 'cohort/ages').num_rows)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(delta.read(root, "cohort/ages").num_rows)


def test_the_tables_name_their_place(tmp_path: Path) -> None:
    """Below the root, whichever way it is spelled; a root that Delta mishandles is refused."""
    assert delta.uri(f"{tmp_path}/", "cohort/ages") == f"{tmp_path}/cohort/ages"
    assert delta.uri("s3://bucket/t/", "cohort/ages") == "s3://bucket/t/cohort/ages"
    for odd in ("100%", "a[1]"):
        with pytest.raises(TablesError, match="must not contain"):
            delta.read(f"{tmp_path}/{odd}", "cohort/ages")


def test_tables_can_be_filtered_after_a_merge(tmp_path: Path) -> None:
    """deltalake's merges write string_view columns, which pyarrow's filters cannot compare."""
    objects = rows.listing(range(1, 40))
    root = str(tmp_path)
    rows.night(root, objects, "m1")
    before = rows.content(root)
    assert current.mark(root, rows.ARCHIVE, objects.slice(0, 20)) > 0
    current.tell_ages(root, settings.Settings(key_fingerprint=""))
    for name, column, key in (
        ("restricted/scans", "patient_key", rows.key("patient", 3)),
        ("cohort/ages", "scan_id", rows.key("scan", 30)),
    ):
        found = delta.dataset(root, name).to_table(filter=ds.field(column) == key)
        assert found.num_rows == len([row for row in before[name] if row[column] == key])
        among = ds.field(column).isin(pa.array([key, "no such"]))
        assert delta.dataset(root, name).to_table(filter=among).num_rows == found.num_rows
        assert found.schema.field(column).type == pa.string()
