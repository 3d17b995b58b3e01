"""Pseudonyms, and what may not get out."""

import hashlib
import hmac
import logging
import pickle
import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bae.archive import labels, objects, privacy
from bae.archive.dicom import decode
from bae.archive.sandbox import Decoder
from bae.errors import ScanError, UseError
from bae.scan import Identity, Scan
from tests import fuzz
from tests.fakes import dicoms, planted

KEY = bytes(range(32))
IDENTITY = Identity(patient="A\0P-1", study="1.2", instance="1.2.3")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the tests gives no key."""
    monkeypatch.delenv(privacy.KEY_VARIABLE, raising=False)
    monkeypatch.delenv(privacy.KEY_FILE_VARIABLE, raising=False)


def test_pseudonyms_are_hmac_sha_256() -> None:
    """Against the standard library, with the message spelled out."""
    message = b"bae scan\x001.2.3"
    expected = hmac.new(KEY, message, hashlib.sha256).hexdigest()[:32]
    assert privacy.scan_id(KEY, IDENTITY) == expected
    assert re.fullmatch("[0-9a-f]{32}", privacy.patient_key(KEY, IDENTITY))


def test_pseudonyms_differ_by_key_kind_and_person() -> None:
    """The same text as patient, study and scan gives three pseudonyms."""
    same = [
        Identity(patient="x", study="", instance="i"),
        Identity(patient="", study="x", instance="i"),
        Identity(patient="", study="", instance="x"),
    ]
    keys = {privacy.patient_key(KEY, identity) for identity in same}
    keys.add(privacy.scan_id(KEY, same[2]))
    keys.add(privacy.patient_key(KEY[::-1], same[0]))
    assert len(keys) == 5


def test_scans_of_an_unknown_patient_belong_to_their_study() -> None:
    """And to themselves without one."""
    one, two = (Identity(patient="", study="1.2", instance=i) for i in "ab")
    alone = [Identity(patient="", study="", instance=i) for i in "ab"]
    assert privacy.patient_key(KEY, one) == privacy.patient_key(KEY, two)
    assert privacy.patient_key(KEY, alone[0]) != privacy.patient_key(KEY, alone[1])


@given(st.text(), st.text(), st.text(min_size=1))
def test_any_identifier_has_a_pseudonym(patient: str, study: str, instance: str) -> None:
    """Lone surrogates from broken headers included."""
    identity = Identity(patient=patient, study=study, instance=instance)
    assert len(privacy.patient_key(KEY, identity)) == 32


@pytest.mark.parametrize("text", [KEY.hex(), "correct horse battery staple"])
def test_the_key_comes_from_the_environment_or_a_file(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hex or text; the file may end in a newline."""
    expected = KEY if text == KEY.hex() else text.encode()
    (tmp_path / "key").write_text(text + "\n")
    monkeypatch.delenv(privacy.KEY_VARIABLE, raising=False)
    monkeypatch.setenv(privacy.KEY_FILE_VARIABLE, str(tmp_path / "key"))
    assert privacy.load_key() == expected
    monkeypatch.setenv(privacy.KEY_VARIABLE, "0" * 64)
    assert privacy.load_key() == bytes(32)


def test_a_short_key_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen bytes."""
    monkeypatch.setenv(privacy.KEY_VARIABLE, "fifteen letters")
    with pytest.raises(UseError, match="15 bytes is too short") as wrong:
        privacy.load_key()
    assert "fifteen" not in str(wrong.value)


def test_there_is_no_key_unless_one_is_given(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine without one must never make pseudonyms; the demo key is asked for by name."""
    monkeypatch.delenv(privacy.KEY_VARIABLE, raising=False)
    with pytest.raises(UseError, match="no pseudonym key on"):
        privacy.load_key()
    monkeypatch.setenv(privacy.KEY_VARIABLE, "demo")
    assert privacy.load_key() == b"every demo has the same people"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_fingerprint_tells_keys_apart() -> None:
    """And is no pseudonym of anything."""
    assert privacy.fingerprint(KEY) != privacy.fingerprint(KEY + b"x")
    assert KEY.hex() not in privacy.fingerprint(KEY)


def test_the_issuer_of_an_id_makes_no_second_patient() -> None:
    """Archives name it on some objects only; tables of older releases go on telling by it."""
    named, bare = (Identity(patient=p, study="", instance="1") for p in ("A\x0017", "\x0017"))
    assert privacy.patient_key(KEY, named) == privacy.patient_key(KEY, bare)
    older = [privacy.patient_key(KEY, one, issuers=True) for one in (named, bare)]
    assert older[0] != older[1]


