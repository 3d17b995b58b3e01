"""What of a person's age may stand in ``cohort/``: SQL expressions.

Whole-day ages beside a date near the scan's would give a birth date away, so ages are rounded;
over 89 they are one category, 45 CFR 164.514(b)(2)(i)(C).
"""

from __future__ import annotations

OLDEST_YEARS, TOP_CODED_YEARS = 89.0, 90.0
_FLAG = "age_over_89"


def age(exact: str, decimals: int) -> str:
    """Return the public age, years.

    Args:
        exact: SQL expression of the age, years; null gives null.
        decimals: 1 for a tenth of a year, 0 for whole years.
    """
    over = f"{exact} > {OLDEST_YEARS}"
    return f"CASE WHEN {over} THEN {TOP_CODED_YEARS} ELSE round({exact}, {decimals}) END"


def flags(kept: str, exact: str) -> str:
    """Return the sorted flags ``kept`` with the one that says that the age was changed."""
    over = f"CASE WHEN {exact} > {OLDEST_YEARS} THEN ['{_FLAG}'] ELSE []::VARCHAR[] END"
    return f"list_sort(list_concat([flag FOR flag IN {kept} IF flag <> '{_FLAG}'], {over}))"
