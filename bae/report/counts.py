"""What a report says, as small tables: DuckDB counts, nobody's row is copied.

Its table ``scored`` is each scan's newest object as one model scored it, up to one run.
"""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from bae.archive.refusals import REJECT_CODES
from bae.errors import UseError
from bae.evaluation import metrics
from bae.evaluation.pages import Row
from bae.pipeline import kept
from bae.tables import contract, delta
from bae.tables import query as tables_query

WIDEST_GAP_YEARS = 25
"""Age gaps beyond this share the outermost bins of the histogram."""


HELD_OUT = f"split = 'test' AND NOT list_has_any(flags, {list(kept.DOUBTFUL)})"
"""Patients whom training saw not, less scans of which two sources tell other ages."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a report is about; both empty where nothing was scored yet."""

    model_id: str
    run_id: str


DRAWS = 500
"""Bootstrap samples for a page, which shows two digits."""


def open_tables(tables_uri: str) -> duckdb.DuckDBPyConnection:
    """Return a connection with all tables as views.

    Raises:
        UseError: there are no tables at all at this place.
    """
    if not any(delta.delta(tables_uri, name) for name in contract.SCHEMAS):
        raise UseError(f"there are no tables at {tables_uri}; run jobs.index or jobs.predict first")
    connection = tables_query.connect(tables_uri, restricted=True)
    ids = "SELECT run_id FROM scans UNION SELECT run_id FROM rejects UNION SELECT run_id FROM ages"
    runs = [str(run) for (run,) in connection.sql(ids).fetchall()]
    last = delta.delta(tables_uri, delta.LAST)
    # runs say no more than their month; every run commits to this table, one after the other
    numbers = [last.transaction_version(run) if last else None for run in runs]
    committed = pa.table({"run_id": pa.array(runs, pa.string()), "number": numbers})
    connection.register("committed", committed)
    return connection


def choose(
    connection: duckdb.DuckDBPyConnection, model_id: str | None = None, run_id: str | None = None
) -> Choice:
    """Decide what a report is about, and prepare the connection's tables ``scored`` and ``nights``.

    Args:
        model_id: by default the model that scored last.
        run_id: by default the last run that read or scored something.

    Raises:
        UseError: no such run.
    """
    if model_id is None:
        newest = "SELECT model_id FROM ages GROUP BY 1 ORDER BY max(predicted_at) DESC, 1 LIMIT 1"
        found = connection.sql(newest).fetchall()
        model_id = str(found[0][0]) if found else ""
    # of a run: objects read for the first time, and ages by this model
    connection.execute(
        """
        CREATE TEMP TABLE nights AS
        SELECT run_id, sum(indexed)::BIGINT AS indexed, sum(refused)::BIGINT AS refused,
               sum(scored)::BIGINT AS scored, sum(gaps)::BIGINT AS gaps,
               sum(people)::BIGINT AS people,
               sum(gap_sum) AS gap_sum, sum(gap_squares) AS gap_squares,
               max(published) AS published, coalesce(any_value(number), 0) AS number
        FROM (
            SELECT run_id, count(*) AS indexed, 0 AS refused, 0 AS scored, 0 AS gaps, 0 AS people,
                   0.0 AS gap_sum, 0.0 AS gap_squares, max(indexed_at) AS published
            FROM scans GROUP BY run_id
            UNION ALL
            SELECT run_id, 0, count(DISTINCT object_uri), 0, 0, 0, 0, 0, max(rejected_at)
            FROM rejects WHERE model_id IS NULL GROUP BY run_id
            UNION ALL
            SELECT run_id, 0, 0, count(*), count(age_gap_years),
                   count(DISTINCT patient_key) FILTER (age_gap_years IS NOT NULL),
                   coalesce(sum(age_gap_years), 0), coalesce(sum(age_gap_years ** 2), 0),
                   max(predicted_at)
            FROM ages WHERE model_id = $model GROUP BY run_id) LEFT JOIN committed USING (run_id)
        WHERE run_id NOT IN (SELECT DISTINCT run_id FROM ages WHERE model_id <> $model)
        GROUP BY run_id""",
        {"model": model_id},
    )
    runs = [night["run_id"] for night in nights(connection)]
    if run_id is not None and run_id not in runs:
        last = ", ".join(runs[-3:]) or "none"
        raise UseError(f"no run {run_id} of model {model_id or 'any'}; the last ones are {last}")
    choice = Choice(model_id=model_id, run_id=run_id or (runs[-1] if runs else ""))
    last = "(SELECT (number, published) FROM nights WHERE run_id = ?)"
    connection.execute(f"DELETE FROM nights WHERE (number, published) > {last}", [choice.run_id])
    connection.execute(
        """
        CREATE TEMP TABLE scored AS
        SELECT scan_id, patient_key, object_version, sex, age_years, predicted_age_years,
               age_low_years, age_high_years, age_gap_years, split, run_id, flags
        FROM ages WHERE model_id = $model AND removed_at IS NULL
          AND run_id IN (SELECT run_id FROM nights)
        QUALIFY object_version = max(object_version) OVER (PARTITION BY scan_id)""",
        {"model": choice.model_id},
    )
    return choice


