"""One self-contained page on a cohort and a run. It asks nothing from outside and names nobody."""

import base64
from typing import Any

import jinja2
import markupsafe

from bae.archive.sandbox import Decoder
from bae.evaluation import metrics
from bae.evaluation.pages import Row
from bae.evaluation.panels import box_of, region_panels
from bae.evaluation.regions import account
from bae.pipeline import reread
from bae.report import card as report_card
from bae.report import charts, counts, drift
from bae.report.counts import Choice
from bae.scan import SEX_SINGULAR
from bae.tables import delta

OUTLIERS = 6


def build(tables_uri: str, model_uri: str | None = None, run_id: str | None = None) -> str:
    """Return the page as HTML.

    Args:
        tables_uri: root of the tables; ``restricted/`` must be readable.
        model_uri: model folder, to show its card and its ages; by default the model that
            scored last, without a card.

    Raises:
        UseError: no tables, no such run.
        ModelError: no such model.
    """
    card = None if model_uri is None else report_card.read(model_uri)
    connection = counts.open_tables(tables_uri)
    with delta.storage_errors("read the tables"):
        choice = counts.choose(connection, card.model_id if card else None, run_id)
        refusals = counts.refusals(connection, choice)
        outliers = counts.outliers(connection, choice, OUTLIERS)
        groups = counts.gap_groups(connection)
        nights = counts.nights(connection)
        drifts = _drifts(nights, tables_uri, choice)
        page = {
            "choice": choice,
            "card": card and card.values,
            # our own rendering, which escapes what the card says
            "card_page": markupsafe.Markup(card.html) if card and card.html else None,
            "totals": counts.totals(connection),
            "errors": counts.errors(connection),
            "held_out": counts.held_out_mae(connection),
            "refusals": refusals,
            "groups": groups,
            "charts": _charts(connection, groups) if groups else None,
        }
    with Decoder() as decoder:
        pictures = [_picture(row, decoder) for row in outliers]
    last = delta.delta(tables_uri, delta.LAST)
    this = nights[-1] if nights else {"scored": 0, "indexed": 0, "refused": 0}
    return _template().render(
        page,
        in_run=this["scored"],
        read_in_run=this["indexed"] + this["refused"],
        refused=sum(row["objects"] for row in refusals),
        refused_in_run=sum(row["in_run"] for row in refusals),
        outliers=[_shown(row, data) for row, data in zip(outliers, pictures, strict=True)],
        unreachable=pictures.count(None),
        drifts=drifts,
        compared=any(row.before is not None for row in drifts),
        nights=nights[: -1 - drift.SHOWN_RUNS : -1],
        version=None if last is None else last.version(),
        earlier_runs=drift.EARLIER_RUNS,
        notable=drift.NOTABLE,
        fewest=metrics.FEWEST,
        sexes=charts.SEX_NAMES,
        sexes_one={**SEX_SINGULAR, None: "sex unknown"},
        n=_number,
        short=_short,
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bae.report", ""),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.jinja")


def _number(value: float | None, digits: int, sign: bool = False) -> str:
    """Return a number for readers, with a true minus sign; a dash for nothing."""
    if value is None:
        return "–"
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "−")


def _short(value: object) -> str:
    """Return a value of a card for readers; long lists of records by their length."""
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return f"{len(value)} entries"
    return ", ".join(map(_short, value)) if isinstance(value, list) else str(value)


def _drifts(nights: list[Row], tables_uri: str, choice: Choice) -> list[drift.Drift]:
    gaps = drift.gap_series(nights)
    series = {
        "mean age gap, years": gaps,
        "refused share of new objects": drift.reject_series(nights),
    }
    scored = [row["run_id"] for row in nights if row["gaps"]][-1 - drift.EARLIER_RUNS :]
    centres = drift.centroid_series(tables_uri, choice.model_id, scored)
    series |= {f"centre of heat, {name}": centres[name] for name in sorted(centres)}
    found = [
        drift.compare(name, [sums.get(run, drift.Sums()) for run in gaps])
        for name, sums in series.items()
    ]
    return [row for row in found if row is not None]


def _charts(connection: Any, groups: list[Row]) -> dict[str, dict[str, str]]:
    cells, bins = counts.age_cells(connection), counts.gap_bins(connection)
    scans = sum(row["scans"] for row in groups)
    close = sum(c["scans"] for c in cells if abs(c["predicted"] - c["age"]) <= 5)
    # no square, bar or box of fewer than five people
    cells, bins = ([r for r in rows if r["patients"] >= metrics.FEWEST] for rows in (cells, bins))
    groups = [row for row in groups if not row["withheld"]]
    middle = "; ".join(
        f"{row['decade']}s {charts.SEX_NAMES[row['sex']]} {_number(row['quantiles'][2], 1, True)}"
        for row in groups
    )
    drawn = {
        "ages": (
            charts.age_map(cells),
            f"Map of {scans:,} scans by age and predicted age; {close / scans:.0%} lie within "
            "about five years of the line where both are equal.",
            "Each square is one year of age by one year of predicted age; those of fewer than five "
            "people are left out.",
        ),
        "histogram": (
            charts.gap_histogram(bins),
            f"Histogram of the age gap of {scans:,} scans by sex; the table below has its "
            "means and spreads.",
            f"Gaps beyond {counts.WIDEST_GAP_YEARS} years stand in the outermost bins; bins of "
            "fewer than five people are left out.",
        ),
        "boxes": (
            charts.gap_boxes(groups),
            f"Age gap by decade and sex; medians in years: {middle}.",
            "Line: 5 % to 95 %; box: the middle half; bar: the median.",
        ),
    }
    found = {}
    for name, (figure, alt, caption) in drawn.items():
        width, height = (f"{96 * inches:.0f}" for inches in figure.get_size_inches())
        data = base64.b64encode(charts.svg(figure)).decode()
        values = {"data": data, "alt": alt, "caption": caption}
        found[name] = values | {"width": width, "height": height}
    return found


def _picture(row: Row, decoder: Decoder) -> bytes | None:
    """Return overlay and crop of a scan as WebP, None where its object cannot be read again."""
    scan = None if row["source_uri"] is None else reread.again(row, decoder)
    if scan is None:
        return None
    return charts.webp(charts.thumbnail(region_panels(scan, row["heatmaps"], row["boxes"])))


def _shown(row: Row, picture: bytes | None) -> Row:
    """Return what the page may know of an outlier: no place, no heat map."""
    years = ("age_years", "predicted_age_years", "age_low_years", "age_high_years", "age_gap_years")
    views = " and ".join(f"{box['view']} view" for box in row["boxes"] if not box["box_index"])
    said = account.account([box_of(box) for box in row["boxes"]])
    cut = "its numbered regions" if said else "the region"
    return {key: row[key] for key in ("scan_id", "sex", *years)} | {
        "picture": base64.b64encode(picture).decode() if picture else None,
        "alt": f"{views}, each with the heat map laid over it and {cut} cropped".capitalize(),
        "account": said,
    }
