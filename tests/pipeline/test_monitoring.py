"""Metrics, dashboard, alerts and runbook fit each other."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pyarrow as pa
import pytest
import ray
import yaml

from bae.errors import RunError, UseError
from bae.evaluation.ridge import Thumbnails
from bae.pipeline.cluster import monitoring, session
from bae.pipeline.outcomes import Outcomes
from bae.pipeline.rows import Index
from bae.pipeline.score import Score
from bae.pipeline.step import Step
from bae.tables import contract
from bae.training import samples
from jobs import command
from tests.fakes import rows

INFRA = Path(__file__).parents[2] / "infra"
RULES = [
    rule
    for group in yaml.safe_load((INFRA / "monitoring" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((INFRA / "grafana" / "bae.json").read_text())
QUERIES = [
    (panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]
] + [(rule["alert"], rule["expr"]) for rule in RULES]
STEPS: list[type[Step]] = [Index, Score, Outcomes, Thumbnails]
NAMES = [*(step.name for step in STEPS), *samples.STEP_NAMES.values()]
OURS = {f"ray_{name}_total" for name in monitoring.COUNTERS} | {f"ray_{monitoring.PARTS_LEFT}"}


def _of_ray() -> set[str]:
    """Return the metrics that Ray's own dashboards show."""
    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    text = "".join(path.read_text() for path in folder.glob("*_panels.py"))
    return set(re.findall(r"\bray_\w+", text))


def _plain(query: str) -> str:
    """Put values in place of Grafana's variables."""
    return query.replace("$session", ".*").replace("$__range", "1h")


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_every_query_parses_and_names_metrics_that_exist(where: str, query: str) -> None:
    """By a PromQL parser; ours by our table, Ray's by Ray's own dashboards."""
    promql_parser.parse(_plain(query))
    names = set(re.findall(r"\bray_\w+", query))
    assert names
    assert names <= OURS | _of_ray(), where


def test_every_metric_of_ours_is_shown_or_watched() -> None:
    """What nobody looks at need not be counted."""
    shown = {name for _, query in QUERIES for name in re.findall(r"\bray_bae_\w+", query)}
    assert shown == OURS


def test_tags_in_queries_are_tags_of_the_metric() -> None:
    """A selector or grouping by a tag that a counter does not have would match nothing."""
    always = {"SessionName"}
    for where, query in QUERIES:
        for name, selectors in re.findall(r"ray_(bae_\w+?)_total\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)\s*[=!]~?", selectors))
            assert used <= always | set(monitoring.COUNTERS[name][1]), where


def test_steps_keep_their_names() -> None:
    """Years of metrics carry them, so each class declares its own."""
    assert all("name" in vars(step) for step in STEPS)
    assert NAMES == [
        "Index",
        "Score",
        "Outcomes",
        "Thumbnails",
        "LocalizerSamples",
        "RegressorSamples",
        "RegionsSamples",
    ]


def test_alerts_and_dashboard_ask_for_declared_steps() -> None:
    """A step that nobody declares would never ring."""
    asked = {
        name
        for _, query in QUERIES
        for value in re.findall(r'\bstep=~?"([^"]*)"', query)
        for name in value.split("|")
    }
    assert "Score" in asked
    assert asked <= set(NAMES)


def test_every_alert_has_its_entry_in_the_runbook() -> None:
    """The link in the alert leads to a heading, and no entry is left over."""
    page = (INFRA / "monitoring" / "README.md").read_text()
    entries = set(re.findall(r"^## (Bae\w+)$", page, re.MULTILINE))
    assert entries == {rule["alert"] for rule in RULES}
    for rule in RULES:
        assert rule["annotations"]["runbook"].endswith(f"README.md#{rule['alert'].lower()}")
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
    for entry in entries:
        text = page.split(f"## {entry}\n")[1].split("\n## ")[0]
        assert re.search(r"^\*[^*]+\*", text.strip()), f"{entry}: what it means, in italics"
        assert re.search(r"^(- |1\. )", text, re.MULTILINE), f"{entry}: what to do, as a list"


def test_the_runbooks_links_lead_somewhere() -> None:
    """Relative links of the page."""
    page = INFRA / "monitoring" / "README.md"
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


# ---- what is counted ------------------------------------------------------------------------


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[tuple[str, ...]]]:
    """Counters that only add up, by name and tag values."""
    found: Counter[tuple[str, ...]] = Counter()

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def inc(self, value: float, tags: dict[str, str]) -> None:
            assert value > 0
            assert set(tags) == set(monitoring.COUNTERS[self.name][1])
            found[(self.name, *tags.values())] += value

    monkeypatch.setattr(monitoring, "_counter", Fake)
    yield found


def test_a_parts_rows_are_counted(counts: Counter[tuple[str, ...]]) -> None:
    """Scans, refusals by code, and the two halves of the mean age gap."""
    staged = rows.staged(rows.listing(range(1, 41)), "m1")
    monitoring.stored("Score", 38, staged)
    gaps = [
        row["age"]["predicted_age_years"] - row["scan"]["age_years"]
        for row in staged.to_pylist()
        if row["age"]
    ]
    assert counts[("bae_scans", "Score")] == 38
    assert counts[("bae_refused", "Score", "broken")] == 2
    assert counts[("bae_age_gap_scans",)] == len(gaps) == 38
    over, under = counts[("bae_age_gap_over_years",)], counts[("bae_age_gap_under_years",)]
    assert over == pytest.approx(sum(gap for gap in gaps if gap > 0))
    assert over - under == pytest.approx(sum(gaps), rel=1e-5)


def test_without_ages_refusals_and_scans_no_counter_moves(counts: Counter[tuple[str, ...]]) -> None:
    """No ages, no refusals, no scans: no counter moves, and none is asked to by zero."""
    monitoring.stored("Score", 0, contract.STAGED.empty_table())
    monitoring.stored("LocalizerSamples", 3, pa.table({"image": [b"1"]}))
    assert dict(counts) == {("bae_scans", "LocalizerSamples"): 3}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "done"), (RunError("no room"), "failed"), (UseError("no place"), "refused")],
)
def test_the_end_of_a_job_is_counted_on_its_cluster(
    error: Exception | None,
    outcome: str,
    counts: Counter[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only there; and the error stays what it was."""
    from contextlib import nullcontext

    def job(options: argparse.Namespace) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(session, "session", nullcontext)

    def call() -> Any:
        counted = monitoring.counted(command.Parser("predict", "", ""), job)
        if error is None:
            return counted(argparse.Namespace())
        with pytest.raises(type(error)) as caught:
            counted(argparse.Namespace())
        assert caught.value is error
        return None

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    call()
    assert not counts
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    call()
    assert dict(counts) == {("bae_jobs", "predict", outcome): 1}
