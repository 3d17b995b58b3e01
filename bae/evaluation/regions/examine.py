"""What an evaluation shows of a model's regions: Figure 3, the atlas, and whether they are right.

Everything here reads the chosen scans from the archive once more, see ``bae.pipeline.reread``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import torch
from matplotlib.figure import Figure

from bae.evaluation import figure3
from bae.evaluation.panels import RegionPanel, read_from, title
from bae.evaluation.regions import account, atlas, measured
from bae.method.prediction import LocalizedView
from bae.method.predictor import Predictor, chosen_views, localize
from bae.pipeline import reread
from bae.recipes import age_group
from bae.scan import ANTERIOR, POSTERIOR, Scan

MOST_MAPS, MOST_CHECKS = 400, 24
"""Scans of the atlas, and of each check: enough for a mean, few enough for minutes."""


Row = dict[str, Any]
Panels = list[RegionPanel]


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """What there is to show.

    Attributes:
        figures: name of the file to figure.
        checks: rows of ``measured.SCHEMA``.
        by_region: rows of ``account.by_region``; none for a method of one region.
    """

    figures: dict[str, Figure]
    checks: pa.Table
    by_region: list[Row]


def examine(tables_uri: str, predictor: Predictor, outcomes: pa.Table) -> Regions | None:
    """Look at the regions of scans whose age is known.

    Args:
        tables_uri: root of the tables; their archive must be within reach.
        predictor: the model.
        outcomes: scan_id, patient_key, sex, age_years, predicted_age_years, object_uri of
            the held-out scans.

    Returns:
        None for a model that does not say where it looks, or where no scan can be read any more.
    """
    recipe = predictor.recipe
    several = recipe.region.parts == "several"
    if not outcomes.num_rows or not (several or predictor.localizer or _shows_heat(predictor)):
        return None
    rows = {row["scan_id"]: row for row in outcomes.to_pylist()}
    # pseudonyms are hashes: their order is chance, and the same for every model
    seen = dict(panels(tables_uri, predictor, sorted(rows)[:MOST_MAPS], rows))
    if not seen:
        return None
    edges = recipe.localizer.group_edges_years
    drawn = figure3.draw(outcomes, edges, _reader(tables_uri, predictor, rows))
    names = [f"{low:.0f}-{high:.0f} years" for low, high in pairwise(edges)]
    drawn["atlas"] = atlas.atlas(means(seen, rows, edges), names)
    few = first_of_each_patient(seen, rows)[:MOST_CHECKS]
    checks = measured.checks(predictor, seen, few, rows, several=several)
    places = account.by_region(seen, rows)
    if places:
        drawn["atlas_by_region"] = account.atlas_by_region(places)
    return Regions(
        figures=drawn,
        checks=pa.Table.from_pylist(checks, schema=measured.SCHEMA),
        by_region=places,
    )


@torch.inference_mode()
def _shows_heat(predictor: Predictor) -> bool:
    """Say whether a regressor of whole views tells where it looks; a black picture is enough."""
    if predictor.recipe.method != "networks":
        return False
    config = predictor.recipe.regressor
    size = (1, 2 if config.pair else 1, config.height, config.width)
    return predictor.regressor.look(torch.zeros(size, device=predictor.device)).heat_NVU is not None


def _found(predictor: Predictor, scan: Scan) -> Sequence[LocalizedView]:
    """Return what the method finds in each view."""
    if predictor.localizer is None:
        return predictor.predict([scan])[0].views
    views = chosen_views(scan, predictor.recipe)
    return localize(predictor.localizer, predictor.recipe, views, predictor.device)


def _reader(
    tables_uri: str, predictor: Predictor, rows: Mapping[str, Row]
) -> Callable[[Sequence[str]], dict[str, Panels]]:
    return lambda scan_ids: dict(panels(tables_uri, predictor, scan_ids, rows))


def panels(
    tables_uri: str, predictor: Predictor, scan_ids: Sequence[str], rows: Mapping[str, Row]
) -> Iterator[tuple[str, Panels]]:
    """Yield what the method finds in each scan, one panel per scored view."""
    region = predictor.recipe.region
    several = region.parts == "several"
    for scan_id, scan in reread.scans(tables_uri, scan_ids):
        found = _found(predictor, scan)
        yield (
            scan_id,
            [
                RegionPanel(
                    title=title(rows[scan_id], view.name),
                    view=view.name,
                    counts=view.counts,
                    heat=own.heat,
                    # without a localizer all boxes were read; they need not have weights
                    boxes=own.boxes if region.whole else read_from(own.boxes),
                    pixel_mm=scan.pixel_mm,
                    gamma=None if several or region.whole else region.gamma,
                )
                for view, own in zip(chosen_views(scan, predictor.recipe), found, strict=True)
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
