"""Score the held-out patients with each model, and write what a paper shows of it.

::

    <out>/evaluation.md          links everything
    <out>/table1.md .csv .parquet    tests.*    repeatability.*
    <out>/figure2.pdf .png
    <out>/<method>/              figures and groups of one model
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from bae.errors import UseError
from bae.evaluation import metrics, pages, plots, repeatability, ridge, scorecard, trained_on
from bae.evaluation.metrics import Estimate
from bae.evaluation.pages import Output, Row
from bae.evaluation.regions import examine, uptake_by_age
from bae.evaluation.table_one import MEAN, RIDGE, Method, paired_tests, table_one
from bae.method import model
from bae.method.predictor import Predictor
from bae.phantom.archive import Cohort, cohort_of
from bae.pipeline import kept, outcomes
from bae.pipeline.step import OnPart, Reading

NOISE_PAIRS = 16
"""Phantoms that are counted a second time; each costs a second or two."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to evaluate, with everything that can be checked before Ray starts.

    Attributes:
        cards: of the models, in the order asked for.
        edges: of the age groups, years.
        scans: rows of the scans table by split.
        unchecked: networks of which nobody knows whom they were trained on.
    """

    tables_uri: str
    model_uris: Sequence[str]
    out_uri: str
    cards: tuple[model.Card, ...]
    edges: tuple[float, ...]
    scans: dict[str, pa.Table]
    unchecked: tuple[trained_on.Unknown, ...] = ()


def plan(tables_uri: str, model_uris: Sequence[str], out_uri: str) -> Plan:
    """Check models and tables; writes nothing.

    Raises:
        UseError: no held-out scans of known age, a model that is not whole, or models of
            different age groups, whose scans would not be the same; a model that was trained
            on patients of the test split, or another pseudonym key than the tables'; fewer than
            five patients to test with, whose mean error would tell of each of them.
    """
    cards = tuple(model.check(uri) for uri in model_uris)
    edges = {card.recipe.localizer.group_edges_years for card in cards}
    if len(edges) > 1:
        raise UseError("the models have different age groups; evaluate each group of them alone")
    scans = {
        split: kept.training_scans(tables_uri, cards[0].recipe, split)
        for split in ("train", "validation", "test")
    }
    people = pc.count_distinct(scans["test"]["patient_key"]).as_py()
    if people < metrics.FEWEST:
        raise UseError(
            f"the test split has scans of known age of {people} patient(s); an evaluation of "
            f"fewer than {metrics.FEWEST} would tell of each of them: index more scans"
        )
    told = Reading.of(tables_uri).settings
    return Plan(
        tables_uri=tables_uri,
        model_uris=model_uris,
        out_uri=out_uri,
        cards=cards,
        edges=edges.pop(),
        scans=scans,
        unchecked=tuple(trained_on.check(model_uris, cards, scans["test"], told)),
    )


def score(planned: Plan, on_part: OnPart) -> list[Method]:
    """Score what is not scored yet; return the models on the held-out scans."""
    test = planned.scans["test"]
    methods: list[Method] = []
    for uri, card in zip(planned.model_uris, planned.cards, strict=True):
        name = card.recipe.name.removesuffix("_without_sex")
        sex = card.recipe.regressor.use_sex
        if any((m.name, m.sex) == (name, sex) for m in methods):
            name = f"{name}-{card.model_id}"
        found = outcomes.score(planned.tables_uri, uri, test, on_part)
        methods.append(Method(name=name, sex=sex, uri=uri, card=card, outcomes=found))
    return methods


def evaluate(planned: Plan, on_part: OnPart) -> list[Row]:
    """Score what is not scored yet, write all tables and figures, return the rows of Table 1."""
    test = planned.scans["test"]
    methods = score(planned, on_part)
    plain = plain_methods(planned, on_part)
    cohort = cohort_of(test["object_uri"].to_pylist())
    table = table_one(methods, plain, test, cohort.about if cohort else {})
    out = Output(planned.out_uri)
    out.table("table1", table, pages.table_one_page(table))
    tests = paired_tests(methods, plain, test)
    out.table("tests", tests, pages.page_of(tests))
    everyone = pa.concat_tables(planned.scans.values(), promote_options="default")
    out.figure("figure2", plots.ages_and_sex(everyone))
    repeated = _repeated(methods, test, cohort)
    out.table("repeatability", repeated, pages.page_of(repeated))
    per_model = []
    for method in methods:
        facts = describe(method, planned.edges, out)
        facts["regions"] = show_regions(planned.tables_uri, method, out)
        facts["figures"] += facts["regions"]
        facts["figures"] += show_uptake(planned, method, out, on_part)
        per_model.append((method, facts))
    out.page("evaluation.md", _summary(planned, table, tests, repeated, per_model))
    return table


def plain_methods(planned: Plan, on_part: OnPart) -> dict[str, Sequence[float]]:
    """Return the answers of the mean predictor and of ridge regression on the test scans."""
    windowing = planned.cards[0].recipe.windowing
    pixels = {
        split: ridge.thumbnails(planned.tables_uri, windowing, scans, on_part)
        for split, scans in planned.scans.items()
    }
    years = {split: scorecard.floats(scans, "age_years") for split, scans in planned.scans.items()}
    fitted = ridge.chosen(
        (pixels["train"], years["train"]), (pixels["validation"], years["validation"])
    )
    mean = float(pc.mean(planned.scans["train"]["age_years"]).as_py())
    return {MEAN: [mean] * len(years["test"]), RIDGE: fitted.predict(pixels["test"]).tolist()}


def _repeated(methods: Sequence[Method], test: pa.Table, cohort: Cohort | None) -> list[Row]:
    """Return the predicted age's standard deviation over visits, and over phantoms' noise."""
    found: list[tuple[Method, str, int, Estimate]] = []
    for method in methods:
        visits = repeatability.visits_sd(method.outcomes)
        if visits is not None:
            found.append((method, "two visits of a person", visits[1], visits[0]))
        if cohort:
            numbers = cohort.scans_of(test["object_uri"].to_pylist())[:NOISE_PAIRS]
            predictor = Predictor.load(method.uri)
            sd = repeatability.noise_sd(predictor, numbers, cohort.seed, cohort.config)
            found.append((method, "two counts of a phantom", len(numbers), sd))
    return [
        {"method": method.folder, "over": over, "pairs": pairs} | pages.estimate("sd_years", sd)
        for method, over, pairs, sd in found
    ]


# ---- one model ----------------------------------------------------------------------------


def describe(method: Method, edges: Sequence[float], out: Output) -> Row:
    """Write one model's figures and groups; return the facts that the summary states."""
    found, fitted = method.outcomes, method.card.calibration
    groups = scorecard.subgroups(found, edges)
    nothing = Estimate(np.nan, np.nan, np.nan)
    rows = [
        {"by": g.by, "group": g.group, "scans": g.scans, "patients": g.patients}
        | pages.estimate("mae_years", g.mae_years or nothing)
        | {"gap_years": g.gap_years}
        | pages.estimate("coverage", g.coverage or nothing)
        | {"width_years": g.width_years, "withheld": g.withheld}
        for g in groups
    ]
    out.table(f"{method.folder}/groups", rows, pages.page_of(rows))
    figures: dict[str, Figure | None] = {
        "figure4": plots.predicted_against_actual(found),
        "error_by_group": plots.error_by_group(groups),
        "bland_altman": plots.bland_altman(found),
        "age_bias": plots.age_bias(found, fitted),
        "reliability": plots.reliability(found, edges),
    }
    if groups[0].coverage is not None:
        figures["coverage"] = plots.coverage_by_group(groups)
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    for name, figure in drawn.items():
        out.figure(f"{method.folder}/{name}", figure)
    sure = scorecard.reliability(found, edges)
    corrected = None
    if fitted is not None and np.isfinite(fitted.corrected_years(0.0)):
        answers = fitted.corrected_years(found["predicted_age_years"].to_numpy())
        corrected = metrics.errors(
            scorecard.floats(found, "age_years"), answers, scorecard.patients(found)
        )["mae_years"]
    return {
        "figures": list(drawn),
        "coverage": groups[0].coverage,
        "width_years": groups[0].width_years,
        "slope": scorecard.bias(found),
        "slope_corrected": None if corrected is None else scorecard.bias(found, fitted),
        "mae_corrected": corrected,
        "ece": None if sure is None else sure.ece,
    }


