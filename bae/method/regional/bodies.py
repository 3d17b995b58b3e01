"""Views of a cohort on its mean bodies: what every reader of registered log uptake begins with.

Each kind of view has a template and a model of its own; a scan's answer is the mean over the views
that it shows, so a scan of one view lacks nothing.

Shape suffixes: N scans, J columns of a view.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import compress
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae.method.prediction import LocalizedView
from bae.method.regional import uptake
from bae.method.regional.frame import Sheet, stack
from bae.method.regional.template import Registered, Template, learn
from bae.recipes import Region
from bae.scan import ANTERIOR, POSTERIOR, UNKNOWN, Box, Scan, View

KINDS = (ANTERIOR, POSTERIOR)
TEMPLATE_VIEWS = 200
"""A mean body needs no more of each kind."""

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Sheets = Mapping[str, Sequence[Floats32 | None]]
"""Of each kind one ``Sheet.density_VU`` a scan, None where there is no such view."""
Placed = dict[str, tuple[int, Registered]]
"""Kind to the view that shows it, by number, on the frame."""


class Sure(Protocol):
    """A model of one kind of view that knows how much it errs on patients left out."""

    @property
    def error_years(self) -> float:
        """Return the root mean square error."""

    @property
    def mean_years(self) -> float:
        """Return the answer where nothing is known of a scan."""


M = TypeVar("M", bound=Sure)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bodies(ABC, Generic[M]):
    """Of each kind of view that is known: a template, where its body is, and a model."""

    model_type: ClassVar[type]
    templates: Mapping[str, Template]
    bodies: Mapping[str, Tensor]
    models: Mapping[str, M]

    def tensors(self) -> dict[str, Tensor]:
        """Return all that it is, for a safetensors file."""
        found = {}
        for kind, model in self.models.items():
            found[f"{kind}_mean"] = self.templates[kind].mean_PYX
            found[f"{kind}_body"] = self.bodies[kind].to(torch.uint8)
            for each in fields(self.model_type):
                found[f"{kind}_{each.name}"] = torch.as_tensor(getattr(model, each.name))
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Rebuild it.

        Raises:
            KeyError, RuntimeError: a tensor is missing or of another shape.
        """
        kinds = [kind for kind in KINDS if f"{kind}_mean" in tensors]
        if not kinds:
            raise KeyError("no view's template")
        return cls(
            templates={kind: Template(tensors[f"{kind}_mean"]) for kind in kinds},
            bodies={kind: tensors[f"{kind}_body"].bool() for kind in kinds},
            models={kind: cls._model(tensors, kind) for kind in kinds},
        )

    @classmethod
    def _model(cls, tensors: Mapping[str, Tensor], kind: str) -> Any:
        names = [each.name for each in fields(cls.model_type)]
        plain = {name: tensors[f"{kind}_{name}"].numpy() for name in names}
        return cls.model_type(**{n: v if v.ndim else v.item() for n, v in plain.items()})

    def weights(self, kinds: Collection[str]) -> dict[str, float]:
        """Return the share of each view's answer in a scan's: the surer view has the larger."""
        trust = {kind: 1.0 / max(self.models[kind].error_years, 0.1) ** 2 for kind in kinds}
        return {kind: one / sum(trust.values()) for kind, one in trust.items()}

    def place(self, views: Sequence[View], sheets: Sequence[Sheet]) -> Placed:
        """Bring each view onto its template, one of unknown name onto the free one that fits best.

        A second view of a kind has no place.
        """
        found: Placed = {}
        known_first = sorted(range(len(views)), key=lambda i: views[i].name == UNKNOWN)
        for i in known_first:
            free = [kind for kind in self.models if kind not in found]
            wanted = [kind for kind in free if views[i].name in (kind, UNKNOWN)]
            tried = {kind: self.templates[kind].register(stack([sheets[i]])) for kind in wanted}
            if tried:
                kind = min(tried, key=lambda k: float(tried[k].misfit_N[0]))
                found[kind] = (i, tried[kind])
        return found

    def columns(self, kind: str, registered: Registered) -> Floats32:
        """Return (N, J) log uptake; see ``uptake.features``."""
        found = uptake.features(registered.density_NYX, self.bodies[kind])
        return np.asarray(found.numpy(), np.float32)

    @abstractmethod
    def read(self, scan: Scan, views: Sequence[View], region: Region) -> Seen:
        """Read the age from those views of a scan that count; each reader in its own way."""

    def together(self, answers: Mapping[str, float]) -> float:
        """Return a scan's years: the mean of what each kind of view says, by ``weights``."""
        if not answers:
            return float(np.mean([model.mean_years for model in self.models.values()]))
        share = self.weights(answers)
        return float(sum(share[kind] * own for kind, own in answers.items()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What is said of one scan; see ``Prediction``.

    Attributes:
        years: the answer.
        spread: how unsure it is; of the linear model how unlike the cohort the scan is, unitless,
            about 1 for a usual one.
        view_years: what each view says alone.
        views: one for each view that was asked about.
        kinds: of each view, what it was read as; None for a second one of its kind.
    """

    years: float
    spread: float
    view_years: tuple[float, ...]
    views: tuple[LocalizedView, ...]
    kinds: tuple[str | None, ...]


B = TypeVar("B", bound=Bodies[Any])
Learn = Callable[[Floats32, Floats, Floats, Sequence[str], Floats32], tuple[M, Floats]]
"""Columns (N, J), sex (N,), ages (N,), patients, trust (J,): to a model, and what models that
did not see the scan's patient say (N,)."""


def fit(
    made: type[B], learn_one: Learn[Any], sheets: Sheets, male_N: Floats, years_N: Floats,
    patients: Sequence[str],
) -> tuple[B, Floats]:  # fmt: skip
    """Learn templates, and a model of each kind of view.

    Args:
        made: what to make.
        learn_one: learns the model of one kind.
        sheets: see ``Sheets``.
        male_N: 0 women, 1 men, NaN unknown.
        years_N: ages.
        patients: of the scans.

    Returns:
        What was asked for, and the (N,) answers of models that did not see the scan's patient.
    """
    templates: dict[str, Template] = {}
    bodies: dict[str, Tensor] = {}
    models: dict[str, Any] = {}
    answers: dict[str, Floats] = {}
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
        models[kind], held_out = learn_one(
            columns_NJ,
            male_N[there],
            years_N[there],
            list(compress(patients, there)),
            uptake.agreement(*sides_2NJ),
        )
        answers[kind] = np.full(len(years_N), np.nan)
        answers[kind][there] = held_out
    found = made(templates=templates, bodies=bodies, models=models)
    share = found.weights(answers)
    weight_KN = np.stack([share[kind] * ~np.isnan(own) for kind, own in answers.items()])
    years_KN = np.nan_to_num(np.stack(list(answers.values())))
    return found, (weight_KN * years_KN).sum(axis=0) / weight_KN.sum(axis=0)


def _all_sides(template: Template, body_YH: Tensor, sheets: Sequence[Floats32]) -> Floats32:
    """Return (2, N, J) of one kind of view."""
    sides = []
    for at in range(0, len(sheets), 64):
        stacked = torch.from_numpy(np.stack(sheets[at : at + 64]))
        sides.append(uptake.sides(template.register(stacked).density_NYX, body_YH).numpy())
    return np.concatenate(sides, axis=1)


def whole(view: View, weight: float | None = None) -> LocalizedView:
    """Return what is said of a view of which no place is named: the whole of it, and no heat."""
    rows, columns = view.counts.shape
    return LocalizedView(
        view=view.name,
        heat=np.empty((0, 0), np.uint8),
        boxes=[Box(0, 0, columns, rows, 1.0, weight=weight)],
        grey=torch.empty(0, 0),
    )
