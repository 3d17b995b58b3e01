"""Table 1: every method on the same held-out scans, with paired tests between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa

from bae.evaluation import metrics, pages, scorecard
from bae.evaluation.metrics import Estimate
from bae.evaluation.pages import Row
from bae.method import model

MEAN, RIDGE, LIMIT = "always the mean age", "ridge on thumbnails", "known limit of the phantoms"


@dataclass(frozen=True, kw_only=True)
class Method:
    """One model on the held-out patients.

    Attributes:
        name: the recipe's, without the word for sex; unique with ``sex``.
        outcomes: see ``outcomes.score``.
    """

    name: str
    sex: bool
    uri: str
    card: model.Card
    outcomes: pa.Table

    @property
    def folder(self) -> str:
        """Return the name of its folder."""
        return self.name if self.sex else f"{self.name}_without_sex"


def table_one(
    methods: Sequence[Method], plain: Mapping[str, Sequence[float]], test: pa.Table, about: Row
) -> list[Row]:
    """Return Table 1: the mean predictor first, then ridge, the models, and last what no
    method can beat.

    Args:
        plain: name to predicted ages of the methods that are no model.
        about: what an archive of phantoms says of itself; empty for patients.
    """
    keys = scorecard.patients(test)
    size = {"scans": test.num_rows, "patients": len(set(keys))}

    def line(method: str, sex: bool, model_id: str | None, found: Mapping[str, Estimate]) -> Row:
        head = {"method": method, "sex": _with(sex)} | size
        return head | {"model_id": model_id} | pages.flat(found)

    years = scorecard.floats(test, "age_years")
    rows = [
        line(name, name == RIDGE, None, metrics.errors(years, ages, keys))
        for name, ages in plain.items()
    ]
    rows += [line(m.name, m.sex, m.card.model_id, scorecard.errors(m.outcomes)) for m in methods]
    if about:
        limit = {"method": LIMIT, "sex": "with", "mae_years": about["limit_mae_years"]}
        rows.append(dict.fromkeys(rows[0]) | size | limit)
    return rows


def _with(sex: bool) -> str:
    return "with" if sex else "without"


def paired_tests(
    methods: Sequence[Method], plain: Mapping[str, Sequence[float]], test: pa.Table
) -> list[Row]:
    """Compare every two methods on the same patients; p-values are not adjusted for many."""
    answers: dict[str, Any] = {
        m.folder: scorecard.floats(m.outcomes, "predicted_age_years") for m in methods
    } | dict(plain)
    age, keys = scorecard.floats(test, "age_years"), scorecard.patients(test)
    rows = []
    for first, second in combinations(answers, 2):
        found = metrics.compare(age, answers[first], answers[second], keys)
        row = {"first": first, "second": second, "patients": found.patients}
        row |= pages.estimate("mae_difference_years", found.difference_years)
        rows.append(row | {"wilcoxon_p": found.p_value})
    return rows


def with_costs(
    table: Sequence[Row],
    tests: Sequence[Row],
    methods: Sequence[Method],
    costs: Mapping[str, Row],
    proposed: str,
) -> list[Row]:
    """Return Table 1 with what each method costs, and how it compares with the proposed one.

    Args:
        table, tests: of ``table_one`` and ``paired_tests``.
        costs: model folder to a row of ``costs.costs``.
        proposed: ``Method.folder`` of the one that the others are compared with.
    """
    own = {(m.name, _with(m.sex)): m for m in methods}
    nothing: Row = dict.fromkeys(next(iter(costs.values()), {}))
    rows = []
    for row in table:
        method = own.get((row["method"], row["sex"]))
        name = row["method"] if method is None else method.folder
        cost = nothing if method is None else costs[method.uri]
        rows.append(row | _against(tests, name, proposed) | cost)
    return rows


def _against(tests: Sequence[Row], name: str, proposed: str) -> Row:
    """Return by how much a method errs more than the proposed one, whichever was named first."""
    value, low, high = (f"mae_difference_years{end}" for end in ("", "_low", "_high"))
    for row in tests:
        if (row["first"], row["second"]) == (name, proposed):
            return {key: row[key] for key in (value, low, high, "wilcoxon_p")}
        if (row["first"], row["second"]) == (proposed, name):
            turned = {value: -row[value], low: -row[high], high: -row[low]}
            return turned | {"wilcoxon_p": row["wilcoxon_p"]}
    return dict.fromkeys((value, low, high, "wilcoxon_p"))
