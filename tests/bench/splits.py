"""How even splits are that follow from a hash alone: ``python -m tests.bench.splits``."""

import duckdb
import numpy as np

from bae.tables.splits import split_sql

DRAWS = 200


def main() -> None:
    """Print 95 % ranges over draws of patients, for several numbers of them."""
    rng = np.random.default_rng(0)
    for patients in (100, 400, 1_000, 3_000, 10_000):
        found = []
        for draw in range(DRAWS):
            keys = [f"{draw}-{number}" for number in range(patients)]
            query = f"SELECT {split_sql('key')} FROM (SELECT unnest($keys) AS key)"
            split = np.array(
                [row[0] for row in duckdb.sql(query, params={"keys": keys}).fetchall()]
            )
            age, woman = np.clip(rng.normal(62, 11, patients), 40, 90), rng.random(patients) < 0.6
            test, train = split == "test", split == "train"
            differences = (values[test].mean() - values[train].mean() for values in (age, woman))
            found.append((test.mean(), *differences))
        low, high = np.percentile(found, [2.5, 97.5], axis=0)
        ranges = (f"{a:7.2f} to {b:5.2f}" for a, b in zip(low, high, strict=True))
        print(f"{patients:6}  share, years, share of women: " + ", ".join(ranges))


if __name__ == "__main__":
    main()
