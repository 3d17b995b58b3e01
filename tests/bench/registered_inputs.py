"""Simulated people as ``tests.bench.registered`` gives them to networks and to the linear model.

Shape suffixes: N scans, C channels (of a view, one band or three), Y, X rows and columns of the
frame, H half the columns, J columns of a view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bae import recipes
from bae.method import image
from bae.method.regional import uptake
from bae.method.regional.frame import body_level, lay, stack
from bae.method.regional.reader import KINDS, fit
from bae.method.regional.template import BRIGHTEST
from tests.bench.choosing import Floats, ages_of, people, sexes_of

SIZE = (120, 40)
"""Rows and columns of every input."""
SPREADS = 8.0
"""Standard deviations of a column from black to white."""
INPUTS = WHOLE, LOGS, COLUMNS = "whole views", "registered, logs", "registered, columns"
"""Columns are the linear model's: three bands, sides averaged, each cell standardised."""


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """``seen`` scans to learn from, then those to test on; what the linear model says of both."""

    inputs: dict[str, Tensor]
    ages: Floats
    male: Floats
    patients: list[str]
    seen: int
    held_out: Floats
    linear: Floats

    def off(self, answers: Floats) -> Floats:
        """Return errors on the scans to test on."""
        return np.abs(answers - self.ages[self.seen :])

    def cell(self, answers: Floats) -> str:
        """Return what the table says."""
        more = self.off(answers) - self.off(self.linear)
        _, own = np.unique(self.patients[self.seen :], return_inverse=True)
        error = np.sqrt((np.bincount(own, more - more.mean()) ** 2).sum()) / len(more)
        return f"{self.off(answers).mean():.2f} ({more.mean():+.2f} ± {error:.2f})"


def simulated(world: int, scans: int, seed: int, rows: int) -> World:
    """Simulate people, fit the linear model, and make the inputs of networks."""
    every = sorted(people(world, scans, seed, rows), key=lambda s: int(s.identity.patient) % 4 == 0)
    patients = [scan.identity.patient for scan in every]
    seen = sum(int(patient) % 4 > 0 for patient in patients)
    ages, male = ages_of(every), sexes_of(every)
    sheets = [stack([lay(s.views[i].counts, s.pixel_mm) for s in every]) for i in (0, 1)]
    plain = {kind: list(own[:seen].numpy()) for kind, own in zip(KINDS, sheets, strict=True)}
    reader, held_out = fit(plain, male[:seen], ages[:seen], patients[:seen])
    weights, said = reader.weights(KINDS), np.zeros(len(every) - seen)
    views: dict[str, list[Tensor]] = {name: [] for name in INPUTS}
    for i, kind in enumerate(KINDS):
        counts = (image.to_tensor(scan.views[i].counts) for scan in every)
        greys = [image.window(own, recipes.Windowing()) for own in counts]
        views[WHOLE].append(image.prepare(greys, *SIZE))
        model, body_YH = reader.models[kind], reader.bodies[kind]
        density_NYX = reader.templates[kind].register(sheets[i]).density_NYX
        level_N11 = body_level(density_NYX)[:, None, None]
        relative_NYX = density_NYX.nan_to_num().clamp(min=0) / level_N11
        logs_NYX = torch.log1p(relative_NYX / uptake.FAINTEST)
        views[LOGS].append(_shrunk(logs_NYX[:, None] / np.log1p(BRIGHTEST / uptake.FAINTEST)))
        columns_NJ = uptake.features(density_NYX, body_YH).numpy()
        said += weights[kind] * model.predict(columns_NJ[seen:], male[seen:])
        standard_NJ = torch.from_numpy(model.standard(columns_NJ)) * columns_NJ.shape[1] ** 0.5
        bands_NCYH = torch.zeros(len(every), len(uptake.SCALES) - 1, *body_YH.shape)
        bands_NCYH[:, :, body_YH] = standard_NJ.view(*bands_NCYH.shape[:2], -1)
        views[COLUMNS].append(_shrunk(bands_NCYH / SPREADS + 0.5))
    inputs = {name: torch.cat(own, dim=1) for name, own in views.items()}
    return World(
        inputs=inputs, ages=ages, male=male, patients=patients, seen=seen, held_out=held_out,
        linear=said,
    )  # fmt: skip


def _shrunk(pictures_NCYX: Tensor) -> Tensor:
    return F.interpolate(pictures_NCYX, SIZE, mode="bilinear", antialias=True).clamp(0, 1)
