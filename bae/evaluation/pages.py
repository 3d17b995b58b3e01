"""Rows to Markdown, CSV and Parquet, figures to PDF and PNG: how an evaluation is written."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from bae import storage
from bae.evaluation import plots
from bae.evaluation.metrics import Estimate

Row = dict[str, Any]
"""One row of a table, by column."""


@dataclass(frozen=True)
class Output:
    """Where an evaluation goes: a folder by URI."""

    uri: str

    def page(self, name: str, text: str) -> None:
        """Write a text file."""
        storage.write_bytes(storage.join(self.uri, name), text.encode())

    def figure(self, name: str, figure: Figure) -> None:
        """Write a figure as PDF and PNG."""
        for ending, save in (("pdf", plots.pdf), ("png", plots.png)):
            storage.write_bytes(storage.join(self.uri, f"{name}.{ending}"), save(figure))

    def table(self, name: str, rows: Sequence[Row], text: str) -> None:
        """Write rows as Parquet and CSV, and their page as Markdown."""
        table = pa.Table.from_pylist(list(rows))
        sinks = io.BytesIO(), io.BytesIO()
        pq.write_table(table, sinks[0])
        pyarrow.csv.write_csv(table, sinks[1])
        for ending, sink in zip(("parquet", "csv"), sinks, strict=True):
            storage.write_bytes(storage.join(self.uri, f"{name}.{ending}"), sink.getvalue())
        self.page(f"{name}.md", text)


def estimate(name: str, value: Estimate) -> Row:
    """Return an estimate as three columns of a row."""
    return {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}


def flat(found: Mapping[str, Estimate]) -> Row:
    """Return named estimates as columns of one row."""
    return {key: v for name, value in found.items() for key, v in estimate(name, value).items()}


def page_of(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table, intervals beside their values."""
    if not rows:
        return "Nothing to show.\n"
    names = [n for n in rows[0] if not n.endswith(("_low", "_high"))]
    return markdown_table(names, ([_cell(row, name) for name in names] for row in rows)) + "\n"


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table of these rows, without a line end after the last."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([str(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Row, name: str) -> str:
    value = row[name]
    if value is None or value != value:  # NaN is not itself
        return ""
    if not isinstance(value, float):
        return str(value)
    if name == "wilcoxon_p":
        return f"{value:.2g}"
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if low is None or high is None:
        return f"{value:.2f}"
    return Estimate(value, low, high).text()


ERRORS = {
    "MAE, years (95 %)": "mae_years",
    "RMSE, years": "rmse_years",
    "R²": "r2",
    "median error, years": "median_error_years",
    "within 5 years": "within_5_years",
}


def costs_of(first: str) -> dict[str, str]:
    """Return heads and columns of Table 1 with costs, differences being from the first method."""
    return {
        "MAE, years (95 %)": "mae_years",
        f"more than {first}, years (95 %)": "mae_difference_years",
        "p": "wilcoxon_p",
        "numbers stored": "numbers",
        "GFLOP a scan": "gflop",
        "ms of CPU a scan": "cpu_ms",
        "minutes of training": "training_minutes",
    }


def table_one_page(rows: Sequence[Row], columns: Mapping[str, str] = ERRORS) -> str:
    """Return Table 1 as Markdown, under the field's names."""
    lines = []
    for row in rows:
        bare = {
            k: v for k, v in row.items() if k.startswith("mae") or not k.endswith(("_low", "_high"))
        }
        lines.append([row["method"], row["sex"], *(_cell(bare, n) for n in columns.values())])
    return markdown_table(["method", "sex", *columns], lines) + "\n"
