"""Draw one phantom per decade and sex beside the real scan: ``python -m bae.phantom.sheet PNG``."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pydicom
from matplotlib.figure import Figure
from PIL import Image
from pydicom.data import get_testdata_file

from bae import figures
from bae.phantom.cohort import PhantomScan, make
from bae.scan import FEMALE, MALE

DECADES = (40, 50, 60, 70)
WORDS = {FEMALE: "woman", MALE: "man"}


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
        figures.SheetPanel(
            title=f"{WORDS[scan.sex]}, {scan.age_years:.0f} years",
            views=[view.counts for view in scan.views],
        )
        for scan in one_per_decade(seed)
    ]
    file = get_testdata_file("JPEG-LL.dcm")
    real = None
    if file:
        counts = pydicom.dcmread(file).pixel_array.astype("float32")
        real = figures.SheetPanel(title="real scan, anterior", views=[counts])
    return figures.contact_sheet(panels, len(DECADES), real)


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
