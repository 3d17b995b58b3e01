"""What holds for all rows of some tables."""

import duckdb
import pytest

from bae.tables import settings


@pytest.mark.parametrize(
    ("exact", "decimals", "told", "flags"),
    [
        (42.53, 1, 42.5, ["a", "b"]),
        (42.53, 0, 43.0, ["a", "b"]),
        (89.0, 1, 89.0, ["a", "b"]),
        (89.04, 1, 90.0, ["a", "age_over_89", "b"]),
        (119.0, 0, 90.0, ["a", "age_over_89", "b"]),
        (None, 1, None, ["a", "b"]),
    ],
)
def test_ages_are_rounded_and_over_89_one_category(
    exact: float | None, decimals: int, told: float | None, flags: list[str]
) -> None:
    """45 CFR 164.514; the flag comes and goes with the age, and flags stay sorted."""
    rule = settings.Settings(key_fingerprint="", age_decimals=decimals)
    age = settings.public_age("exact", "'ada'", rule)
    query = f"SELECT {age}, {settings.public_flags('kept', 'exact')}"
    for kept in (["b", "a"], ["b", "age_over_89", "a"]):
        rows = "(SELECT $exact::DOUBLE AS exact, $kept AS kept)"
        values = {"exact": exact, "kept": kept}
        assert duckdb.sql(f"{query} FROM {rows}", params=values).fetchall() == [(told, flags)]
