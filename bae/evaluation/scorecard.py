"""What a table of outcomes comes to: errors by group, coverage, age bias,
calibration of probabilities.

An *outcome* is a scan of known age with a model's answer: the columns that
``outcomes.score`` returns. The main figures are of the predicted ages as they are; those corrected
for age bias stand beside.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bae.evaluation import metrics
from bae.evaluation.metrics import Estimate
from bae.method import calibration
from bae.method.calibration import Calibration
from bae.recipes import age_group
from bae.scan import SEX_CODE

Floats = NDArray[np.float64]

FOLDS = 5
"""Parts of the validation patients; each is judged by a calibration that the others gave."""


ANSWERED = {
    "patient_key": pa.string(),
    "sex": pa.string(),
    "age_years": pa.float64(),
    "predicted_age_years": pa.float64(),
    "spread_years": pa.float64(),
}
"""Columns of what a calibration is fitted on."""


def floats(outcomes: pa.Table, name: str) -> Floats:
    """Return a column as float64, NaN where null."""
    return np.asarray(outcomes[name].to_numpy(), dtype=np.float64)


def males(outcomes: pa.Table) -> Floats:
    """Return 0 for women, 1 for men, NaN where unknown."""
    return np.array([SEX_CODE[sex] for sex in outcomes["sex"].to_pylist()], dtype=np.float64)


def patients(outcomes: pa.Table) -> NDArray[np.str_]:
    """Return the patients' keys."""
    return np.asarray(outcomes["patient_key"].to_pylist(), dtype=str)


def gaps(outcomes: pa.Table) -> Floats:
    """Return predicted minus actual age, years."""
    return floats(outcomes, "predicted_age_years") - floats(outcomes, "age_years")


def errors(outcomes: pa.Table) -> dict[str, Estimate]:
    """Return the measures of ``metrics.ERRORS`` with intervals over patients."""
    age, answer = floats(outcomes, "age_years"), floats(outcomes, "predicted_age_years")
    return metrics.errors(age, answer, patients(outcomes))


def inside(outcomes: pa.Table) -> NDArray[np.bool_] | None:
    """Say which true ages lie in their interval; None where the model gives no intervals."""
    low, high = floats(outcomes, "age_low_years"), floats(outcomes, "age_high_years")
    if np.isnan(low).any():
        return None
    age = floats(outcomes, "age_years")
    return np.asarray((low <= age) & (age <= high))


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """Some of the scans; all numbers are None where the group is withheld.

    Attributes:
        withheld: empty, or what is shown in place of numbers: ``<5`` patients, or withheld since
            a smaller group would follow from it.
        by: ``all``, ``sex``, ``age``, ``view`` or ``vendor``.
        group: such as ``F`` or ``50-59``.
        mae_years: mean absolute error, with its interval over patients.
        gap_years: mean of predicted minus actual age.
        coverage: share of ages inside their interval; None for single views and models
            without intervals.
        width_years: mean width of the intervals, None likewise.
    """

    by: str
    group: str
    scans: int | None = None
    patients: int | None = None
    mae_years: Estimate | None = None
    gap_years: float | None = None
    coverage: Estimate | None = None
    width_years: float | None = None
    withheld: str = ""


def subgroups(outcomes: pa.Table, edges: Sequence[float]) -> list[Subgroup]:
    """Return all scans, then those of each sex, age group, vendor and view.

    Args:
        edges: of the age groups, years; a group is by the actual age.
    """
    names = group_names(edges)
    ages = [age_group(age, edges) for age in outcomes["age_years"].to_pylist()]
    columns = {
        "all": ["all"] * outcomes.num_rows,
        "sex": [sex or "unknown" for sex in outcomes["sex"].to_pylist()],
        "age": ["other" if group is None else names[group] for group in ages],
        "vendor": outcomes["manufacturer"].to_pylist(),
    }
    found = [group for by, values in columns.items() for group in _subgroups(outcomes, by, values)]
    single = views(outcomes)
    return found + _subgroups(single, "view", single["view"].to_pylist())


