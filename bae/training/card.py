"""A model's card for readers: ``card.md``, made of ``card.json`` alone (Mitchell et al. 2019)."""

import json
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bae import recipes
from bae.evaluation import plots
from bae.evaluation.metrics import FEW, Estimate
from bae.evaluation.pages import markdown_table
from bae.method.calibration import ROUGH
from bae.method.model import Card, Part

INTENDED = """\
Research on groups of adults: how the skeletal age of a cohort compares with its chronological
age. Not for the care of a single patient: there is no approval and no clinical validation. It
knows whole-body bone scans of ages and cameras like those below, and answers for any other
without warning. The predicted age is drawn towards the mean of the training ages (see the slope
below): compare groups of equal age, or correct first."""

METRICS = {
    "mae_years": "mean absolute error, years",
    "rmse_years": "root mean squared error, years",
    "r2": "R²",
    "median_error_years": "median absolute error, years",
    "within_5_years": "share within 5 years",
}


def markdown(card: Card) -> str:
    """Return the card as a Markdown page: use, data, recipe, figures, calibration, versions."""
    pieces = [
        f"# Model {card.model_id}\n\nRecipe `{card.recipe.name}`.",
        f"## Intended use and limits\n\n{INTENDED}",
        *(f"## The {TITLES.get(name, name)}\n\n{_part(part)}" for name, part in card.parts.items()),
    ]
    if card.validation:
        pieces.append(f"## Figures on validation patients\n\n{_validation(card)}")
    if card.calibration is not None:
        pieces.append(f"## Calibration\n\n{_calibration(card)}")
    recipe = json.dumps(recipes.to_json(card.recipe), indent=2)
    pieces += [
        f"## Recipe\n\n```json\n{recipe}\n```",
        f"## Versions\n\n{markdown_table(('package', 'version'), card.versions.items())}",
    ]
    return "\n\n".join(pieces) + "\n"


def _part(part: Part) -> str:
    columns = {
        "scans": "scans",
        "patients": "patients",
        "mean age, years": "age_mean_years",
        "SD, years": "age_sd_years",
        "share of women": "female_share",
        "digest of object versions": "digest",
    }
    rows = [
        (split, *(_told(data.get(name, "")) for name in columns.values()))
        for split, data in part.data.items()
    ]
    fit = ", ".join(f"{k} {part.fit[k]}" for k in ("epochs", "seconds", "device") if k in part.fit)
    lines = [f"Weights: sha256 `{part.sha256}`"]
    if rows:
        lines.append(markdown_table(("split", *columns), rows))
    if fit:
        found = (f"{k.replace('_', ' ')} {v:.3g}" for k, v in part.metrics.items())
        lines.append(f"Training: {fit}; {', '.join(found)}.")
    return "\n\n".join(lines)


def _told(value: object) -> object:
    """Return a value for readers: None is what fewer than five patients would tell."""
    return FEW if value is None else value


TITLES = {
    "regional": "linear model",
    "regions": "network of several regions",
    "nearest": "atlas of people",
    "svr": "support vector regression",
}
"""What a part is called where its name does not say it."""


def _validation(card: Card) -> str:
    found, recipe = card.validation, card.recipe
    # what is no network has no epochs
    chose = recipe.method not in ("regional", "nearest") and recipe.fit_regressor.keep == "best"
    measures = {name: Estimate(**value) for name, value in found["metrics"].items()}
    rows = [(METRICS[name], value.text()) for name, value in measures.items()]
    always = "always saying the training mean: mean absolute error, years"
    rows.append((always, f"{found['always_mean_mae_years']:.2f}"))
    slope = Estimate(**found["gap_slope"])
    rows.append(("age bias: slope of predicted minus actual on actual age", slope.text()))
    if found["ece"] is not None:
        rows.append(("expected calibration error of the age group, raw", f"{found['ece_raw']:.3f}"))
        rows.append(("the same, calibrated", f"{found['ece']:.3f}"))
    groups = [
        (
            *(row[name] for name in ("by", "group")),
            *(row.get("withheld") or row[name] for name in ("scans", "patients")),
            "" if row["mae_years"] is None else Estimate(**row["mae_years"]).text(),
            "" if row["gap_years"] is None else f"{row['gap_years']:+.2f}",
            "" if row["coverage"] is None else Estimate(**row["coverage"]).text(),
        )
        for row in found["subgroups"]
    ]
    errors = ("mean absolute error, years (95 %)", "mean gap, years")
    head = ("by", "group", "scans", "patients", *errors, "coverage of the 90 % interval (95 %)")
    return (
        f"{found['scans']} scans of {found['patients']} patients that no weight was fitted to"
        f"{', but that chose the epoch' if chose else ''}: figures on patients of the test split "
        "(`jobs.evaluate`) come first. In brackets 95 % intervals over patients. Uncorrected for "
        "age bias. Coverage and probabilities of each patient are by a calibration on the "
        "others.\n\n"
        f"{markdown_table(('measure', 'value'), rows)}\n\n{markdown_table(head, groups)}"
    )


def _calibration(card: Card) -> str:
    fitted = card.calibration
    assert fitted is not None
    if fitted.factor is None:
        width = f"No interval: {fitted.patients} patients are too few to promise one."
    elif fitted.shape is None:
        width = (
            f"Interval ({fitted.level:.0%}, split-conformal over {fitted.patients} patients): "
            f"half width = {fitted.factor:.3f} × (ensemble's spread + {fitted.floor_years:.2f}) "
            "years."
        )
    else:
        rough = f" So few patients make it rough: {ROUGH} are wanted." * (fitted.patients < ROUGH)
        width = (
            f"Interval ({fitted.level:.0%}, conformal over {fitted.scans} scans of "
            f"{fitted.patients} patients): half width = {fitted.factor:.3f} × the expected error, "
            f"which is {fitted.shape.usual_years:.2f} years on average and goes with answer, sex "
            f"and spread.{rough}"
        )
    return (
        f"{width} Age-group probabilities: temperature {fitted.temperature:.2f}. Age bias: "
        f"predicted = {fitted.bias_intercept_years:.2f} years + {fitted.bias_slope:.3f} × actual; "
        "predicted ages in the tables are uncorrected."
    )


def learning_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw how training went: loss above, validation below, the epoch that was kept marked."""
    epochs = [metrics["epoch"] for metrics in history]
    best = min(history, key=lambda metrics: metrics["score"])
    name, unit = "cross_entropy", "validation cross-entropy"
    if "mae_years" in best:
        name, unit = "mae_years", "validation error, years"
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(epochs, [m["train_loss"] for m in history], color="black", marker=".")
    above.set_ylabel("training loss")
    below.plot(epochs, [m[name] for m in history], color="black", marker=".")
    below.set_ylim(bottom=0)
    below.axvline(best["epoch"], color=plots.BLUE, linestyle="--", linewidth=1)
    note = f"kept: epoch {best['epoch']:.0f}, {best[name]:.2f}"
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "right"}
    looks = place | {"color": plots.BLUE, "fontsize": 9}
    below.annotate(note, (best["epoch"], 0.04), xytext=(-4, 0), **looks)
    below.set_ylabel(unit)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
