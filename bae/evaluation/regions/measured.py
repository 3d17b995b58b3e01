"""The checks of a model's regions as rows: each number with its interval over patients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from bae.evaluation import metrics
from bae.evaluation.panels import RegionPanel
from bae.evaluation.regions import checks as region_checks
from bae.evaluation.regions import controls, truth
from bae.evaluation.regions.hiding import Occlusion, occlusion
from bae.method.predictor import Predictor
from bae.phantom import archive, evidence
from bae.scan import Identity, Scan, View

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

Row = dict[str, Any]
Seen = Mapping[str, Sequence[RegionPanel]]


def checks(
    predictor: Predictor,
    seen: Seen,
    few: Sequence[str],
    rows: Mapping[str, Row],
    *,
    several: bool,
) -> list[Row]:
    """Return rows of ``SCHEMA``.

    Args:
        predictor: the model.
        seen: scan_id to what it found there.
        few: the scans to check, one of each patient.
        rows: scan_id to patient_key, sex, age_years and object_uri.
        several: whether it is a method of several regions.

    A model of whole views that says where it looks has no part that chooses what it reads:
    nothing of it is made random, and nothing hidden from it.
    """
    chooses = several or predictor.localizer is not None
    more = any(len(panel.boxes) > 1 for name in few for panel in seen[name])
    return [
        *(_randomised(predictor, seen, few, rows, several) if chooses else ()),
        *(_occluded(predictor, seen, few, rows, several) if chooses else ()),
        *_evidence(seen, few, rows, several or more),
        *_visits(seen, rows),
    ]


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
    predictor: Predictor,
    seen: Seen,
    few: Sequence[str],
    rows: Mapping[str, Row],
    several: bool,
) -> list[Row]:
    """One row per layer, over the view that most scans have."""
    own = {name: seen[name][0] for name in few}
    view = max((p.view for p in own.values()), key=[p.view for p in own.values()].count)
    own = {name: panel for name, panel in own.items() if panel.view == view}
    if len(own) < 2:
        return []
    patients = [rows[name]["patient_key"] for name in own]
    views = [View(name=panel.view, counts=panel.counts) for panel in own.values()]
    compare = region_checks.choices if several else region_checks.randomisation
    found = compare(predictor, views)
    result = []
    for layer in dict.fromkeys(row.layer for row in found):
        mine = [row for row in found if row.layer == layer]
        what = "another scan's map" if layer == "none" else f"random down to {layer}"
        ranks, overlaps = [r.rank_correlation for r in mine], [r.overlap for r in mine]
        result.append(_row("randomised: map", what, "rank correlation", ranks, patients))
        result.append(_row("randomised: region", what, "overlap", overlaps, patients))
    return result


MEASURES = (
    ("score_drop", "fall of log probability"),
    ("age_change_years", "change of age, years"),
    ("error_rise_years", "rise of absolute error, years"),
)
"""Of ``hiding.Occlusion``, and how a reader knows them."""


def _occluded(
    predictor: Predictor,
    seen: Seen,
    few: Sequence[str],
    rows: Mapping[str, Row],
    several: bool,
) -> list[Row]:
    found: list[tuple[str, Occlusion]] = []
    for name in few:
        scan = Scan(
            views=tuple(View(name=panel.view, counts=panel.counts) for panel in seen[name]),
            identity=Identity(patient="", study="", instance=""),
            pixel_mm=seen[name][0].pixel_mm,
            sex=rows[name]["sex"],
            age_years=rows[name]["age_years"],
        )
        one = occlusion(predictor, scan, several=several)
        if one is not None:
            found.append((rows[name]["patient_key"], one))
    result = []
    words = ("all regions", "as many other boxes") if several else ("region", "another box")
    for field, unit in MEASURES:
        # None where the measure does not exist: other methods, scans of unknown age
        mine = [
            (patient, getattr(one, field), getattr(one, f"control_{field}"))
            for patient, one in found
            if getattr(one, field) is not None
        ]
        if mine:
            patients, region, other = zip(*mine, strict=True)
            result += [
                _row("hidden", words[0], unit, region, patients),
                _row("hidden", words[1], unit, other, patients),
                _row("hidden", "difference", unit, np.subtract(region, other), patients),
            ]
    return result


def _evidence(seen: Seen, few: Sequence[str], rows: Mapping[str, Row], several: bool) -> list[Row]:
    cohort = archive.cohort_of([rows[name]["object_uri"] for name in few])
    if cohort is None:
        return []
    size = (cohort.config.rows, cohort.config.columns)
    found: list[tuple[str, truth.Kept]] = []
    for name in few:
        own = [panel for panel in seen[name] if panel.view in evidence.VIEWS]
        told = cohort.evidence(rows[name]["object_uri"])
        if told is not None and own and own[0].counts.shape == size:
            found.append((rows[name]["patient_key"], truth.kept(told, own, cohort.config)))
    if not found:
        return []
    patients = [patient for patient, _ in found]
    values = {
        field: np.array([getattr(one, field) for _, one in found])
        for field in truth.Kept.__dataclass_fields__
    }
    paired = np.flatnonzero(~np.isnan(values["elsewhere"]))
    some = [patients[i] for i in paired]
    check, unit = "evidence kept", "share of the information about age"
    region = "all regions" if several else "region"
    other = "as many random boxes" if several else "another box"
    fits = "random boxes fit" if several else "another box fits"
    result = [_row(check, region, unit, values["region"], patients)]
    if some:
        result += [
            _row(check, f"{region}, where {fits}", unit, values["region"][paired], some),
            _row(check, other, unit, values["elsewhere"][paired], some),
        ]
    if several:
        fixed = "as many boxes at fixed places"
        result.append(_row(check, fixed, unit, values["anatomical"], patients))
    limit = "least mean absolute error, years"
    return [
        *result,
        _row(check, "whole views", limit, values["limit_whole_years"], patients),
        _row(check, region, limit, values["limit_region_years"], patients),
        _row(check, region, "share of the body covered", values["area"], patients),
    ]


def _visits(seen: Seen, rows: Mapping[str, Row]) -> list[Row]:
    """Two visits of a person: do their regions lie at the same places of the body?

    Of each view the first two scans by age; nothing where boxes do not say where they lie.
    """
    places: dict[tuple[str, str], list[controls.Mask]] = {}
    for name in sorted(seen, key=lambda name: (rows[name]["age_years"] or 0.0, name)):
        for panel in seen[name]:
            mask = controls.on_body(panel)
            if mask is not None:
                places.setdefault((panel.view, rows[name]["patient_key"]), []).append(mask)
    check, unit = "two visits", "overlap of places on the body"
    result = []
    same, other = [], []
    order = sorted(places)
    for at, key in enumerate(order):
        if len(places[key]) > 1:
            same.append((key[1], controls.alike(*places[key][:2])))
            # the next person: what all bodies have in common
            following = order[(at + 1) % len(order)]
            if following[0] == key[0] and following != key:
                other.append((key[1], controls.alike(places[key][0], places[following][0])))
    for what, pairs in (("the same person", same), ("another person", other)):
        if pairs:
            patients, overlaps = zip(*pairs, strict=True)
            result.append(_row(check, what, unit, overlaps, patients))
    return result