def _shown(data: bytes, name: str = "x") -> str:
    """Return everything that reading an object may show outside restricted/."""
    shown: list[str] = []
    for _, outcome in objects.scans(name, data):
        shown.append(repr(outcome))
        if isinstance(outcome, Scan):
            shown += [str(outcome.flags), outcome.manufacturer, str(outcome.pixel_mm)]
        else:
            shown += [str(outcome), pickle.dumps(outcome).decode("latin-1")]
            shown.append("".join(traceback.format_exception(outcome)))
    return "\n".join(shown)


def test_no_planted_word_is_shown_by_a_sound_object(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names, ids, UIDs, dates, private and nested text: none in repr, flags, logs, console."""
    data, secrets = planted.plant(planted.words())
    assert len(secrets) > 500
    with caplog.at_level(logging.DEBUG):
        [(_, scan)] = objects.scans("DOE_JANE.dcm", data)
        assert isinstance(scan, Scan)
        shown = _shown(data)
    written = shown + caplog.text + "".join(capfd.readouterr())
    assert [secret for secret in secrets if secret in written] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"Modality": "QZXV"},
        {"PhotometricInterpretation": "QZXV"},
        {"ImageType": ["QZXV", "QZXV", "QZXV TOMO", "TOMO"]},
        {"PatientBirthDate": "QZXV", "AcquisitionDate": "QZXV", "PatientAge": "QZXV"},
        {"Rows": None, "PatientComments": "QZXV"},
        {"NumberOfFrames": "QZXV"},
        {"PixelSpacing": ["QZXV", "QZXV"]},
        {"EnergyWindowVector": ["QZXV"] * 2},
        {"Manufacturer": "QZXV"},
        {"PatientSex": "QZXV"},
        {"SpecificCharacterSet": "QZXV"},
    ],
)
def test_no_text_of_a_bad_header_is_shown(
    changes: dict[str, object],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Refusals say what was found in words of ours."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = dicoms.scan(**changes)
        except (ValueError, TypeError, AttributeError, OSError):
            ds = dicoms.put(dicoms.header(), dicoms.two_views())
            for keyword in changes:
                ds.add_new(keyword, "LO", "QZXV")
            data = dicoms.encode(ds)
    recwarn.clear()
    caplog.clear()  # of what pydicom said when the object was made
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG):
        shown = _shown(data)
    written = shown + caplog.text + "".join(capfd.readouterr())
    written += "".join(str(warning.message) for warning in recwarn)
    assert "QZXV" not in written


def test_pydicom_may_speak_again_after_decoding() -> None:
    """A notebook's own use of pydicom is not silenced, neither by a scan nor by a refusal."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    for data in (dicoms.scan(), dicoms.scan()[:300]):
        _shown(data)
        assert logger.level == before < logging.CRITICAL


def test_what_pydicom_says_of_a_value_is_dropped() -> None:
    """Its exceptions quote the header; neither message nor chain keeps them."""
    with pytest.raises(ScanError) as refused, decode._refusing("header_broken", "broken"):
        int("QZXV")
    shown = "".join(traceback.format_exception(refused.value))
    assert "QZXV" not in str(refused.value)
    assert "invalid literal" not in shown


@pytest.mark.slow
def test_no_refusal_of_a_spoilt_object_shows_planted_words() -> None:
    """Five hundred spoilt copies, decoded in the child as a job would."""
    import numpy as np

    data, _ = planted.plant(planted.words())
    rng = np.random.default_rng(7)
    seen = set()
    with Decoder(limit_s=5.0) as decoder:
        for _ in range(500):
            for _, outcome in decoder.scans("x", fuzz.spoil(data, data, rng)):
                if isinstance(outcome, ScanError):
                    seen.add(outcome.code)
                    assert "QZXV" not in str(outcome)
                else:
                    assert "QZXV" not in repr(outcome) + outcome.manufacturer + str(outcome.flags)
    assert len(seen) > 3


def test_a_zip_member_name_is_not_in_messages() -> None:
    """It goes to restricted/ as part of the object's URI only."""
    from tests.archive.test_objects import zipped

    for _, outcome in objects.scans("x", zipped(("DOE^JANE.dcm", b"?"), ("DOE.zip", zipped()))):
        assert isinstance(outcome, ScanError)
        assert "DOE" not in str(outcome)


def test_identities_hide_in_every_representation(tmp_path: Path) -> None:
    """repr, str, format and the repr of a scan that holds one."""
    scan = decode.decode(dicoms.scan())
    (tmp_path / "labels.csv").write_text("key,age_years\nP-0001,50\n")
    known = labels.load(str(tmp_path / "labels.csv"), KEY)
    text = f"{scan} {scan!r} {scan.identity} {scan.identity!r} {known} {known!r}"
    assert not any(secret in text for secret in ("P-0001", "498", "DOE"))
