"""Exports to a PACS: what is noted, what is sent again, and what erasure finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bae import storage
from bae.errors import StorageError
from bae.report.dicom import exports, sr
from bae.tables import erase
from jobs import predict
from tests.fakes import rows
from tests.fakes.dicomweb import Fake
from tests.report.dicom.test_exports import _object

MODEL = "one"


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server that fails on demand."""
    made = Fake()
    yield made
    made.stop()


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Three scans with predictions; reports alone are made of them, which is quick."""
    monkeypatch.setattr(exports, "_MADE", {exports.REPORT: sr.structured_report})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("bae.dicomweb.server.PATIENCE_S", 1.0)
    archive = tmp_path / "archive"
    archive.mkdir()
    for number in (2, 3, 4):
        (archive / f"000000{number}.dcm").write_bytes(_object(number))
    root = str(tmp_path / "tables")
    rows.night(root, storage.list_objects(str(archive)), MODEL, str(archive))
    return root, str(archive)


def _notes(root: str) -> list[str]:
    place = Path(exports.folder(root))
    return sorted(path.name.split("-")[0] for path in place.iterdir()) if place.exists() else []


def test_each_scan_is_sent_once(cohort: tuple[str, str], fake: Fake) -> None:
    """Again: nothing. At another server: all."""
    root, archive = cohort
    assert exports.run(root, archive, MODEL, fake.place) == {exports.WRITTEN: 3}
    assert len(fake.sent) == 3 and len(fake.objects) == 3
    assert _notes(root) == sorted(rows.key("scan", n) for n in (2, 3, 4))
    assert exports.run(root, archive, MODEL, fake.place) == {}
    assert exports.run(root, archive, MODEL, fake.place + "/") == {}, "the same server"
    assert len(fake.sent) == 3
    assert len(exports.missing(root, archive, MODEL, "dicomweb://other/rs")) == 3
    assert len(exports.missing(root, archive, MODEL, exports.folder(root))) == 3


def test_what_is_refused_is_tried_again_and_the_rest_is_not(
    cohort: tuple[str, str], fake: Fake
) -> None:
    """One of three, with the reason; then it is taken."""
    root, archive = cohort
    bad = iter([0xA900])
    fake.refuse = lambda uid, data: next(bad, None)
    done = exports.run(root, archive, MODEL, fake.place)
    assert done == {exports.WRITTEN: 2, f"{exports.REFUSED} (code A900)": 1}
    assert len(_notes(root)) == 2
    assert exports.run(root, archive, MODEL, fake.place) == {exports.WRITTEN: 1}
    assert len(fake.sent) == 4 and len(fake.objects) == 3


def test_a_killed_export_sends_the_same_again(
    cohort: tuple[str, str], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead between the server's answer and the note: the same bytes under the same UIDs."""
    root, archive = cohort
    real = storage.write_bytes

    def dies(place: str, data: bytes) -> None:
        if "sent-" in place:
            raise StorageError("killed")
        real(place, data)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_bytes", dies)
        with pytest.raises(StorageError, match="killed"):
            exports.run(root, archive, MODEL, fake.place)
    [(uid, first)] = fake.objects.items()
    assert exports.run(root, archive, MODEL, fake.place) == {exports.WRITTEN: 3}
    assert fake.objects[uid] == first and len(fake.objects) == 3 and len(fake.sent) == 4


def test_erasure_takes_the_notes_along(cohort: tuple[str, str], fake: Fake) -> None:
    """Scans 2 and 3 belong to one made-up person."""
    root, archive = cohort
    exports.run(root, archive, MODEL, fake.place)
    assert erase.erase(root, rows.key("patient", 1)).exports == 2
    assert _notes(root) == [rows.key("scan", 4)]


@pytest.mark.parametrize(("status", "said"), [(401, "BAE_DICOMWEB_TOKEN"), (503, "says 503")])
def test_a_server_that_is_closed_is_a_fault_after_the_night(
    cohort: tuple[str, str],
    fake: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    said: str,
) -> None:
    """The scores are there, so it is no wrong use; one sentence, which names nobody."""
    root, archive = cohort
    fake.fault = lambda method, path: status
    options = predict.argparse.Namespace(
        export_dicom=fake.place, tables=root, archive=archive, model="m"
    )
    card = type("Card", (), {"model_id": MODEL})
    monkeypatch.setattr("bae.method.card.load_card", lambda uri: card)
    with pytest.raises(predict.RunError, match=said) as raised:
        predict._export(options)
    assert "1.2." not in str(raised.value).replace("127.0.0.1", "") and "P-77" not in str(raised)
    fake.fault = lambda method, path: None
    fake.refuse = lambda uid, data: 0xA900
    with pytest.raises(predict.RunError, match="does not take the exports of 3 scans"):
        predict._export(options)
    fake.refuse = lambda uid, data: None
    predict._export(options)
    assert len(fake.objects) == 3
