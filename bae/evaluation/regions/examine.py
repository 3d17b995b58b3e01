"""What an evaluation shows of a model's regions: Figure 3, the atlas, and whether they are right.

Everything here reads the chosen scans from the archive once more, see ``bae.pipeline.reread``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from bae.evaluation import figure3, metrics
from bae.evaluation.panels import RegionPanel, title
from bae.evaluation.regions import atlas
from bae.evaluation.regions import truth as regions_truth
from bae.evaluation.regions.checks import occlusion, randomisation
from bae.method.predictor import Predictor, chosen_views, localize
from bae.phantom import archive, evidence
from bae.pipeline import reread
from bae.recipes import age_group
from bae.scan import ANTERIOR, POSTERIOR, Identity, Scan, View

MOST_MAPS, MOST_CHECKS = 400, 24
"""Scans of the atlas, and of each check: enough for a mean, few enough for minutes."""

SCHEMA = pa.schema(
    [
        pa.field("check", pa.string(), False),
        pa.field("what", pa.string(), False),
        pa.field("unit", pa.string(), False),
        pa.field("value", pa.float64(), False),
        pa.field("low", pa.float64(), False),
        pa.field("high", pa.float64(), False),
        pa.field("scans", pa.int32(), False),
    ]
)
"""One row per number, with its 95 % interval over patients."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """What there is to show.

    Attributes:
        figures: name of the file to figure.
        checks: rows of ``SCHEMA``.
    """

    figures: dict[str, Figure]
    checks: pa.Table


def examine(tables_uri: str, predictor: Predictor, outcomes: pa.Table) -> Regions | None:
    """Look at the regions of scans whose age is known.

    Args:
        tables_uri: root of the tables; their archive must be within reach.
        predictor: the model.
        outcomes: scan_id, patient_key, sex, age_years, predicted_age_years, object_uri of
            the held-out scans.

    Returns:
        None for a model without a localizer, or where no scan can be read any more.
    """
    if predictor.localizer is None or not outcomes.num_rows:
        return None
    recipe = predictor.recipe
    rows = {row["scan_id"]: row for row in outcomes.to_pylist()}
    drawn = figure3.draw(
        outcomes, recipe.localizer.group_edges_years, _reader(tables_uri, predictor, rows)
    )
    # pseudonyms are hashes: their order is chance, and the same for every model
    seen = dict(panels(tables_uri, predictor, sorted(rows)[:MOST_MAPS], rows))
    if not seen:
        return None
    edges = recipe.localizer.group_edges_years
    names = [f"{low:.0f}-{high:.0f} years" for low, high in pairwise(edges)]
    drawn["atlas"] = atlas.atlas(means(seen, rows, edges), names)
    few = first_of_each_patient(seen, rows)[:MOST_CHECKS]
    checks = [
        *_randomised(predictor, seen, few, rows),
        *_occluded(predictor, seen, few, rows),
        *_evidence(seen, few, rows),
    ]
    return Regions(figures=drawn, checks=pa.Table.from_pylist(checks, schema=SCHEMA))


Row = dict[str, Any]
Panels = list[RegionPanel]


def _reader(
    tables_uri: str, predictor: Predictor, rows: Mapping[str, Row]
) -> Callable[[Sequence[str]], dict[str, Panels]]:
    return lambda scan_ids: dict(panels(tables_uri, predictor, scan_ids, rows))


def panels(
    tables_uri: str, predictor: Predictor, scan_ids: Sequence[str], rows: Mapping[str, Row]
) -> Iterator[tuple[str, Panels]]:
    """Yield what the localizer finds in each scan, one panel per scored view."""
    assert predictor.localizer is not None
    for scan_id, scan in reread.scans(tables_uri, scan_ids):
        views = chosen_views(scan, predictor.recipe)
        found = localize(predictor.localizer, predictor.recipe, views, predictor.device)
        yield (
            scan_id,
            [
                RegionPanel(
                    title=title(rows[scan_id], view.name),
                    view=view.name,
                    counts=view.counts,
                    heat=own.heat,
                    box=own.boxes[0],
                    pixel_mm=scan.pixel_mm,
                    gamma=predictor.recipe.region.gamma,
                )
                for view, own in zip(views, found, strict=True)
            ],
        )


def first_of_each_patient(scan_ids: Mapping[str, object], rows: Mapping[str, Row]) -> list[str]:
    """Return one scan per patient, in the order given."""
    chosen: dict[str, str] = {}
    for scan_id in scan_ids:
        chosen.setdefault(rows[scan_id]["patient_key"], scan_id)
    return list(chosen.values())


def means(
    seen: Mapping[str, Panels], rows: Mapping[str, Row], edges_years: Sequence[float]
) -> dict[tuple[str, str, int], atlas.Mean]:
    """Return the mean map of each view, sex and age group, all on one frame.

    Args:
        seen: scan_id to panels.
        rows: scan_id to sex and age_years; scans without either are left out.
        edges_years: of the age groups; scans outside are left out.

    Returns:
        (view, sex, group) to mean, where there are scans.
    """
    found = {}
    for view in (ANTERIOR, POSTERIOR):
        mine = [(rows[name], p) for name, own in seen.items() for p in own if p.view == view]
        if not mine:
            continue
        placed = atlas.place([(panel.counts, panel.pixel_mm) for _, panel in mine])
        members: dict[tuple[str, str, int], list[int]] = {}
        for i, (row, _) in enumerate(mine):
            age, sex = row["age_years"], row["sex"]
            group = None if age is None else age_group(age, edges_years)
            if group is not None and sex is not None:
                members.setdefault((view, sex, group), []).append(i)
        for key, places in sorted(members.items()):
            found[key] = atlas.average(
                [placed[i] for i in places], [mine[i][1].heat for i in places]
            )
    return found


# ---- checks -------------------------------------------------------------------------------


def _row(check: str, what: str, unit: str, values: ArrayLike, patients: Sequence[str]) -> Row:
    mean = metrics.bootstrap(lambda v: [float(v.mean())], [np.asarray(values)], patients)[0]
    return {
        "check": check,
        "what": what,
        "unit": unit,
        "value": mean.value,
        "low": mean.low,
        "high": mean.high,
        "scans": len(patients),
    }


def _randomised(
    predictor: Predictor, seen: Mapping[str, Panels], few: Sequence[str], rows: Mapping[str, Row]
) -> list[Row]:
    """One row per layer, over the view that most scans have."""
    own = {name: seen[name][0] for name in few}
    view = max((p.view for p in own.values()), key=[p.view for p in own.values()].count)
    own = {name: panel for name, panel in own.items() if panel.view == view}
    if len(own) < 2:
        return []
    patients = [rows[name]["patient_key"] for name in own]
    views = [View(name=panel.view, counts=panel.counts) for panel in own.values()]
    found = randomisation(predictor, views)
    result = []
    for layer in dict.fromkeys(row.layer for row in found):
        mine = [row for row in found if row.layer == layer]
        what = "another scan's map" if layer == "none" else f"random down to {layer}"
        ranks, overlaps = [r.rank_correlation for r in mine], [r.overlap for r in mine]
        result.append(_row("randomised: map", what, "rank correlation", ranks, patients))
        result.append(_row("randomised: region", what, "overlap", overlaps, patients))
    return result


def _occluded(
    predictor: Predictor, seen: Mapping[str, Panels], few: Sequence[str], rows: Mapping[str, Row]
) -> list[Row]:
    found, patients = [], []
    for name in few:
        scan = Scan(
            views=tuple(View(name=panel.view, counts=panel.counts) for panel in seen[name]),
            identity=Identity(patient="", study="", instance=""),
            sex=rows[name]["sex"],
        )
        one = occlusion(predictor, scan)
        if one is not None:
            found.append(one)
            patients.append(rows[name]["patient_key"])
    if not found:
        return []
    drop = [one.score_drop for one in found]
    control = [one.control_score_drop for one in found]
    age = [one.age_change_years for one in found]
    other = [one.control_age_change_years for one in found]
    check, unit = "hidden", "fall of log probability"
    return [
        _row(check, "region", unit, drop, patients),
        _row(check, "another box", unit, control, patients),
        _row(check, "difference", unit, np.subtract(drop, control), patients),
        _row(check, "region", "change of age, years", age, patients),
        _row(check, "another box", "change of age, years", other, patients),
        _row(check, "difference", "change of age, years", np.subtract(age, other), patients),
    ]


def _evidence(seen: Mapping[str, Panels], few: Sequence[str], rows: Mapping[str, Row]) -> list[Row]:
    cohort = archive.cohort_of([rows[name]["object_uri"] for name in few])
    if cohort is None:
        return []
    size = (cohort.config.rows, cohort.config.columns)
    found: list[tuple[str, regions_truth.Kept]] = []
    for name in few:
        own = [panel for panel in seen[name] if panel.view in evidence.VIEWS]
        truth = cohort.evidence(rows[name]["object_uri"])
        if truth is not None and own and own[0].counts.shape == size:
            kept = regions_truth.kept(truth, own, cohort.config)
            found.append((rows[name]["patient_key"], kept))
    if not found:
        return []
    patients = [patient for patient, _ in found]
    values = {
        field: np.array([getattr(one, field) for _, one in found])
        for field in ("region", "elsewhere", "limit_whole_years", "limit_region_years")
    }
    paired = np.flatnonzero(~np.isnan(values["elsewhere"]))
    some = [patients[i] for i in paired]
    check, unit = "evidence kept", "share of the information about age"
    result = [_row(check, "region", unit, values["region"], patients)]
    if some:
        result += [
            _row(check, "region, where another box fits", unit, values["region"][paired], some),
            _row(check, "another box", unit, values["elsewhere"][paired], some),
        ]
    limit = "least mean absolute error, years"
    return [
        *result,
        _row(check, "whole views", limit, values["limit_whole_years"], patients),
        _row(check, "region", limit, values["limit_region_years"], patients),
    ]
