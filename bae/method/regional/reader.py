"""The linear model as a method: sheets of a cohort to a ``Reader``, scans to predictions.

Each kind of view has a model of its own, and a scan's answer is the mean over the views that it
shows: so a scan of one view lacks nothing. One model of both views together errs by 1 % less where
both are there, see NOTES.md.

Shape suffixes: N scans, Y, X rows and columns of the frame, H half the columns, J columns of a
view, V, U rows and columns of a sheet or of a view's map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae.method.heatmap import to_byte_scale
from bae.method.prediction import LocalizedView
from bae.method.regional import bodies, choose, linear, uptake
from bae.method.regional.bodies import KINDS, Bodies, Seen, Sheets, whole
from bae.method.regional.frame import Sheet, blurred, body_coordinates, lay, size_mm
from bae.method.regional.places import place_name
from bae.method.regional.template import Registered, onto_view, to_frame
from bae.recipes import Region
from bae.scan import ANTERIOR, SEX_CODE, Box, Scan, View

__all__ = ["KINDS", "Reader", "Seen", "fit", "read"]

RANDOM_CELLS = 4.0
"""Blur of random slopes: independent ones would average to the same heat everywhere."""
MAP = (128, 32)
"""Rows and columns of a view's heat map."""
COLD = np.zeros((1, 1), np.uint8)
"""Of a second view of a kind, which has no part in the answer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader(Bodies[linear.Linear]):
    """Of each kind of view that it knows: a template, and what log uptake on it says about age."""

    model_type = linear.Linear

    def importance(self, kind: str, male: float) -> Tensor:
        """Return (Y, X) of a view: how much a usual change of uptake there moves the answer."""
        model, sign = self.models[kind], 0.0 if np.isnan(male) else 2.0 * male - 1.0
        slope_J = np.abs(model.slope_J + sign * model.by_sex_J) * model.trust_J
        return uptake.onto_body(torch.from_numpy(slope_J), self.bodies[kind])

    def randomised(self, seed: int) -> Reader:
        """Return a reader with random slopes, smooth over some bones: it has learned nothing."""
        rng = np.random.default_rng(seed)
        models = {}
        for kind, model in self.models.items():
            bands = rng.standard_normal((len(uptake.SCALES) - 1, *self.bodies[kind].shape))
            smooth = blurred(torch.from_numpy(bands.astype(np.float32)), RANDOM_CELLS)
            slope_J = smooth[:, self.bodies[kind]].flatten().numpy()
            slope_J *= np.abs(model.slope_J).mean() / np.abs(slope_J).mean()
            every = np.ones_like(slope_J)
            models[kind] = replace(model, slope_J=slope_J, by_sex_J=0 * slope_J, trust_J=every)
        return replace(self, models=models)

    def read(self, scan: Scan, views: Sequence[View], region: Region) -> Seen:
        """Read the age from a scan; see the function ``read``."""
        return read(self, scan, views, region)


def fit(
    sheets: Sheets,
    male_N: NDArray[np.float64],
    years_N: NDArray[np.float64],
    patients: Sequence[str],
) -> tuple[Reader, NDArray[np.float64]]:
    """Learn templates and the model; see ``bodies.fit``."""
    return bodies.fit(Reader, linear.fit, sheets, male_N, years_N, patients)


def read(reader: Reader, scan: Scan, views: Sequence[View], region: Region) -> Seen:
    """Read the age from a scan.

    Args:
        reader: fitted.
        scan: tells sex and pixel size.
        views: those of its views that count.
        region: how many regions of what size to name.
    """
    sheets = [lay(view.counts, scan.pixel_mm) for view in views]
    placed = reader.place(views, sheets)
    male = np.array([SEX_CODE[scan.sex]])
    share = reader.weights(placed)
    alone: dict[str, float] = {}
    spread = 0.0 if placed else 2.0  # nothing of it could be read
    found: list[LocalizedView | None] = [None] * len(views)
    for kind, (i, registered) in placed.items():
        model, body_YH = reader.models[kind], reader.bodies[kind]
        columns_1J = reader.columns(kind, registered)
        alone[kind] = float(model.predict(columns_1J, male)[0])
        spread += share[kind] * model.unlike(columns_1J)
        account_J = torch.from_numpy(model.account(columns_1J, male)[0])
        heat_YX = share[kind] * reader.importance(kind, float(male[0]))
        years_YX = share[kind] * uptake.onto_body(account_J, body_YH)
        found[i] = _view(views[i], kind, sheets[i], registered, heat_YX, years_YX, scan, region)
    kind_of = {i: kind for kind, (i, _) in placed.items()}
    shown = [
        replace(whole(view, 0.0), heat=COLD) if one is None else one
        for view, one in zip(views, found, strict=True)
    ]
    return Seen(
        years=reader.together(alone),
        spread=spread,
        view_years=tuple(alone[kind] for kind in sorted(alone, key=lambda k: placed[k][0])),
        views=tuple(_weighed(shown)),
        kinds=tuple(kind_of.get(i) for i in range(len(views))),
    )


def _view(
    view: View,
    kind: str,
    sheet: Sheet,
    registered: Registered,
    heat_YX: Tensor,
    years_YX: Tensor,
    scan: Scan,
    region: Region,
) -> LocalizedView:
    field_2YX = registered.field_N2YX[0]
    shown_YX = ~registered.density_NYX[0].isnan()
    heat_YX = heat_YX * shown_YX
    pixel_mm = scan.pixel_mm or (1.0, 1.0)
    rows, columns = view.counts.shape
    corners = choose.squares(heat_YX.numpy(), region.count, region.size_mm)
    own_KYX = choose.covered(corners, region.size_mm)
    total = float(heat_YX.sum()) or 1.0
    boxes = []
    for corner, own_YX in zip(corners, own_KYX, strict=True):
        held = float(heat_YX[own_YX].sum())
        box = choose.in_view(
            corner, region.size_mm, field_2YX, sheet.affine, pixel_mm, (rows, columns), held / total
        )
        if box is not None:
            boxes.append(replace(box, years=float(years_YX[own_YX].sum()), weight=held))
    # single cells are noise of the slopes; what is shown is what a square adds up
    smooth_YX = blurred(heat_YX[None], 1.0)[0] * (heat_YX > 0)
    whole_mm = size_mm(view.counts, scan.pixel_mm)
    heat_VU = onto_view(smooth_YX, field_2YX, sheet.affine, whole_mm, MAP)
    return LocalizedView(
        view=view.name,
        heat=to_byte_scale(heat_VU[None])[0].numpy(),
        heat_min=float(heat_VU.min()),
        heat_max=float(heat_VU.max()),
        boxes=_named(boxes, kind, field_2YX, sheet, pixel_mm) or [Box(0, 0, columns, rows, 1.0)],
        grey=torch.empty(0, 0),
    )


def _named(
    boxes: Sequence[Box],
    kind: str,
    field_2YX: Tensor,
    sheet: Sheet,
    pixel_mm: tuple[float, float],
) -> list[Box]:
    """Say where on the body boxes lie."""
    middles = [[(box.y0 + box.y1) / 2, (box.x0 + box.x1) / 2] for box in boxes]
    middles_mm = torch.tensor(middles, dtype=torch.float32).view(-1, 2) * torch.tensor(pixel_mm)
    places = body_coordinates(to_frame(middles_mm, field_2YX, sheet.affine)).tolist()
    # in a picture from the front the patient's left is on the right
    side = 1 if kind == ANTERIOR else -1
    return [
        replace(box, crown_sole=down, midline=side * right, name=place_name(down, side * right))
        for box, (down, right) in zip(boxes, places, strict=True)
    ]


def _weighed(views: Sequence[LocalizedView]) -> list[LocalizedView]:
    """Make weights of the heat that each box has for itself: over all views they sum to 1."""
    total = sum(box.weight or 0.0 for view in views for box in view.boxes) or 1.0
    return [
        replace(view, boxes=[replace(b, weight=(b.weight or 0.0) / total) for b in view.boxes])
        for view in views
    ]