def show_regions(tables_uri: str, method: Method, out: Output) -> list[str]:
    """Write Figure 3, the atlas and the checks of one model's regions; return the figures' names.

    A model that does not say where it looks has none.
    """
    seen = examine.examine(tables_uri, Predictor.load(method.uri), method.outcomes)
    if seen is None:
        return []
    for name, figure in seen.figures.items():
        out.figure(f"{method.folder}/{name}", figure)
    rows = seen.checks.to_pylist()
    if rows:
        out.table(f"{method.folder}/regions", rows, pages.page_of(rows))
    else:
        out.page(f"{method.folder}/regions.md", pages.page_of(rows))
    if seen.by_region:
        page = pages.page_of(seen.by_region)
        out.table(f"{method.folder}/by_region", seen.by_region, page)
    return list(seen.figures)


def show_uptake(planned: Plan, method: Method, out: Output, on_part: OnPart) -> list[str]:
    """Write how uptake follows age on the mean bodies of a model; return the figure's name.

    It is of all splits: no answer of the model is in it. A model without a linear part has none.
    """
    if "regional" not in method.card.parts:
        return []
    everyone = pa.concat_tables(planned.scans.values(), promote_options="default")
    some = kept.at_most(everyone, uptake_by_age.MOST_SCANS)
    found = uptake_by_age.of_cohort(planned.tables_uri, method.uri, some, on_part)
    trends = uptake_by_age.trends(some, found)
    figure, rows = uptake_by_age.figure(trends), uptake_by_age.table(trends)
    if figure is None:
        return []
    out.figure(f"{method.folder}/uptake_by_age", figure)
    out.table(f"{method.folder}/uptake_by_age", rows, pages.page_of(rows))
    return ["uptake_by_age"]


