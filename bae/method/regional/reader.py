"""The linear model as a method: sheets of a cohort to a ``Reader``, scans to predictions.

Each kind of view has a model of its own, and a scan's answer is the mean over the views that it
shows: so a scan of one view lacks nothing. One model of both views together errs by 1 % less where
both are there, see NOTES.md.

Shape suffixes: N scans, Y, X rows and columns of the frame, H half the columns, J columns of a
view, V, U rows and columns of a sheet or of a view's map.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae.method.heatmap import to_byte_scale
from bae.method.prediction import LocalizedView
from bae.method.regional import choose, linear, uptake
from bae.method.regional.frame import Sheet, blurred, body_coordinates, lay, size_mm, stack
from bae.method.regional.places import place_name
from bae.method.regional.template import Registered, Template, learn, onto_view, to_frame
from bae.recipes import Region
from bae.scan import ANTERIOR, POSTERIOR, SEX_CODE, UNKNOWN, Box, Scan, View

KINDS = (ANTERIOR, POSTERIOR)
TEMPLATE_VIEWS = 200
"""A mean body needs no more of each kind."""
RANDOM_CELLS = 4.0
"""Blur of random slopes: independent ones would average to the same heat everywhere."""
MAP = (128, 32)
"""Rows and columns of a view's heat map."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """Of each kind of view that it knows: a template, and what log uptake on it says about age."""

    templates: Mapping[str, Template]
    bodies: Mapping[str, Tensor]
    models: Mapping[str, linear.Linear]

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

    def tensors(self) -> dict[str, Tensor]:
        """Return all that the model is, for a safetensors file."""
        found = {}
        for kind, model in self.models.items():
            found[f"{kind}_mean"] = self.templates[kind].mean_PYX
            found[f"{kind}_body"] = self.bodies[kind].to(torch.uint8)
            for each in fields(linear.Linear):
                found[f"{kind}_{each.name}"] = torch.as_tensor(getattr(model, each.name))
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Reader:
        """Rebuild a reader.

        Raises:
            KeyError, RuntimeError: a tensor is missing or of another shape.
        """
        kinds = [kind for kind in KINDS if f"{kind}_mean" in tensors]
        if not kinds:
            raise KeyError("no view's template")
        return cls(
            templates={kind: Template(tensors[f"{kind}_mean"]) for kind in kinds},
            bodies={kind: tensors[f"{kind}_body"].bool() for kind in kinds},
            models={kind: _linear(tensors, kind) for kind in kinds},
        )

    def weights(self, kinds: Collection[str]) -> dict[str, float]:
        """Return the share of each view's answer in a scan's: the surer view has the larger."""
        trust = {kind: 1.0 / max(self.models[kind].error_years, 0.1) ** 2 for kind in kinds}
        return {kind: one / sum(trust.values()) for kind, one in trust.items()}


def _linear(tensors: Mapping[str, Tensor], kind: str) -> linear.Linear:
    plain = {each.name: tensors[f"{kind}_{each.name}"].numpy() for each in fields(linear.Linear)}
    numbers: dict[str, Any] = {n: v if v.ndim else float(v) for n, v in plain.items()}
    return linear.Linear(**numbers)


