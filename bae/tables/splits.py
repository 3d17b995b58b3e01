"""Which patient is for training, validation or test: told by the patient's key alone.

So the same archive under the same key gives the same splits, in whatever order and number of
nights it was read, and however it grows. The price is that the shares are only as even as
chance makes them; bae/tables/NOTES.md says how even that is.
"""

import duckdb

SPLIT_SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}

_SCALE = 2**32


def assign(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the table ``splits`` of every patient: patient_key, split.

    A patient whom the tables know keeps the split that they have: bae 0.1 gave
    splits in the order of nights.

    Args:
        connection: what ``compare.database`` returned.
    """
    connection.execute(f"""
        CREATE TEMP TABLE splits AS
        SELECT patient_key, coalesce(min(known), min({split_sql("patient_key")})) AS split
        FROM (SELECT patient_key, split AS known FROM known_scans UNION ALL
              SELECT scan.patient_key, NULL FROM staged WHERE scan IS NOT NULL)
        GROUP BY patient_key""")


def split_sql(patient_key: str) -> str:
    """Return the SQL expression of a patient's split.

    The first 32 bits of SHA-256 of ``bae split <patient_key>``, as a share of 2^32, fall into
    the ranges of ``SPLIT_SHARES``, one after the other.

    Args:
        patient_key: SQL expression of the key.
    """
    drawn = f"('0x' || sha256('bae split ' || {patient_key})[:8])::UBIGINT"
    *ranges, last = SPLIT_SHARES
    cases, end = "", 0.0
    for split in ranges:
        end += SPLIT_SHARES[split]
        cases += f" WHEN {drawn} < {round(end * _SCALE)} THEN '{split}'"
    return f"CASE{cases} ELSE '{last}' END"