def _subgroups(outcomes: pa.Table, by: str, values: Sequence[str]) -> list[Subgroup]:
    """Return the groups of rows with equal values; small ones are withheld, but for the whole."""
    groups = {
        group: outcomes.filter(pa.array([value == group for value in values]))
        for group in sorted(set(values))
    }
    sizes = {group: len(set(patients(rows))) for group, rows in groups.items()}
    hidden = {} if by == "all" else metrics.withheld(sizes)
    return [
        Subgroup(by=by, group=group, withheld=hidden[group])
        if group in hidden
        else _subgroup(rows, by, group)
        for group, rows in groups.items()
    ]


def group_names(edges: Sequence[float]) -> list[str]:
    """Return ``40-49``, ..., the last with its upper edge: ``70-80``."""
    last = len(edges) - 2
    return [f"{edges[i]:g}-{edges[i + 1] - (i < last):g}" for i in range(last + 1)]


def views(outcomes: pa.Table) -> pa.Table:
    """Return one row per view, its own answer in place of the scan's and no interval."""
    rows = []
    for row in outcomes.to_pylist():
        for name, age in zip(row["views"], row["view_ages_years"], strict=True):
            rows.append(
                row
                | {
                    "view": name,
                    "predicted_age_years": age,
                    "age_low_years": None,
                    "age_high_years": None,
                }
            )
    return pa.Table.from_pylist(rows, schema=outcomes.schema.append(pa.field("view", pa.string())))


def _subgroup(outcomes: pa.Table, by: str, group: str) -> Subgroup:
    keys = patients(outcomes)
    gap, hits = gaps(outcomes), inside(outcomes)
    (mae,) = metrics.bootstrap(lambda g: [np.abs(g).mean()], [gap], keys)
    width = floats(outcomes, "age_high_years") - floats(outcomes, "age_low_years")
    return Subgroup(
        by=by,
        group=group,
        scans=outcomes.num_rows,
        patients=len(set(keys)),
        mae_years=mae,
        gap_years=float(gap.mean()),
        coverage=None if hits is None else metrics.proportion(int(hits.sum()), len(hits)),
        width_years=None if hits is None else float(width.mean()),
    )


def probabilities(outcomes: pa.Table) -> Floats | None:
    """Return the age groups' probabilities (N, C); None for a model without a localizer."""
    rows = outcomes["group_probabilities"].to_pylist()
    return np.array(rows, dtype=np.float64) if rows and rows[0] else None


def reliability(outcomes: pa.Table, edges: Sequence[float]) -> metrics.Reliability | None:
    """Return how often the most probable age group was the true one, by its probability."""
    sure = probabilities(outcomes)
    if sure is None:
        return None
    return metrics.reliability(sure.max(axis=1), sure.argmax(axis=1) == groups(outcomes, edges))


def groups(outcomes: pa.Table, edges: Sequence[float]) -> NDArray[np.int64]:
    """Return the true age groups, -1 outside the edges."""
    found = [age_group(age, edges) for age in outcomes["age_years"].to_pylist()]
    return np.array([-1 if group is None else group for group in found], dtype=np.int64)


def bias(outcomes: pa.Table, fitted: Calibration | None = None) -> Estimate:
    """Return the slope of the age gap on the age, years per year.

    Args:
        fitted: take the bias out first, as this calibration says.
    """
    age, answer = floats(outcomes, "age_years"), floats(outcomes, "predicted_age_years")
    if fitted is not None:
        answer = fitted.corrected_years(answer)
    (slope,) = metrics.bootstrap(
        lambda a, g: [calibration.line(a, g)[0]], [age, answer - age], patients(outcomes)
    )
    return slope


NO_OTHERS = pa.table({name: pa.array([], kind) for name, kind in ANSWERED.items()})


