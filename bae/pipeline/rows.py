"""Decoded scans and predictions to rows of ``contract.STAGED``, and the step of an index run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from bae.archive.intake import Decoded, Header
from bae.archive.refusals import REJECT_CODES
from bae.errors import ScanError
from bae.pipeline.step import Step
from bae.scan import Scan, View
from bae.tables.contract import STAGED
from bae.tables.runs import Run

if TYPE_CHECKING:  # decode workers need no torch: 400 MB and two seconds each
    from bae.method.prediction import LocalizedView, Prediction


def staged(
    items: Sequence[Decoded],
    predictions: Sequence[Prediction | ScanError | None],
    model_id: str | None,
) -> pa.Table:
    """Return one row of ``contract.STAGED`` per item.

    Args:
        predictions: one per item; None where refused or only indexed, an error where
            the model had no answer.
        model_id: the model that made the predictions, None where there is none.
    """
    rows = [_row(item, found, model_id) for item, found in zip(items, predictions, strict=True)]
    return pa.Table.from_pylist(rows, schema=STAGED)


def killer(objects: pa.Table, model_id: str | None = None) -> pa.Table:
    """Return what to stage of objects that end their workers, whichever of them it was.

    A zip file is refused as a whole: who died cannot say at which member.

    Args:
        objects: columns of ``storage.LISTING``.
        model_id: for whom they are refused; None: for all.
    """
    said = ScanError("object_kills_worker", "the worker process ended twice with this object alone")
    return pa.Table.from_pylist(
        [
            {
                "object_uri": entry["object_uri"],
                "source_uri": entry["object_uri"],
                "etag": entry["etag"],
                "reject": _reject(said) | {"model_id": model_id},
            }
            for entry in objects.to_pylist()
        ],
        schema=STAGED,
    )


@dataclass(kw_only=True, eq=False)
class Index(Step):
    """Stage scans as read, without any network."""

    name: ClassVar[str] = "Index"
    run: Run

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``contract.STAGED``."""
        return staged(items, [None] * len(items), None)

    def store(self, number: int, rows: pa.Table) -> None:
        """Write them into the run's folder."""
        self.run.store(number, rows)


def as_told(scan: Scan, row: Mapping[str, Any] | None) -> Scan:
    """Return the scan with the age, sex, view names and pixel size that the scans table has.

    Args:
        row: of ``restricted/scans``; None, or of another number of views, changes nothing.
    """
    if row is None or len(row["views"]) != len(scan.views):
        return scan
    named = zip(row["views"], scan.views, strict=True)
    sizes = (row["pixel_mm"], row["pixel_column_mm"])
    return replace(
        scan,
        views=tuple(View(name=name, counts=view.counts) for name, view in named),
        age_years=row["age_years"],
        sex=row["sex"],
        pixel_mm=None if None in sizes else sizes,
    )


def _row(
    item: Decoded, prediction: Prediction | ScanError | None, model_id: str | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "object_uri": item.object_uri,
        "source_uri": item.source_uri,
        "etag": item.etag,
    }
    if isinstance(item.outcome, ScanError):
        return row | {"reject": _reject(item.outcome)}
    row["scan"] = _scan(item, item.outcome)
    if isinstance(prediction, ScanError):
        row["reject"] = _reject(prediction) | {"model_id": model_id}
    elif prediction is not None:
        row["age"] = _age(item.scan_id, item.outcome, prediction) | {"model_id": model_id}
        views = list(enumerate(prediction.views))
        row["boxes"] = [box for i, view in views for box in _boxes(view, i, item.outcome)]
        row["heatmaps"] = [_heatmap(view, i) for i, view in views if view.heat.size]
    return row


def _reject(error: ScanError) -> dict[str, Any]:
    stage = REJECT_CODES[error.code].stage
    return {"stage": stage, "code": error.code, "message": error.message}


def _scan(item: Decoded, scan: Scan) -> dict[str, Any]:
    rows, columns = scan.views[0].counts.shape
    row_mm, column_mm = scan.pixel_mm or (None, None)
    return {
        "size_bytes": item.size_bytes,
        "scan_id": item.scan_id,
        "patient_key": item.patient_key,
        "sex": scan.sex,
        "age_years": scan.age_years,
        "age_source": scan.age_source,
        "manufacturer": scan.manufacturer,
        "views": [view.name for view in scan.views],
        "rows": rows,
        "columns": columns,
        "pixel_mm": row_mm,
        "pixel_column_mm": column_mm,
        "flags": list(scan.flags),
        **_header(item.header),
    }


def _header(header: Header | None) -> dict[str, Any]:
    if header is None:
        return {}
    return {
        "header_age_years": header.age_years,
        "header_age_source": header.age_source,
        "header_sex": header.sex,
        "person_key": header.person_key,
        "study_key": header.study_key,
        "label_by": header.label and header.label.by,
        "label_row": header.label and header.label.row,
        "labels_digest": header.labels_digest,
    }


def _age(scan_id: str, scan: Scan, prediction: Prediction) -> dict[str, Any]:
    return {
        "scan_id": scan_id,
        "predicted_age_years": prediction.age_years,
        "age_low_years": prediction.low_years,
        "age_high_years": prediction.high_years,
        "age_group": prediction.group,
        "group_probabilities": prediction.probabilities.tolist(),
        "views": [view.view for view in prediction.views],
        "flags": sorted({*scan.flags, *prediction.flags}),
    }


def _boxes(found: LocalizedView, view_index: int, scan: Scan) -> list[dict[str, Any]]:
    row_mm, column_mm = scan.pixel_mm or (None, None)
    return [
        {
            "view": found.view,
            "view_index": view_index,
            "box_index": index,
            **{name: getattr(box, name) for name in ("x0", "y0", "x1", "y1", "heat_share")},
            "width_mm": None if column_mm is None else (box.x1 - box.x0) * column_mm,
            "height_mm": None if row_mm is None else (box.y1 - box.y0) * row_mm,
            "region": box.name,
            "weight": box.weight,
            "body_x": box.midline,
            "body_y": box.crown_sole,
            "added_years": box.years,
        }
        for index, box in enumerate(found.boxes)
    ]


def _heatmap(found: LocalizedView, view_index: int) -> dict[str, Any]:
    return {
        "view": found.view,
        "view_index": view_index,
        "age_group": found.group,
        "heat": found.heat.tobytes(),
        "rows": found.heat.shape[0],
        "columns": found.heat.shape[1],
        "heat_min": found.heat_min,
        "heat_max": found.heat_max,
    }
