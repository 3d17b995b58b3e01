"""How much a part of a phantom's picture says about its age: the truth about regions.

The expected counts of one person are linear in the uptake of each bone, and log uptake
changes with latent age as the world's effects says. Near the person's age that makes a
linear Gaussian model: counts = expected + g (latent age - its value) + J z + noise, where

- g: change of every pixel per year, the sum of all bones' pictures times their slopes,
- z: what else moves uptake, independent and of unit variance, J its pictures: each
  effect's noise (shared by its parts), each part's own, organs, and the injected amount,
- noise: Poisson, with the expected counts as variance.

The Fisher information about latent age in some pixels, everything else unknown, is
g' S^-1 g with S = diag(expected) + J J' over these pixels. Its inverse root is the least
standard error of latent age that any unbiased reader of these pixels has.

Not modelled: where the bones lie (the reader knows), hot foci, scattered photons' own
change, and uneven soft tissue. Pixels are 9 mm, which costs fine effects a little, in the
whole and in the part alike.

Shape suffixes: P pixels of both views, N causes of noise, Y, X rows and columns here.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bae.phantom import ageing
from bae.phantom.anatomy.body import Placed
from bae.phantom.anatomy.skeleton import skeleton
from bae.phantom.camera import COARSE, Camera, project
from bae.phantom.people import PhantomConfig, Visit, camera_for, visit
from bae.phantom.scan import BACKGROUND, sources
from bae.scan import ANTERIOR, POSTERIOR, Box

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

VIEWS = (ANTERIOR, POSTERIOR)
COLUMNS = 64
"""Columns of the pictures here; 9 mm pixels."""
DEPTH_MM = 150.0
"""From collimator to bone, for the blur of a bone's picture."""
FREE = 1.0
"""Spread of the log of what a reader cannot know beforehand: organs, injected amount."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The linear Gaussian model of one scan.

    Attributes:
        expected_vYX: (2, Y, X) expected counts of both views, anterior first.
        change_vYX: (2, Y, X) their change per year of latent age, at the same total of uptake.
        causes_PN: (P, N) pictures of what else moves them, one standard deviation each;
            P runs through both views.
        pixel: side of a pixel here in stored pixels.
        top: row here of the first stored row.
    """

    expected_vYX: Floats
    change_vYX: Floats
    causes_PN: Floats32
    pixel: float
    top: float

    def information(self, share_vYX: Floats | None = None) -> float:
        """Return the Fisher information about latent age, per squared year.

        Pixels that no bone reaches are left out: they say nothing, but cost time.

        Args:
            share_vYX: (2, Y, X) how much of each pixel the reader sees, 0 to 1; all if None.
        """
        seen_P = np.ones(self.expected_vYX.size) if share_vYX is None else share_vYX.ravel()
        weight_P = seen_P / self.expected_vYX.ravel()
        used = np.flatnonzero((weight_P > 0) & (self.change_vYX.ravel() != 0))
        change_P, causes_PN = self.change_vYX.ravel()[used], self.causes_PN[used]
        weighted_PN = causes_PN * weight_P[used, None]
        shared_N = weighted_PN.T @ change_P
        inner_NN = np.eye(causes_PN.shape[1]) + weighted_PN.T.astype(float) @ causes_PN
        alone = float(change_P @ (weight_P[used] * change_P))
        return alone - float(shared_N @ np.linalg.solve(inner_NN, shared_N))

    def shares(self, boxes: Mapping[str, Sequence[Box]]) -> Floats:
        """Return (2, Y, X) how much of each pixel lies in a view's boxes; none without a box.

        What several boxes of a view share counts once.
        """
        found = np.zeros_like(self.expected_vYX)
        rows, columns = (np.arange(n)[:, None] for n in found.shape[1:])
        for i, name in enumerate(VIEWS):
            own = boxes.get(name, ())
            # the edges of all boxes cut the view into cells that lie in a box wholly or not at all
            y = np.unique([edge for box in own for edge in (box.y0, box.y1)])
            x = np.unique([edge for box in own for edge in (box.x0, box.x1)])
            inside = np.zeros((max(len(y) - 1, 0), max(len(x) - 1, 0)))
            for box in own:
                inside[(y[:-1] >= box.y0) & (y[1:] <= box.y1)] += (x[:-1] >= box.x0) & (
                    x[1:] <= box.x1
                )
            high = _inside(rows, y[:-1] / self.pixel + self.top, y[1:] / self.pixel + self.top)
            wide = _inside(columns, x[:-1] / self.pixel, x[1:] / self.pixel)
            found[i] = high @ (inside > 0) @ wide.T
        return found