def fit(
    sheets: Mapping[str, Sequence[NDArray[np.float32] | None]],
    male_N: NDArray[np.float64],
    years_N: NDArray[np.float64],
    patients: Sequence[str],
) -> tuple[Reader, NDArray[np.float64]]:
    """Learn templates and the model.

    Args:
        sheets: of each kind, one ``Sheet.density_VU`` a scan, None where there is no such view.
        male_N: 0 women, 1 men, NaN unknown.
        years_N: ages.
        patients: of the scans.

    Returns:
        The reader, and the (N,) answers of models that did not see the scan's patient.
    """
    templates: dict[str, Template] = {}
    bodies: dict[str, Tensor] = {}
    models: dict[str, linear.Linear] = {}
    answers: dict[str, NDArray[np.float64]] = {}
    for kind in KINDS:
        there = np.array([sheet is not None for sheet in sheets[kind]])
        own = [sheet for sheet in sheets[kind] if sheet is not None]
        if not own:
            continue
        step = -(-len(own) // TEMPLATE_VIEWS)
        template = learn(torch.from_numpy(np.stack(own[::step])))[0]
        templates[kind], bodies[kind] = template, uptake.body_half(template.mean_PYX[0])
        sides_2NJ = _all_sides(template, bodies[kind], own)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a mean of nothing is what NaN stands for
            columns_NJ = np.nanmean(sides_2NJ, axis=0)
        models[kind], held_out = linear.fit(
            columns_NJ,
            male_N[there],
            years_N[there],
            list(compress(patients, there)),
            uptake.agreement(*sides_2NJ),
        )
        answers[kind] = np.full(len(years_N), np.nan)
        answers[kind][there] = held_out
    reader = Reader(templates=templates, bodies=bodies, models=models)
    share = reader.weights(answers)
    weight_KN = np.stack([share[kind] * ~np.isnan(own) for kind, own in answers.items()])
    years_KN = np.nan_to_num(np.stack(list(answers.values())))
    return reader, (weight_KN * years_KN).sum(axis=0) / weight_KN.sum(axis=0)


def _all_sides(
    template: Template, body_YH: Tensor, sheets: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return (2, N, J) of one kind of view."""
    sides = []
    for at in range(0, len(sheets), 64):
        stacked = torch.from_numpy(np.stack(sheets[at : at + 64]))
        sides.append(uptake.sides(template.register(stacked).density_NYX, body_YH).numpy())
    return np.concatenate(sides, axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the reader says of one scan; see ``Prediction``.

    Attributes:
        years: the answer.
        spread: how unlike the cohort the scan is, unitless: about 1 for a usual one.
        view_years: what each view says alone.
        views: one for each view that was asked about.
        kinds: of each view, what it was read as; None for a second one of its kind.
    """

    years: float
    spread: float
    view_years: tuple[float, ...]
    views: tuple[LocalizedView, ...]
    kinds: tuple[str | None, ...]


def read(reader: Reader, scan: Scan, views: Sequence[View], region: Region) -> Seen:
    """Read the age from a scan.

    Args:
        reader: fitted.
        scan: tells sex and pixel size.
        views: those of its views that count.
        region: how many regions of what size to name.
    """
    sheets = [lay(view.counts, scan.pixel_mm) for view in views]
    placed = _placed(reader, views, sheets)
    male = np.array([SEX_CODE[scan.sex]])
    share = reader.weights(placed)
    alone: dict[str, float] = {}
    spread = 0.0 if placed else 2.0  # nothing of it could be read
    found: list[LocalizedView | None] = [None] * len(views)
    for kind, (i, registered) in placed.items():
        model, body_YH = reader.models[kind], reader.bodies[kind]
        columns_1J = uptake.features(registered.density_NYX, body_YH).numpy()
        alone[kind] = float(model.predict(columns_1J, male)[0])
        spread += share[kind] * model.unlike(columns_1J)
        account_J = torch.from_numpy(model.account(columns_1J, male)[0])
        heat_YX = share[kind] * reader.importance(kind, float(male[0]))
        years_YX = share[kind] * uptake.onto_body(account_J, body_YH)
        found[i] = _view(views[i], kind, sheets[i], registered, heat_YX, years_YX, scan, region)
    kind_of = {i: kind for kind, (i, _) in placed.items()}
    shown = [_none(view) if one is None else one for view, one in zip(views, found, strict=True)]
    mean_years = float(np.mean([model.years for model in reader.models.values()]))
    return Seen(
        years=sum(share[kind] * own for kind, own in alone.items()) if alone else mean_years,
        spread=spread,
        view_years=tuple(alone[kind] for kind in sorted(alone, key=lambda k: placed[k][0])),
        views=tuple(_weighed(shown)),
        kinds=tuple(kind_of.get(i) for i in range(len(views))),
    )


Placed = dict[str, tuple[int, Registered]]
"""Kind to the view that shows it, by number, on the frame."""


def _placed(reader: Reader, views: Sequence[View], sheets: Sequence[Sheet]) -> Placed:
    """Bring each view onto its template, one of unknown name onto the free one that fits best."""
    found: Placed = {}
    known_first = sorted(range(len(views)), key=lambda i: views[i].name == UNKNOWN)
    for i in known_first:
        free = [kind for kind in reader.models if kind not in found]
        wanted = [kind for kind in free if views[i].name in (kind, UNKNOWN)]
        tried = {kind: reader.templates[kind].register(stack([sheets[i]])) for kind in wanted}
        if tried:
            kind = min(tried, key=lambda k: float(tried[k].misfit_N[0]))
            found[kind] = (i, tried[kind])
    return found


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


def _none(view: View) -> LocalizedView:
    """Return what is said of a view that has no part in the answer: a second one of its kind."""
    rows, columns = view.counts.shape
    return LocalizedView(
        view=view.name,
        heat=np.zeros((1, 1), np.uint8),
        boxes=[Box(0, 0, columns, rows, 1.0, weight=0.0)],
        grey=torch.empty(0, 0),
    )


def _weighed(views: Sequence[LocalizedView]) -> list[LocalizedView]:
    """Make weights of the heat that each box has for itself: over all views they sum to 1."""
    total = sum(box.weight or 0.0 for view in views for box in view.boxes) or 1.0
    return [
        replace(view, boxes=[replace(b, weight=(b.weight or 0.0) / total) for b in view.boxes])
        for view in views
    ]
