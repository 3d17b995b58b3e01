"""Which patient is for training, validation or test: by patient, even in age and sex."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

import duckdb
import pyarrow as pa

SPLIT_SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}


def assign(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a run's new patients their splits: register the table ``splits`` of every patient."""
    old = connection.sql("SELECT patient_key, min(split) AS split FROM known_scans GROUP BY 1")
    known = dict(old.fetchall())
    # known patients come along, since they count towards the shares of their age and sex
    patients = connection.sql("""
        SELECT patient_key, min(sex) AS sex, min(age_years) AS age_years
        FROM (SELECT patient_key, sex, age_years FROM known_scans UNION ALL
              SELECT scan.patient_key, scan.sex, scan.age_years FROM staged
              WHERE scan IS NOT NULL)
        GROUP BY 1 ORDER BY 1""")
    both = known | assign_splits(known, patients.to_arrow_table())
    table = pa.table({"patient_key": list(both), "split": list(both.values())})
    connection.register("splits", table)


def assign_splits(known: Mapping[str, str], patients: pa.Table) -> dict[str, str]:
    """Assign each new patient to train, validation or test.

    New patients are taken in the order of a hash of their key. Each goes to the split
    that its stratum (decade of age, sex) lacks most, so the shares hold within each
    stratum and a later scan never moves a patient.

    Args:
        known: patient_key to split, for patients who have one already; they count towards
            their stratum's shares.
        patients: columns patient_key, sex and age_years, one row per patient.

    Returns:
        patient_key to split of every patient who was not known.
    """
    counts: defaultdict[tuple[int | None, str | None], Counter[str]] = defaultdict(Counter)
    new = []
    for row in patients.select(["patient_key", "sex", "age_years"]).to_pylist():
        decade = None if row["age_years"] is None else int(row["age_years"] // 10)
        stratum, key = (decade, row["sex"]), row["patient_key"]
        if key in known:
            counts[stratum][known[key]] += 1
        else:
            new.append((hashlib.sha256(key.encode()).digest(), key, stratum))
    assigned: dict[str, str] = {}
    for _, key, stratum in sorted(new):
        if key not in assigned:
            assigned[key] = _most_lacking(counts[stratum])
            counts[stratum][assigned[key]] += 1
    return assigned


def _most_lacking(counts: Counter[str]) -> str:
    total = counts.total() + 1
    return max(SPLIT_SHARES, key=lambda split: SPLIT_SHARES[split] * total - counts[split])
