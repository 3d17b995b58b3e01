"""Errors of methods over simulated worlds and sizes of cohorts: a table and a figure.

What counts is the error over what a reader of pictures could reach in the world
(``phantom.limits``): worlds differ in that, and a method that wins in one may lose in another.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from bae.evaluation import plots, scorecard
from bae.evaluation.metrics import Floats
from bae.evaluation.pages import Row
from bae.evaluation.table_one import Method
from bae.phantom import PhantomConfig
from bae.phantom.limits import limits

WORLD = ("chosen on", "unseen")
"""Whether a default was chosen on the world, as ``jobs.worlds --unseen`` says."""


def rows_of(
    world: int,
    scans: int,
    unseen: bool,
    methods: Sequence[Method],
    latent: Mapping[str, float],
) -> list[Row]:
    """Return one row a method: its error in a world, and that over the limit.

    Args:
        world: its number.
        scans: learned from.
        unseen: whether no default was chosen on it.
        methods: on its held-out scans.
        latent: object_uri to the latent age, for sound scans.
    """
    reachable = limits(PhantomConfig(world=world)).regional
    found = []
    for method in methods:
        errors = scorecard.errors(method.outcomes)["mae_years"]
        gaps = scorecard.floats(method.outcomes, "predicted_age_years")
        years = scorecard.floats(method.outcomes, "age_years")
        low, high = (
            scorecard.floats(method.outcomes, f"age_{side}_years") for side in ("low", "high")
        )
        inside = (years >= low) & (years <= high)
        found.append(
            {
                "method": method.name,
                "world": world,
                "world_is": WORLD[unseen],
                "scans": scans,
                "test_scans": method.outcomes.num_rows,
                "mae_years": errors.value,
                "mae_years_low": errors.low,
                "mae_years_high": errors.high,
                "limit_mae_years": reachable,
                "error_over_limit": errors.value / reachable,
                "bias_years": float((gaps - years).mean()),
                "coverage_90": float(np.mean(inside)) if np.isfinite(low).all() else math.nan,
                "width_90_years": float((high - low).mean()),
            }
            | _meaning(method, latent)
        )
    return found


def _meaning(method: Method, latent: Mapping[str, float]) -> Row:
    """Return how the age gap goes with what it stands for: latent minus chronological age.

    Raw and with the age bias taken out, each as it is and among people of equal age (partial
    correlation given age). A gap drawn towards the mean age correlates with age itself, and that
    is what a comparison without age as covariate finds (Butler et al. 2021, PMC8357007).
    """
    some = method.outcomes.filter(pc.is_in(method.outcomes["object_uri"], pa.array(list(latent))))
    years = scorecard.floats(some, "age_years")
    excess = np.array([latent[uri] for uri in some["object_uri"].to_pylist()]) - years
    answers = {"gap": scorecard.floats(some, "predicted_age_years")}
    if method.card.calibration is not None:
        answers["corrected_gap"] = method.card.calibration.corrected_years(answers["gap"])
    found = {}
    for name, answer in answers.items():
        gap = answer - years
        found[f"{name}_with_excess"] = _correlation(gap, excess)
        found[f"{name}_with_excess_given_age"] = _correlation(
            _left(gap, years), _left(excess, years)
        )
        found[f"{name}_with_age"] = _correlation(gap, years)
    return found


def _correlation(one: Floats, two: Floats) -> float:
    if len(one) < 3 or not (one.std() > 0 and two.std() > 0):
        return math.nan
    return float(np.corrcoef(one, two)[0, 1])


def _left(values: Floats, years: Floats) -> Floats:
    """Return what a straight line in age leaves of values."""
    if len(values) < 3:
        return values
    return np.asarray(values - np.polyval(np.polyfit(years, values, 1), years))


def page(rows: Sequence[Row]) -> str:
    """Return the table: error over limit by method and size, mean and range over worlds."""
    lines = [
        "| method | scans | worlds | error over limit, mean (least to most) |",
        "|---|---|---|---|",
    ]
    for key in sorted({(row["world_is"], row["scans"], row["method"]) for row in rows}):
        own = [row for row in rows if (row["world_is"], row["scans"], row["method"]) == key]
        over = [row["error_over_limit"] for row in own]
        numbers = ", ".join(str(row["world"]) for row in own)
        lines.append(
            f"| {key[2]} | {key[1]} | {numbers} ({key[0]}) | "
            f"{np.mean(over):.2f} ({min(over):.2f} to {max(over):.2f}) |"
        )
    return "\n".join(lines) + "\n"


COLOURS = (plots.BLUE, plots.VERMILION, "#009e73", "#cc79a7", plots.GREY, "#e69f00")
MARKS = "o^sDvP"


def learning_curves(rows: Sequence[Row]) -> Figure:
    """Draw error over limit against cohort size, a line a method, each world a mark."""
    figure, axis = plots.axes("scans to learn from", "error over what pictures allow")
    methods = sorted({row["method"] for row in rows})
    for i, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        sizes = sorted({row["scans"] for row in own})
        means = [
            np.mean([row["error_over_limit"] for row in own if row["scans"] == size])
            for size in sizes
        ]
        colour, mark = COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]
        axis.plot(sizes, means, color=colour, label=method)
        for unseen in (False, True):
            some = [row for row in own if (row["world_is"] == WORLD[True]) == unseen]
            axis.scatter(
                # side by side, so that methods do not hide each other
                [row["scans"] * math.exp(0.03 * (i - len(methods) / 2)) for row in some],
                [row["error_over_limit"] for row in some],
                marker=mark,
                s=22,
                facecolors=colour if unseen else "none",
                edgecolors=colour,
                linewidths=0.9,
            )
    axis.axhline(1.0, color=plots.GREY, linewidth=0.8, linestyle=":")
    sizes = sorted({row["scans"] for row in rows})
    axis.set_xscale("log")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8)
    axis.set_title("filled: worlds that chose nothing", fontsize=8)
    return figure