def _inside(pixels: NDArray[np.int64], start: Floats, stop: Floats) -> Floats:
    return np.asarray(np.clip(np.minimum(pixels + 1, stop) - np.maximum(pixels, start), 0, 1))


def of(k: int, *, seed: int, config: PhantomConfig) -> Evidence:
    """Return the evidence in scan k of a cohort; ``phantom.json`` has seed and config."""
    who = visit(k, seed, config)
    fine, enlarge = camera_for(config)
    factor = fine.columns / COLUMNS
    rows = -(-int(np.ceil(fine.rows / factor)) // COARSE) * COARSE
    camera = replace(fine, columns=COLUMNS, rows=rows, pixel_mm=fine.pixel_mm * factor)
    expected, parts = pictures(who, camera)
    # the sums over parts below are over axis 0 of (parts, P)
    flat = parts.reshape(len(parts), -1)
    slope, causes = _moves(who)
    causes_PN = np.concatenate([causes @ flat, expected.reshape(1, -1) * FREE]).T
    return Evidence(
        expected_vYX=expected + BACKGROUND * factor**2,
        change_vYX=(slope @ flat).reshape(expected.shape).astype(float),
        causes_PN=np.ascontiguousarray(causes_PN[:, np.abs(causes_PN).max(axis=0) > 0]),
        pixel=factor * enlarge,
        top=rows - fine.rows / factor,
    )


def _moves(who: Visit) -> tuple[Floats32, Floats32]:
    """Return (parts,) the log uptake's change per year, and (causes, parts) its noise."""
    names = skeleton().names
    slope, own = np.zeros(len(names)), np.zeros(len(names))
    shared = []
    effects = who.world.effects
    for effect, members in zip(effects, ageing.effect_parts(effects), strict=True):
        slope += members * effect.per_year(who.latent_years, who.sex)
        own += members * effect.part_sd**2
        shared.append(members * effect.sd)
    free = np.array([any(fnmatch.fnmatch(name, p) for p in ageing.NOT_BONE) for name in names])
    own = np.sqrt(own) + free * FREE
    return slope.astype(np.float32), np.concatenate([shared, np.diag(own)]).astype(np.float32)


def pictures(who: Visit, camera: Camera) -> tuple[Floats, Floats32]:
    """Return what the camera expects of one visit, and the share of each part in it.

    Args:
        who: the visit.
        camera: of coarse pixels.

    Returns:
        (2, Y, X) expected counts without background, and (parts, 2, Y, X) counts of each
        part, blurred as at a middle depth and without scattered photons.
    """
    s = sources(who, camera)
    even = s.activity * np.ones_like(s.front)
    views = project(camera, s.points, s.weights, s.front, s.back, even, s.slope)
    scale = 2.0 * who.counts / float(views[0].sum() + views[1].sum())
    attenuation = camera.attenuation_per_mm * np.broadcast_to(s.slope, s.front.shape)
    weight = s.weights[: len(s.placed.points)]  # without the foci
    parts = _parts(camera, s.placed, weight, (s.front, -s.back), attenuation)
    return scale * np.stack(views).astype(float), np.float32(scale) * parts


def _parts(
    camera: Camera,
    placed: Placed,
    weight: Floats32,
    depths: tuple[Floats32, Floats32],
    attenuation: Floats32,
) -> Floats32:
    """Return (parts, 2, Y, X): every part by itself, as ``camera.project`` sees it."""
    bones = skeleton()
    column = np.floor(placed.points[:, 0] / camera.pixel_mm + camera.columns / 2).astype(int)
    row = np.floor(camera.rows - placed.points[:, 2] / camera.pixel_mm).astype(int)
    seen = (column >= 0) & (column < camera.columns) & (row >= 0) & (row < camera.rows)
    pixel = (row * camera.columns + column)[seen]
    shape = (len(bones.names), camera.rows, camera.columns)
    cell = bones.part[seen] * (camera.rows * camera.columns) + pixel
    sigma = camera.sigma_mm(DEPTH_MM) / camera.pixel_mm
    views = []
    for sign, surface in zip((1.0, -1.0), depths, strict=True):
        deep = np.maximum(surface.ravel()[pixel] - sign * placed.points[seen, 1], 0.0)
        held = weight[seen] * np.exp(-attenuation.ravel()[pixel] * deep) / camera.pixel_mm**2
        sharp = np.bincount(cell, held, minlength=int(np.prod(shape))).reshape(shape)
        view = ndimage.gaussian_filter(
            sharp.astype(np.float32), (0, sigma, sigma), mode="constant", truncate=3.0
        )
        views.append((1.0 - camera.scatter) * view)
    return np.stack([views[0], views[1][:, :, ::-1]], axis=1)
