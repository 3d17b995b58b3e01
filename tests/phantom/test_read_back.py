"""Every object of a simulated archive is read, and its mistakes are found."""

import numpy as np
import pytest

from bae.archive import objects
from bae.archive.dicom import decode
from bae.phantom import PhantomConfig, make, mistakes, pack
from bae.scan import Scan

EXPECTED = {
    "age impossible": "age_implausible",
    "ages disagree": "age_disagrees",
    "pixel size missing": "pixel_size_missing",
    "views unnamed": "view_unknown",
    "wrong modality": "other_modality",
    "static view": "static_view",
    "picture empty": "image_empty",
    "scan stopped": "half_body",
    "feet first": "upside_down",
    "object empty": "object_empty",
    "not a picture": "format_unknown",
}
"""Mistake of the phantom -> flag or code that must come of it."""


@pytest.mark.slow
def test_every_default_phantom_is_accepted_as_it_was_made() -> None:
    """Sex, age, views and, where the syntax is lossless, every pixel."""
    for k in range(16):
        scan = make(k, seed=5)
        true = {view.name: view.counts for view in scan.views}
        for name, data in pack(scan, seed=5).objects:
            for _, read in objects.scans(name, data):
                assert isinstance(read, Scan), f"{k}: {read}"
                assert set(read.flags) <= {"lossy"}
                assert read.sex == scan.sex
                assert read.age_years == pytest.approx(scan.age_years, abs=1.01)
                for view in read.views:
                    off = np.abs(view.counts.astype(float) - true[view.name]).max()
                    assert off == 0 or "lossy" in read.flags


@pytest.mark.parametrize("mistake", EXPECTED)
def test_mistakes_become_their_flag_or_code(mistake: str) -> None:
    """The first scan of a spoilt cohort that has it."""
    config = PhantomConfig(mistakes=1.0)
    k = next(k for k in range(1000) if mistakes.draw(k, 6, 1.0) == mistake)
    packed = pack(make(k, seed=6, config=config), seed=6, config=config)
    assert packed.mistake == mistake
    outcome = objects.decode(packed.objects[0][1])
    found = outcome.flags if isinstance(outcome, Scan) else (outcome.code,)
    assert EXPECTED[mistake] in found


def test_the_papers_matrix_is_read() -> None:
    """900 x 3000 pixels."""
    config = PhantomConfig(columns=900, rows=3000)
    [(_, data), *_] = pack(make(0, config=config), config=config).objects
    scan = decode.decode(data)
    assert [view.counts.shape for view in scan.views] == [(3000, 900)] * len(scan.views)