def _summary(
    planned: Plan,
    table: Sequence[Row],
    tests: Sequence[Row],
    repeated: Sequence[Row],
    per_model: Sequence[tuple[Method, Row]],
) -> str:
    first = table[0]
    pieces = [
        f"# Evaluation on held-out patients\n\n{first['scans']} scans of {first['patients']} "
        f"patients of the test split{_seen(planned)}. In brackets "
        "95 % intervals by a bootstrap over patients. Nothing is corrected for age bias unless "
        "it says so.",
        f"## Table 1\n\n{pages.table_one_page(table)}\nAlso as [CSV](table1.csv) and "
        "[Parquet](table1.parquet).",
        "## Figure 2: ages and sexes of all splits\n\n![ages and sexes](figure2.png)\n\n"
        "[PDF](figure2.pdf)",
    ]
    pieces += [_model_page(method, facts) for method, facts in per_model]
    pieces += [
        "## Repeatability\n\nStandard deviation of the predicted age, of which the true age is "
        f"taken off where a person has aged between two visits.\n\n{pages.page_of(repeated)}",
        "## Paired tests\n\nDifference of mean absolute errors, first less second, on the same "
        "patients; Wilcoxon's signed-rank test, two-sided, not adjusted for the number of tests."
        f"\n\n{pages.page_of(tests)}",
    ]
    return "\n\n".join(piece.rstrip() for piece in pieces) + "\n"


def _seen(planned: Plan) -> str:
    """Say whether the models know the test patients, as far as that is known."""
    if not planned.unchecked:
        return ", which no training and no calibration of these models has seen"
    return (
        ".\n\n"
        + "\n".join(f"- **Not checked:** {each.text()}" for each in planned.unchecked)
        + ("\n\nMean, ridge and the other models have not seen them")
    )


def _model_page(method: Method, facts: Row) -> str:
    lines = [f"Model {method.card.model_id}; [errors by group]({method.folder}/groups.md)."]
    if facts["coverage"] is not None:
        lines.append(
            f"- The 90 % interval holds {facts['coverage'].text()} of ages; mean width "
            f"{facts['width_years']:.1f} years."
        )
    lines.append(f"- Slope of predicted minus actual on actual age: {facts['slope'].text()}.")
    if facts["slope_corrected"] is not None:
        lines.append(
            f"- Corrected by the line fitted on validation patients: slope "
            f"{facts['slope_corrected'].text()}, mean absolute error "
            f"{facts['mae_corrected'].text()} years."
        )
    if facts["ece"] is not None:
        lines.append(f"- Expected calibration error of the age group: {facts['ece']:.3f}.")
    if facts["regions"]:
        lines.append(f"- [Is the region right?]({method.folder}/regions.md)")
    if "atlas_by_region" in facts["regions"]:
        lines.append(f"- [What each place weighs]({method.folder}/by_region.md)")
    if "uptake_by_age" in facts["figures"]:
        link = f"[How uptake follows age]({method.folder}/uptake_by_age.md)"
        lines.append(f"- {link}, % in ten years, over soft tissue, in all splits.")
    shown = [
        f"![{name.replace('_', ' ')}]({method.folder}/{name}.png)\n"
        f"[PDF]({method.folder}/{name}.pdf)"
        for name in facts["figures"]
    ]
    return f"## {method.folder}\n\n" + "\n".join(lines) + "\n\n" + "\n\n".join(shown)
