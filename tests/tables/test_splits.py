"""The split by patient."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from bae.tables.splits import SPLIT_SHARES, assign_splits


def _patients(ages: list[float | None], sexes: list[str | None]) -> pa.Table:
    return pa.table(
        {
            "patient_key": [f"{i:032x}" for i in range(len(ages))],
            "sex": pa.array(sexes, pa.string()),
            "age_years": pa.array(ages, pa.float64()),
        }
    )


PEOPLE = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(0, 120)), st.sampled_from(["F", "M", None])),
    max_size=200,
)


@settings(deadline=None)
@given(PEOPLE, st.integers(0, 200))
def test_splits_are_stable_and_every_patient_has_one(
    people: list[tuple[float | None, str | None]], cut: int
) -> None:
    """Known patients keep their split, and the order of rows does not matter."""
    table = _patients([age for age, _ in people], [sex for _, sex in people])
    first = assign_splits({}, table.slice(0, cut))
    second = assign_splits(first, table)
    assert set(first) | set(second) == set(table["patient_key"].to_pylist())
    assert not set(first) & set(second)
    again = assign_splits(first, table.sort_by([("patient_key", "descending")]))
    assert again == second


def test_shares_hold_in_every_stratum() -> None:
    """70/15/15 within one patient, by decade and sex."""
    rng = np.random.default_rng(0)
    table = _patients(list(rng.uniform(40, 80, 3000)), list(rng.choice(["F", "M"], 3000)))
    splits = assign_splits({}, table)
    for decade in range(4, 8):
        for sex in "FM":
            rows = [
                row
                for row in table.to_pylist()
                if row["age_years"] // 10 == decade and row["sex"] == sex
            ]
            counts = Counter(splits[row["patient_key"]] for row in rows)
            for split, share in SPLIT_SHARES.items():
                assert abs(counts[split] - share * len(rows)) <= 1


def test_shares_hold_when_patients_come_one_a_night() -> None:
    """Nightly runs see one new patient each and must not send them all to training."""
    known: dict[str, str] = {}
    table = _patients([55.0] * 200, ["F"] * 200)
    for night in range(200):
        known |= assign_splits(known, table.slice(0, night + 1))
    counts = Counter(known.values())
    assert counts == {"train": 140, "validation": 30, "test": 30}