def _rows(connection: duckdb.DuckDBPyConnection, query: str, **values: object) -> list[Row]:
    rows: list[Row] = connection.sql(query, params=values or None).to_arrow_table().to_pylist()
    return rows


def nights(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return the runs up to the chosen one, oldest first, with counts and sums of age gaps.

    ``people`` is of how many patients the gaps are: of few they are not for a page.
    """
    return _rows(connection, "FROM nights ORDER BY number, published, run_id")


def totals(connection: duckdb.DuckDBPyConnection) -> Row:
    """Return how many scans, patients and ages; what this model scored.

    ``sexes`` is what a page may say of each, small groups withheld.
    """
    found = _rows(
        connection,
        """SELECT count(*) AS scans, count(DISTINCT patient_key) AS patients,
                  count(age_years) AS with_age, count(*) FILTER (sex = 'F') AS women,
                  count(*) FILTER (sex = 'M') AS men, min(age_years) AS youngest_years,
                  max(age_years) AS oldest_years
           FROM scored""",
    )[0]
    sexes = "SELECT coalesce(sex, 'unknown') AS sex, count(*) AS scans, count(DISTINCT patient_key)"
    groups = connection.sql(f"{sexes} FROM scored GROUP BY 1").fetchall()
    hidden = metrics.withheld({sex: patients for sex, _, patients in groups})
    scans = {sex: hidden.get(sex, f"{number:,}") for sex, number, _ in groups}
    found["sexes"] = {sex: scans.get(sex, "0") for sex in ("F", "M", "unknown")}
    if found["patients"] < metrics.FEWEST:
        found["youngest_years"] = found["oldest_years"] = None
    return found


def errors(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return how far predicted and true ages lie apart: held-out patients first, then all.

    Patients whom training saw flatter a model, so the held-out ones stand first; fewer than five,
    or all but fewer than five, are left out. Mean absolute error is Eq. (5).
    """
    found = _rows(
        connection,
        f"""
        SELECT part, count(*) AS scans, count(DISTINCT patient_key) AS patients,
               avg(abs(age_gap_years)) AS mae_years, avg(age_gap_years) AS bias_years,
               stddev_samp(age_gap_years) AS sd_years,
               avg((age_years BETWEEN age_low_years AND age_high_years)::INT) AS inside,
               avg(abs(age_years - mean_age)) AS mean_predictor_mae_years
        FROM (SELECT *, avg(age_years) OVER (PARTITION BY part) AS mean_age FROM (
                  SELECT 'held out' AS part, * FROM scored WHERE {HELD_OUT}
                  UNION ALL SELECT 'all' AS part, * FROM scored)
              WHERE age_gap_years IS NOT NULL)
        GROUP BY part ORDER BY part = 'all'""",
    )
    everybody = max((row["patients"] for row in found), default=0)
    left = {row["part"]: everybody - row["patients"] for row in found}
    return [
        row
        for row in found
        if row["patients"] >= metrics.FEWEST
        and (row["part"] == "all" or not 0 < left[row["part"]] < metrics.FEWEST)
    ]


def held_out_mae(connection: duckdb.DuckDBPyConnection) -> metrics.Estimate | None:
    """Return the held-out mean absolute error with a 95 % interval over patients.

    None where no held-out scan has a known age.
    """
    held = connection.sql(
        f"""SELECT patient_key, age_years, predicted_age_years FROM scored
           WHERE {HELD_OUT} AND age_gap_years IS NOT NULL ORDER BY patient_key, scan_id"""
    ).to_arrow_table()
    if not held.num_rows:
        return None
    [found] = metrics.bootstrap(
        lambda age, predicted: [metrics.mean_absolute_error(age, predicted)],
        [held["age_years"].to_numpy(), held["predicted_age_years"].to_numpy()],
        held["patient_key"].to_numpy(),
        draws=DRAWS,
    )
    return found


def refusals(connection: duckdb.DuckDBPyConnection, choice: Choice) -> list[Row]:
    """Return each code's count in all and in the run, with its meaning.

    Each object counts once, as it was refused last. One that was replaced by one that could be
    read does not count any more, nor one that was read when it was tried again.
    """
    found = _rows(
        connection,
        """
        SELECT code, count(*) AS objects, count(*) FILTER (run_id = $run) AS in_run
        FROM (
            SELECT DISTINCT ON (object_uri) code, rejects.run_id
            FROM rejects ANTI JOIN scans ON scans.source_uri = rejects.source_uri
                 AND scans.etag <> rejects.etag AND scans.indexed_at > rejects.rejected_at
            WHERE rejected_at <= (SELECT max(published) FROM nights)
                  AND settled_at IS NULL AND (model_id IS NULL OR model_id = $model)
            ORDER BY object_uri, rejected_at DESC, code)
        GROUP BY code ORDER BY objects DESC, code""",
        model=choice.model_id,
        run=choice.run_id,
    )
    for row in found:
        known = REJECT_CODES.get(row["code"])  # None: of a newer version of bae
        row["meaning"] = known.meaning if known else ""
        row["action"] = known.action if known else ""
    return found


def age_cells(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Count scans by year of age and year of predicted age."""
    return _rows(
        connection,
        """SELECT floor(age_years)::INT AS age, floor(predicted_age_years)::INT AS predicted,
                  count(*) AS scans, count(DISTINCT patient_key) AS patients
           FROM scored WHERE age_gap_years IS NOT NULL GROUP BY age, predicted ORDER BY ALL""",
    )


def gap_bins(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Count scans by sex and age gap, in bins of one year, the outermost ones open."""
    return _rows(
        connection,
        f"""SELECT coalesce(sex, 'unknown') AS sex, count(*) AS scans,
                   count(DISTINCT patient_key) AS patients,
                   greatest(-{WIDEST_GAP_YEARS}, least({WIDEST_GAP_YEARS - 1},
                            floor(age_gap_years)))::INT AS gap
            FROM scored WHERE age_gap_years IS NOT NULL GROUP BY sex, gap ORDER BY ALL""",
    )


def gap_groups(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return the age gap's distribution by decade of age and sex; ``withheld``: it is too small."""
    found = _rows(
        connection,
        """
        SELECT (floor(age_years / 10) * 10)::INT AS decade, coalesce(sex, 'unknown') AS sex,
               count(*) AS scans, count(DISTINCT patient_key) AS patients,
               avg(age_gap_years) AS mean,
               stddev_samp(age_gap_years) AS sd, avg(abs(age_gap_years)) AS mae,
               quantile_cont(age_gap_years, [0.05, 0.25, 0.5, 0.75, 0.95]) AS quantiles
        FROM scored WHERE age_gap_years IS NOT NULL GROUP BY decade, sex ORDER BY ALL""",
    )
    for sex in {row["sex"] for row in found}:
        mine = {row["decade"]: row for row in found if row["sex"] == sex}
        hidden = metrics.withheld({decade: row["patients"] for decade, row in mine.items()})
        for decade, row in mine.items():
            row["withheld"] = hidden.get(decade, "")
    return found


def outliers(connection: duckdb.DuckDBPyConnection, choice: Choice, most: int) -> list[Row]:
    """Return the scans whose predicted age lies farthest from the true one, farthest first.

    Each row has the place of its object, its boxes and its heat maps (lists of rows), for
    ``bae.pipeline.reread``; those do not belong on a page.
    """
    found = _rows(
        connection,
        f"""
        SELECT farthest.*, object_uri, source_uri, etag, views, pixel_mm, pixel_column_mm
        FROM (FROM scored WHERE age_gap_years IS NOT NULL
              ORDER BY abs(age_gap_years) DESC, scan_id LIMIT {most}) AS farthest
        LEFT JOIN scans USING (scan_id, object_version)
        ORDER BY abs(age_gap_years) DESC, scan_id""",
    )
    mine = "WHERE model_id = $model AND scan_id = $scan AND object_version = $version"
    for row in found:
        one = {"scan": row["scan_id"], "version": row["object_version"], "model": choice.model_id}
        boxes = f"FROM boxes {mine} ORDER BY view_index, box_index"
        heatmaps = f"FROM heatmaps {mine} ORDER BY view_index"
        row["boxes"] = _rows(connection, boxes, **one)
        row["heatmaps"] = _rows(connection, heatmaps, **one)
    return found
