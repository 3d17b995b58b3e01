"""The gamma camera: two opposed views by projection with what blurs and dims them.

Attenuation at 140 keV is about 0.15 per cm of tissue, 0.10 across the chest with
its air. A parallel-hole collimator's blur grows in proportion to the distance
(Anger 1964; Cherry, Sorenson and Phelps, Physics in Nuclear Medicine, chapter
14), here a low-energy high-resolution one: 1.5 mm holes, 24 mm long, and 3.8 mm
intrinsic resolution, about 8 mm full width at half maximum at 10 cm.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bae.method import boxes

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

SLABS = 6
"""Layers of equal blur."""

COARSE = 8
"""Side of the pixels on which scatter is drawn, in the matrix's pixels."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Detector, collimator and matrix.

    Attributes:
        columns, rows: matrix.
        pixel_mm: side of a pixel.
        attenuation_per_mm: of tissue at 140 keV.
        hole_mm, septum_mm: width and length of the collimator's holes.
        intrinsic_mm: full width at half maximum of the crystal.
        gap_mm: from the highest skin to the collimator.
        scatter: share of counts that come from scattered photons.
        scatter_mm: standard deviation of their spread.
    """

    columns: int = 256
    rows: int = 1024
    pixel_mm: float = 2.26
    attenuation_per_mm: float = 0.015
    hole_mm: float = 1.5
    septum_mm: float = 24.0
    intrinsic_mm: float = 3.8
    gap_mm: float = 35.0
    scatter: float = 0.12
    scatter_mm: float = 24.0

    @property
    def xs(self) -> Floats:
        """Table x of the columns' middles in an anterior view, mm."""
        return np.asarray((np.arange(self.columns) + 0.5 - self.columns / 2) * self.pixel_mm)

    @property
    def zs(self) -> Floats:
        """Table z of the rows' middles, mm, falling."""
        return np.asarray((self.rows - 0.5 - np.arange(self.rows)) * self.pixel_mm)

    def sigma_mm(self, distance_mm: float) -> float:
        """Return the blur at a distance from the collimator, standard deviation in mm."""
        geometric = self.hole_mm * (distance_mm + self.septum_mm) / self.septum_mm
        return float(np.hypot(geometric, self.intrinsic_mm) / 2.355)


def project(
    camera: Camera,
    points: Floats32,
    weight: Floats32,
    front: Floats32,
    back: Floats32,
    tissue: Floats32,
    slope: Floats32,
) -> tuple[Floats32, Floats32]:
    """Return the expected counts of both views, up to one common factor.

    Args:
        camera: detector and matrix.
        points: (points, 3) table coordinates of the sources, mm.
        weight: (points,) activity, mm^3 times activity of muscle.
        front, back: (rows, columns) y of the skin, mm.
        tissue: (rows, columns) activity of soft tissue relative to muscle.
        slope: (rows, columns) attenuation relative to the camera's.

    Returns:
        anterior (patient's right at the image's left) and posterior (mirrored),
        each (rows, columns), mm of muscle without attenuation.
    """
    rows, columns, pixel = camera.rows, camera.columns, camera.pixel_mm
    u = points[:, 0] / pixel + (columns / 2 - 0.5)
    v = (rows - 0.5) - points[:, 2] / pixel
    seen = (u > 0) & (u < columns - 1.001) & (v > 0) & (v < rows - 1.001)
    u, v, y, weight = u[seen], v[seen], points[seen, 1], weight[seen] / np.float32(pixel**2)
    u0, v0 = u.astype(np.int64), v.astype(np.int64)
    du, dv = u - u0, v - v0
    near = v0 * columns + u0
    corners = [
        (near, (1 - du) * (1 - dv)),
        (near + 1, du * (1 - dv)),
        (near + columns, (1 - du) * dv),
        (near + columns + 1, du * dv),
    ]
    middle = (v + 0.5).astype(np.int64) * columns + (u + 0.5).astype(np.int64)
    mu = np.float32(camera.attenuation_per_mm) * np.broadcast_to(slope, front.shape)
    mu_here = mu.ravel()[middle]
    through = (1.0 - np.exp(-mu * (front - back))) / mu * tissue
    body = np.nonzero(front > back)
    box = (
        slice(max(int(body[0].min()) - 12, 0), int(body[0].max()) + 13),
        slice(max(int(body[1].min()) - 12, 0), int(body[1].max()) + 13),
    )
    views = []
    for sign, surface in ((1.0, front), (-1.0, back)):
        deep = np.maximum(sign * (surface.ravel()[middle] - y), 0.0)
        seen_weight = weight * np.exp(-mu_here * deep)
        plane = float((sign * surface).max()) + camera.gap_mm
        distance = plane - sign * y
        far = plane + float((-sign * (back if sign > 0 else front)).max())
        step = (far - camera.gap_mm) / SLABS
        slab = np.clip(((distance - camera.gap_mm) / step).astype(np.int64), 0, SLABS - 1)
        total = np.zeros(SLABS * rows * columns)
        for index, share in corners:
            total += np.bincount(
                slab * (rows * columns) + index, seen_weight * share, minlength=total.size
            )
        layers = total.reshape(SLABS, rows, columns).astype(np.float32)
        layers[SLABS // 2] += through
        view = np.zeros((rows, columns), dtype=np.float32)
        for i in range(SLABS):
            sigma = camera.sigma_mm(camera.gap_mm + (i + 0.5) * step) / pixel
            # sharing a point among four pixels has blurred it by a variance of 1/6 already
            sigma = np.sqrt(max(sigma**2 - 1.0 / 6.0, 0.01))
            view[box] += ndimage.gaussian_filter(
                layers[i][box], sigma, mode="constant", truncate=3.0
            )
        views.append(_scattered(camera, view))
    return views[0], np.ascontiguousarray(views[1][:, ::-1])


def _scattered(camera: Camera, view: Floats32) -> Floats32:
    """Add the broad, weak picture of scattered photons, drawn on pixels 8 times as large."""
    rows, columns = camera.rows // COARSE, camera.columns // COARSE
    coarse = view.reshape(rows, COARSE, columns, COARSE).mean(axis=(1, 3))
    sigma = camera.scatter_mm / (COARSE * camera.pixel_mm)
    broad = ndimage.gaussian_filter(coarse, sigma, mode="constant", truncate=3.0)
    fine = boxes.enlarge(broad, (camera.rows, camera.columns))
    return np.asarray((1.0 - camera.scatter) * view + camera.scatter * fine)