def answered(scans: pa.Table, years: Mapping[str, float]) -> pa.Table:
    """Return columns of ``ANSWERED`` for rows of the scans table.

    Args:
        years: scan_id to the answer of a model that did not see the patient.
    """
    own = [years[scan_id] for scan_id in scans["scan_id"].to_pylist()]
    known = {name: scans[name] for name in ("patient_key", "sex", "age_years")}
    spread = pa.nulls(len(own), pa.float64())  # that of another model would be of another size
    return pa.table({**known, "predicted_age_years": own, "spread_years": spread}).cast(
        pa.schema(ANSWERED)
    )


def calibrate(
    outcomes: pa.Table, edges: Sequence[float], held_out: pa.Table = NO_OTHERS
) -> Calibration:
    """Fit a calibration on validation outcomes of a model that has none yet.

    Args:
        held_out: columns of ``ANSWERED``: training scans, answered by models that did not see
            the patient.
    """
    every = pa.concat_tables(
        [outcomes.select(list(ANSWERED)), held_out], promote_options="permissive"
    )
    return calibration.fit(
        floats(every, "age_years"),
        floats(every, "predicted_age_years"),
        floats(every, "spread_years"),
        males(every),
        patients(every).tolist(),
        probabilities(outcomes),
        groups(outcomes, edges),
    )


def recalibrated(outcomes: pa.Table, fitted: Calibration) -> pa.Table:
    """Return outcomes of an uncalibrated model with a calibration's intervals and probabilities."""
    sure = probabilities(outcomes)
    found = fitted.interval(
        floats(outcomes, "predicted_age_years"), floats(outcomes, "spread_years"), males(outcomes)
    )
    low, high = found or ([None] * outcomes.num_rows,) * 2
    changed: dict[str, Any] = {"age_low_years": low, "age_high_years": high}
    if sure is not None:
        changed["group_probabilities"] = fitted.probabilities(sure).tolist()
    for name, values in changed.items():
        index = outcomes.schema.get_field_index(name)
        field = outcomes.schema.field(index)
        outcomes = outcomes.set_column(index, field, pa.array(values, field.type))
    return outcomes


def cross_calibrated(
    outcomes: pa.Table, edges: Sequence[float], held_out: pa.Table = NO_OTHERS
) -> pa.Table:
    """Return validation outcomes, each calibrated on the patients of the other folds.

    So nobody is judged by a calibration that was fitted on their own scans.

    Args:
        held_out: see ``calibrate``.
    """
    keys = patients(outcomes)
    fold = {key: number % FOLDS for number, key in enumerate(sorted(set(keys)))}
    own = np.array([fold[key] for key in keys])
    pieces = []
    for number in sorted(set(own)):
        others, mine = (
            outcomes.filter(pa.array(own != number)),
            outcomes.filter(pa.array(own == number)),
        )
        if not others.num_rows:
            return outcomes
        pieces.append(recalibrated(mine, calibrate(others, edges, held_out)))
    return pa.concat_tables(pieces)


def summary(
    outcomes: pa.Table,
    edges: Sequence[float],
    mean_age_years: float,
    held_out: pa.Table = NO_OTHERS,
) -> dict[str, Any]:
    """Return what a model's card says of validation outcomes, as plain values.

    Args:
        mean_age_years: mean of the training ages: what the mean predictor answers.
        held_out: see ``calibrate``.
    """
    crossed = cross_calibrated(outcomes, edges, held_out)
    before, after = reliability(outcomes, edges), reliability(crossed, edges)
    age = floats(outcomes, "age_years")
    return {
        "scans": outcomes.num_rows,
        "patients": len(set(patients(outcomes))),
        "metrics": {
            name: asdict(value)
            for name, value in errors(outcomes).items()
            if math.isfinite(value.value)  # scans of one age have no R2, and JSON has no NaN
        },
        "always_mean_mae_years": float(np.abs(age - mean_age_years).mean()),
        "gap_slope": asdict(bias(outcomes)),
        "ece_raw": None if before is None else before.ece,
        "ece": None if after is None else after.ece,
        "subgroups": [asdict(group) for group in subgroups(crossed, edges)],
    }
