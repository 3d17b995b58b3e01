"""Phantom objects are stored as hospitals store scans, and tell nothing they should not."""

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from bae import phantom
from bae.archive import objects
from bae.errors import ScanError
from bae.phantom import PhantomConfig, PhantomScan, headers, mistakes, syntaxes
from bae.scan import ANTERIOR, Scan


@pytest.fixture(scope="module")
def scan() -> PhantomScan:
    """One scan, stored under many numbers below: its header depends on the number."""
    return phantom.make(3)


def _read(packed: phantom.Packed) -> list[Scan | ScanError]:
    return [found for name, data in packed.objects for _, found in objects.scans(name, data)]


@pytest.mark.slow
def test_every_object_is_read_back_as_it_was_made(scan: PhantomScan) -> None:
    """160 scans in all layouts: sex, age, view names and lossless pixels survive."""
    seen = Counter[str]()
    for k in range(160):
        numbered = replace(scan, index=k)
        how = headers.layout(numbered, 1)
        found = _read(phantom.pack(numbered, seed=1))
        assert len(found) == (2 if how.capture else 1)
        views = []
        for read in found:
            assert isinstance(read, Scan), read
            assert read.sex == scan.sex
            assert read.age_years is not None
            assert -1.0 <= read.age_years - scan.age_years <= 1.0
            if how.ages in (headers.BOTH, headers.BIRTH_DATE):
                assert read.age_years == pytest.approx(scan.age_years, abs=0.02)
            assert read.pixel_mm == pytest.approx((scan.pixel_mm, scan.pixel_mm), rel=1e-4)
            views += read.views
        assert sorted(view.name for view in views) == ["anterior", "posterior"]
        for view in views:
            made = scan.views[0 if view.name == ANTERIOR else 1].counts
            off = np.abs(view.counts.astype(float) - made)
            assert off.max() == 0 or (how.syntax in syntaxes.LOSSY and off.mean() < 2.0)
        seen.update([how.syntax, how.vendor, how.ages, f"{how.windows} windows"])
        seen["capture"] += how.capture
    assert set(syntaxes.SYNTAXES) <= set(seen)
    assert seen["capture"] > 2 and seen["2 windows"] > 2 and seen[headers.BARE_AGE] > 0


def test_view_names_do_not_follow_frame_order(scan: PhantomScan) -> None:
    """One vendor stores the anterior frame first, the other last."""
    first = set()
    for k in range(20):
        numbered = replace(scan, index=k)
        for read in _read(phantom.pack(numbered, seed=1)):
            assert isinstance(read, Scan)
            if len(read.views) == 2:
                first.add(read.views[0].name)
    assert first == {"anterior", "posterior"}


@pytest.mark.slow
def test_nothing_in_a_header_comes_from_the_latent_age() -> None:
    """With other latent ages the same people have the same headers, pixels apart."""
    for k in range(6):
        stripped = []
        for sd in (0.5, 9.0):
            config = PhantomConfig(latent_sd_years=sd)
            for _, data in phantom.objects(k, config=config):
                ds = pydicom.dcmread(io.BytesIO(data))
                for keyword in ("PixelData", "CountsAccumulated", "LossyImageCompressionRatio"):
                    if keyword in ds:
                        del ds[keyword]
                stripped.append(ds.to_json())
        half = len(stripped) // 2
        assert stripped[:half] == stripped[half:]


def test_visits_of_a_patient_share_the_name_and_the_id() -> None:
    """Scans 0 and 12 show the same patient on other days."""
    heads = []
    for k in (0, 12):
        _, data = phantom.objects(k)[0]
        heads.append(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True))
    assert heads[0].PatientID == heads[1].PatientID
    assert heads[0].PatientName == heads[1].PatientName
    assert heads[0].AcquisitionDate != heads[1].AcquisitionDate
    assert heads[0].SOPInstanceUID != heads[1].SOPInstanceUID


def test_object_names_are_unique_and_nested(scan: PhantomScan) -> None:
    """No two scans share a name; none is mistaken for what listings skip."""
    names = []
    for k in range(300):
        numbered = replace(scan, index=k)
        how = headers.layout(numbered, 0)
        names += [headers.key(numbered, 0, how, part) for part in ("_0", "_1")]
    assert len(set(names)) == len(names)
    for name in names:
        parts = name.split("/")
        assert len(parts) >= 3
        assert not any(part.startswith(("_", ".")) for part in parts)


def test_uids_are_valid(scan: PhantomScan) -> None:
    """Every object has UIDs of its own, as PS3.5 section 9 wants them."""
    seen = set()
    for k in range(20):
        for _, ds in headers.build(replace(scan, index=k), 0, headers.layout(scan, 0)):
            assert ds.SOPInstanceUID.is_valid and ds.StudyInstanceUID.is_valid
            seen.add(ds.SOPInstanceUID)
    assert len(seen) >= 20


def test_no_mistakes_without_asking(scan: PhantomScan) -> None:
    """The default share is zero; a share of one spoils every scan."""
    assert all(mistakes.draw(k, 0, 0.0) == "" for k in range(200))
    assert all(mistakes.draw(k, 0, 1.0) in mistakes.MISTAKES for k in range(200))
    share = np.mean([mistakes.draw(k, 0, 0.05) != "" for k in range(4000)])
    assert share == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("object empty", "object_empty"),
        ("not a picture", "format_unknown"),
        ("wrong modality", "other_modality"),
        ("static view", "static_view"),
        ("picture empty", "image_empty"),
    ],
)
def test_mistakes_are_refused_for_what_they_are(scan: PhantomScan, kind: str, code: str) -> None:
    """The reader names the mistake that was made."""
    packed = _spoilt(scan, kind)
    found = _read(packed)
    assert isinstance(found[0], ScanError)
    assert found[0].code == code


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("age missing", lambda read: read.age_years is None),
        ("age impossible", lambda read: read.age_years is None),
        ("sex missing", lambda read: read.sex is None),
        ("pixel size missing", lambda read: read.pixel_mm is None),
        ("views unnamed", lambda read: {v.name for v in read.views} == {"unknown"}),
        ("ages disagree", lambda read: bool(read.flags)),
    ],
)
def test_header_mistakes_leave_a_scan_that_says_so(scan: PhantomScan, kind: str, check) -> None:
    """The picture is still read; the reader knows what it lacks."""
    for read in _read(_spoilt(scan, kind)):
        assert isinstance(read, Scan), read
        assert check(read)


def test_a_copy_is_the_same_object_under_another_name(scan: PhantomScan) -> None:
    """Byte for byte."""
    packed = _spoilt(scan, "stored twice")
    assert packed.objects[0][1] == packed.objects[1][1]
    assert packed.objects[0][0] != packed.objects[1][0]


def _spoilt(scan: PhantomScan, kind: str) -> phantom.Packed:
    """Return the scan with a mistake, under the first number that draws it."""
    config = PhantomConfig(mistakes=1.0)
    k = next(
        k
        for k in range(500)
        if mistakes.draw(k, 0, 1.0) == kind
        and not headers.layout(replace(scan, index=k), 0).capture
    )
    return phantom.pack(replace(scan, index=k), config=config)
