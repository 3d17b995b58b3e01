"""Draw one phantom per decade and sex beside the real scan.

``python -m bae.phantom.sheet PNG``, and behind it the number of a world other than 0.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file

from bae.body import body_rows, white_level
from bae.method import boxes
from bae.phantom.people import PhantomConfig, visit
from bae.phantom.scan import PhantomScan, make
from bae.scan import FEMALE, MALE, SEX_SINGULAR

DECADES = (40, 50, 60, 70)
USUAL_PIXEL_MM = 2.26

Panel = tuple[str, Sequence[NDArray[np.uint16] | NDArray[np.float32]]]
"""Title, such as "woman, 64 years", and counts of each view, anterior first."""


def one_per_decade(seed: int = 0, world: int = 0) -> list[PhantomScan]:
    """Return the first scan of each decade and sex: women by age, then men by age."""
    config = PhantomConfig(world=world)
    wanted = [(sex, decade) for sex in (FEMALE, MALE) for decade in DECADES]
    found: dict[tuple[str, int], int] = {}
    k = 0
    while not found.keys() >= set(wanted):
        who = visit(k, seed, config)
        found.setdefault((who.sex, int(who.age_years // 10) * 10), k)
        k += 1
    return [make(found[which], seed=seed, config=config) for which in wanted]


def draw(seed: int = 0, world: int = 0) -> Figure:
    """Return the contact sheet, beside it the real scan where pydicom-data is installed."""
    named: list[Panel] = [
        (f"{SEX_SINGULAR[scan.sex]}, {scan.age_years:.0f} years", at_one_scale(scan))
        for scan in one_per_decade(seed, world)
    ]
    file = get_testdata_file("JPEG-LL.dcm")
    real = None
    if file:
        real = ("real scan, anterior", [pydicom.dcmread(file).pixel_array.astype("float32")])
    return contact_sheet(named, len(DECADES), real)


def at_one_scale(scan: PhantomScan) -> list[NDArray[np.uint16] | NDArray[np.float32]]:
    """Return the views with about 2.3 mm to a pixel, as most cameras have them."""
    shown: list[NDArray[np.uint16] | NDArray[np.float32]] = []
    for view in scan.views:
        counts, pixel = view.counts, scan.pixel_mm
        if pixel < USUAL_PIXEL_MM / 1.5:
            step = round(USUAL_PIXEL_MM / pixel)
            rows, columns = (n // step for n in counts.shape)
            kept = counts[: rows * step, : columns * step].astype(np.float32)
            shown.append(kept.reshape(rows, step, columns, step).mean(axis=(1, 3)))
        elif pixel > USUAL_PIXEL_MM * 1.1:
            rows, columns = (round(n * pixel / USUAL_PIXEL_MM) for n in counts.shape)
            shown.append(boxes.enlarge(counts.astype(np.float32), (rows, columns)))
        else:
            shown.append(counts)
    return shown


def contact_sheet(panels: Sequence[Panel], across: int, beside: Panel | None = None) -> Figure:
    """Draw scans side by side at one scale, each from head to toes, dark on white.

    Args:
        panels: title and views of each scan, in reading order.
        across: scans per row.
        beside: one more, to the right of all rows, to compare with.
    """
    title_rows, down = 40, -(-len(panels) // across)
    shown = [_head_to_toes(views) for _, views in panels]
    wide = max(pixels.shape[1] for pixels in shown)
    shown += [_head_to_toes(beside[1])] if beside else []
    high = max(len(pixels) for pixels in shown) + title_rows
    corners = [(high * (i // across), wide * (i % across)) for i in range(len(panels))]
    corners.append((high * (down - 1) // 2, wide * across))
    beside_columns = shown[-1].shape[1] if beside else 0
    canvas = np.zeros((high * down, wide * across + beside_columns), dtype=np.float32)
    figure = Figure(figsize=(canvas.shape[1] / 200, canvas.shape[0] / 200))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    titles = [title for title, _ in (*panels, *([beside] if beside else []))]
    for pixels, (top, left), title in zip(shown, corners, titles, strict=False):
        rows, columns = pixels.shape
        canvas[top + title_rows : top + title_rows + rows, left : left + columns] = pixels
        middle = (left + columns / 2, top + title_rows / 2)
        axis.text(*middle, title, ha="center", va="center", fontsize=7)
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


def main() -> int:
    """Write the picture, in few greys to keep it small."""
    buffer = io.BytesIO()
    draw(world=int(sys.argv[2]) if len(sys.argv) > 2 else 0).savefig(buffer, format="png", dpi=110)
    greys = Image.open(buffer).convert("L").point([value // 12 * 12 for value in range(256)])
    greys.point([255 if value >= 252 else value for value in range(256)]).save(
        Path(sys.argv[1]), optimize=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
