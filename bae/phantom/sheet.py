"""Draw one phantom per decade and sex beside the real scan: ``python -m bae.phantom.sheet PNG``."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file

from bae.archive.body import body_rows, white_level
from bae.phantom.scan import PhantomScan, make
from bae.scan import FEMALE, MALE, SEX_SINGULAR

DECADES = (40, 50, 60, 70)


def one_per_decade(seed: int = 0) -> list[PhantomScan]:
    """Return the first scan of each decade and sex: women by age, then men by age."""
    found: dict[tuple[str, int], PhantomScan] = {}
    k = 0
    while len(found) < 2 * len(DECADES):
        scan = make(k, seed=seed)
        found.setdefault((scan.sex, int(scan.age_years // 10) * 10), scan)
        k += 1
    return [found[sex, decade] for sex in (FEMALE, MALE) for decade in DECADES]


def draw(seed: int = 0) -> Figure:
    """Return the contact sheet, beside it the real scan where pydicom-data is installed."""
    panels = [
        SheetPanel(
            title=f"{SEX_SINGULAR[scan.sex]}, {scan.age_years:.0f} years",
            views=[view.counts for view in scan.views],
        )
        for scan in one_per_decade(seed)
    ]
    file = get_testdata_file("JPEG-LL.dcm")
    real = None
    if file:
        counts = pydicom.dcmread(file).pixel_array.astype("float32")
        real = SheetPanel(title="real scan, anterior", views=[counts])
    return contact_sheet(panels, len(DECADES), real)


def main() -> int:
    """Write the picture, in few greys to keep it small."""
    buffer = io.BytesIO()
    draw().savefig(buffer, format="png", dpi=110)
    greys = Image.open(buffer).convert("L").point([value // 12 * 12 for value in range(256)])
    greys.point([255 if value >= 252 else value for value in range(256)]).save(
        Path(sys.argv[1]), optimize=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())


@dataclass(frozen=True, kw_only=True, eq=False)
class SheetPanel:
    """One scan of a contact sheet.

    Attributes:
        title: such as "woman, 64 years".
        views: (rows, columns) counts of each view, anterior first.
    """

    title: str
    views: Sequence[NDArray[np.uint16] | NDArray[np.float32]]


def contact_sheet(
    panels: Sequence[SheetPanel], across: int, beside: SheetPanel | None = None
) -> Figure:
    """Draw scans side by side at one scale, each from head to toes, dark on white.

    Args:
        panels: the scans in reading order.
        across: scans per row.
        beside: one more, to the right of all rows, to compare with.
    """
    shown = [_head_to_toes(panel.views) for panel in panels]
    other = _head_to_toes(beside.views) if beside else np.zeros((1, 0), dtype=np.float32)
    high = max(picture.shape[0] for picture in [*shown, other]) + (title := 40)
    wide = max(picture.shape[1] for picture in shown)
    down = -(-len(panels) // across)
    canvas = np.zeros((high * down, wide * across + other.shape[1]), dtype=np.float32)
    corners = [(high * (i // across), wide * (i % across)) for i in range(len(panels))]
    names = [panel.title for panel in panels]
    if beside:
        shown.append(other)
        corners.append((high * (down - 1) // 2, wide * across))
        names.append(beside.title)
    figure = Figure(figsize=(canvas.shape[1] / 200, canvas.shape[0] / 200))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    for picture, (top, left), name in zip(shown, corners, names, strict=True):
        rows, columns = picture.shape
        canvas[top + title : top + title + rows, left : left + columns] = picture
        axis.text(left + columns / 2, top + title / 2, name, ha="center", va="center", fontsize=7)
    axis.imshow(canvas, cmap="gray_r", vmin=0, vmax=1)
    return figure


def _head_to_toes(views: Sequence[NDArray[np.uint16] | NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the views beside each other on 0-1, without the empty rows above and below.

    A power of 0.7 shows soft tissue about as a reader's display does.
    """
    total = np.sum([view.astype(np.float32) for view in views], axis=0)
    top, bottom = body_rows(total)
    shown = [np.clip(view / white_level(view), 0, 1) ** 0.7 for view in views]
    return np.concatenate(shown, axis=1)[top:bottom].astype(np.float32)
