"""The split by patient."""

import hashlib
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from bae.tables import delta
from bae.tables.splits import SPLIT_SHARES, split_sql
from tests.fakes import rows


def _split(patient_key: str) -> str:
    """Tell the split by hand, the oracle."""
    digest = hashlib.sha256(f"bae split {patient_key}".encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return "train" if share < 0.70 else "validation" if share < 0.85 else "test"


def test_split_is_a_function_of_the_patients_key() -> None:
    """10,000 patients: as by hand, and close to the shares."""
    keys = [rows.key("patient", number) for number in range(10_000)]
    connection = duckdb.connect()
    connection.execute("CREATE TABLE people AS SELECT unnest($keys) AS key", {"keys": keys})
    found = dict(connection.sql(f"SELECT key, {split_sql('key')} FROM people").fetchall())
    assert found == {key: _split(key) for key in keys}
    counts = Counter(found.values())
    for split, share in SPLIT_SHARES.items():
        assert counts[split] == pytest.approx(10_000 * share, abs=150)  # four standard deviations


NIGHTS = {
    "all at once": [range(1, 200)],
    "two nights": [range(150, 200), range(1, 150)],
    "ten nights, backwards": [range(n, n + 20) for n in range(181, 0, -20)],
}


@pytest.mark.parametrize("nights", NIGHTS.values(), ids=NIGHTS.keys())
def test_splits_do_not_depend_on_the_nights(tmp_path: Path, nights: list[range]) -> None:
    """All at once, in two nights, in ten nights backwards: the same split for each patient."""
    seen: list[int] = []
    for numbers in nights:
        seen += numbers
        rows.night(str(tmp_path), rows.listing(range(min(seen), max(seen) + 1)), "m1")
    for name in ("restricted/scans", "cohort/ages"):
        found = delta.read(str(tmp_path), name, ["patient_key", "split"]).to_pylist()
        assert {row["patient_key"]: row["split"] for row in found} == {
            row["patient_key"]: _split(row["patient_key"]) for row in found
        }
