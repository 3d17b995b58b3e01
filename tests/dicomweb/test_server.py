"""Addresses, credentials, and storing at a server that takes some, none, or says nothing."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections import Counter

import pydicom
import pytest

from bae.dicomweb import address, multipart
from bae.dicomweb.answers import STUDY, text
from bae.dicomweb.server import Server
from bae.errors import StorageError, UseError
from tests.fakes import dicoms
from tests.fakes.dicomweb import HTML, Fake

# ---- who and where --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("dicomweb://pacs.hospital/dicom-web", "https://pacs.hospital/dicom-web"),
        ("dicomweb://pacs:8443/a/b/", "https://pacs:8443/a/b"),
        ("dicomweb+http://127.0.0.1:8042", "http://127.0.0.1:8042"),
        ("https://pacs/rs", "https://pacs/rs"),
        ("http://pacs/rs", "http://pacs/rs"),
    ],
)
def test_an_address_is_encrypted_unless_it_says_otherwise(place: str, url: str) -> None:
    """The scheme decides, and a slash at the end does not matter."""
    assert address.url(place) == url


@pytest.mark.parametrize(
    "place",
    ["dicomweb://", "dicomweb:///rs", "dicomweb://pacs/rs?token=s3cret", "ftp://pacs", "pacs/rs"],
)
def test_what_is_no_address_is_refused_without_being_quoted(place: str) -> None:
    """It may hold what nobody should see."""
    with pytest.raises(StorageError, match="is named dicomweb://") as raised:
        Server(place)
    assert "s3cret" not in str(raised.value)


def test_credentials_in_an_address_are_refused_without_being_quoted() -> None:
    """Shells, schedulers and logs keep addresses."""
    with pytest.raises(StorageError, match="BAE_DICOMWEB_TOKEN") as raised:
        Server("dicomweb://reader:s3cret@pacs/rs")
    assert "s3cret" not in str(raised.value)


def test_credentials_are_one_token_or_one_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pair, or two ways, is a mistake that would show late."""
    monkeypatch.setenv(address.USER, "reader")
    with pytest.raises(UseError, match="belong together"):
        Server("dicomweb://pacs")
    monkeypatch.setenv(address.PASSWORD, "x")
    monkeypatch.setenv(address.TOKEN, "y")
    with pytest.raises(UseError, match="not both"):
        Server("dicomweb://pacs")


@pytest.mark.parametrize(
    ("variables", "header"),
    [
        ({address.TOKEN: "t0ken\n"}, "Bearer t0ken"),
        (
            {address.USER: "Åsa", address.PASSWORD: "a:b"},
            "Basic " + base64.b64encode("Åsa:a:b".encode()).decode(),
        ),
        ({}, None),
    ],
)
def test_the_server_is_told_who_asks(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], header: str | None
) -> None:
    """With every service: search, read, store."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    uid = fake.add(1, _object(1))
    server = Server(fake.place)
    assert _studies(server) == ["1.2.7.1"]
    server.fetch("1.2.7.1", "1.2.8.1", uid)
    server.store([_object(2)])
    assert [headers.get("Authorization") for headers in fake.headers] == [header] * len(fake.asked)


# ---- storing --------------------------------------------------------------------------------


def _studies(server: Server) -> list[str]:
    return [text(item, STUDY) for item in server.studies()]


def _object(number: int) -> bytes:
    return dicoms.scan(
        SOPInstanceUID=f"1.2.9.{number}", StudyInstanceUID="1.2.7.1", SeriesInstanceUID="1.2.8.1"
    )


UIDS = ["1.2.9.1", "1.2.9.2", "1.2.9.3"]


def _store(fake: Fake) -> dict[str, str]:
    return Server(fake.place).store([_object(number) for number in (1, 2, 3)])


def test_objects_arrive_byte_for_byte_in_one_request(fake: Fake) -> None:
    """And once."""
    assert _store(fake) == {}
    assert fake.sent == [UIDS]
    assert [fake.objects[uid][2] for uid in UIDS] == [_object(number) for number in (1, 2, 3)]


def test_only_what_there_was_no_room_for_is_sent_again(fake: Fake) -> None:
    """Out of resources for one of three, once."""
    left = iter([0xA700])
    fake.refuse = lambda uid, data: next(left, None) if uid == UIDS[1] else None
    assert _store(fake) == {}
    assert fake.sent == [UIDS, UIDS[1:2]]


def test_what_the_server_does_not_take_is_told_and_not_sent_again(fake: Fake) -> None:
    """The others are there; the reason is the standard's code."""
    fake.refuse = lambda uid, data: 0xA900 if uid == UIDS[2] else None
    assert _store(fake) == {UIDS[2]: "code A900"}
    assert fake.sent == [UIDS]


@pytest.mark.parametrize("told", [True, False])
def test_what_is_there_already_is_stored(fake: Fake, told: bool) -> None:
    """Whether the server says so (0111H) or only 409; then it is looked up."""
    assert _store(fake) == {}
    fake.refuse = lambda uid, data: 0x0111
    if not told:
        fake.answer = lambda status, body: (status, "text/html", b"<html>conflict</html>")
    assert _store(fake) == {}
    assert len(fake.sent) == 2


def test_a_refusal_without_reasons_is_no_success(fake: Fake) -> None:
    """409 with a page for people, and nothing there."""
    fake.refuse = lambda uid, data: 0xA900
    fake.answer = lambda status, body: (status, "text/html", b"<html>conflict</html>")
    assert _store(fake) == dict.fromkeys(UIDS, "status 409")


@pytest.mark.parametrize(
    ("kind", "empty"),
    [("application/dicom+json; charset=utf-8", False), ("application/json", False), ("", True)],
)
def test_answers_are_read_however_they_are_labelled(fake: Fake, kind: str, empty: bool) -> None:
    """Also an empty one: then the objects are looked up."""
    fake.answer = lambda status, body: (status, kind, b"" if empty else body)
    assert _store(fake) == {}
    assert any(method == "GET" for method, _ in fake.asked) == empty


def test_a_request_that_is_too_large_is_sent_in_pieces(fake: Fake) -> None:
    """413 for three, then one by one."""
    first = iter([413])
    fake.fault = lambda method, path: next(first, None)
    assert _store(fake) == {}
    assert fake.sent == [[uid] for uid in UIDS]


def test_a_busy_server_is_waited_for_and_gets_the_whole_again(fake: Fake) -> None:
    """503 twice; the third request has all objects, none of them cut."""
    busy = iter([503, 429])
    fake.fault = lambda method, path: next(busy, None)
    assert _store(fake) == {}
    assert len(fake.asked) == 3 and fake.sent == [UIDS]


@pytest.mark.parametrize(
    ("fault", "said"), [(401, "BAE_DICOMWEB_TOKEN"), (403, "may not"), (404, "no DICOMweb service")]
)
def test_a_server_that_takes_nothing_is_named_and_no_object_is(
    fake: Fake, fault: int, said: str
) -> None:
    """One sentence with host and path."""
    fake.fault = lambda method, path: fault
    with pytest.raises(StorageError, match=said) as raised:
        _store(fake)
    told = str(raised.value)
    assert "/pacs/rs" in told and "1.2." not in told.replace("127.0.0.1", "")


def test_a_log_in_page_is_no_answer(fake: Fake) -> None:
    """Neither to a search, nor does it make objects stored."""
    fake.fault = lambda method, path: HTML
    with pytest.raises(StorageError, match="not as DICOMweb"):
        list(Server(fake.place).studies())
    with pytest.raises(StorageError, match="not as DICOMweb"):
        _store(fake)


def test_nothing_of_an_object_is_logged(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    """At any level but our own, which says seconds only; requests and its neighbours are quiet."""
    busy = iter([503])
    fake.refuse = lambda uid, data: 0xA900
    fake.fault = lambda method, path: next(busy, None)
    Server(fake.place).store([_object(1)])  # sets their levels
    with caplog.at_level(logging.DEBUG):
        Server(fake.place).store([_object(1)])
    said = " ".join(record.getMessage() for record in caplog.records if record.levelno >= 20)
    assert "1.2." not in said.replace("127.0.0.1", "")


# ---- multipart ------------------------------------------------------------------------------

KIND = 'Multipart/Related; Type="application/dicom"; Boundary="a b"'


def test_a_part_is_what_lies_between_its_boundaries() -> None:
    """Also where its own bytes look like a head or a boundary's beginning."""
    inside = b"\r\n\r\n\x00--a \r\n--a b?\r\n"
    body = b"--a b\r\nContent-Type: application/dicom\r\n\r\n" + inside + b"\r\n--a b--\r\n"
    assert multipart.only_part(body, KIND) == inside
    assert multipart.only_part(b"pre" + body, KIND) == inside
    for end in range(len(body) - 5):
        with pytest.raises(multipart.CutOffError):
            multipart.only_part(body[:end], KIND)


def test_an_answer_without_parts_is_the_object() -> None:
    """Some servers send it so; anything else is none."""
    assert multipart.only_part(b"x", "application/dicom; transfer-syntax=1.2") == b"x"
    with pytest.raises(ValueError, match="no DICOM object"):
        multipart.only_part(b"x", "text/html")


# ---- searching ------------------------------------------------------------------------------


def test_all_pages_are_asked_for(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five studies by twos; a server that knows no pages gives each once."""
    monkeypatch.setattr("bae.dicomweb.server.PAGE", 2)
    for number in range(5):
        fake.add(number, b"")
    wanted = [f"1.2.7.{number}" for number in range(5)]
    assert _studies(Server(fake.place)) == wanted
    fake.paging = False
    assert _studies(Server(fake.place)) == wanted


def test_a_server_that_gives_one_page_for_ever_is_an_error(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the rest would be missed in silence."""
    monkeypatch.setattr("bae.dicomweb.server.PAGE", 2)
    for number in range(2):
        fake.add(number, b"")
    fake.paging = False
    with pytest.raises(StorageError, match="again and again"):
        list(Server(fake.place).studies())


def test_our_fake_says_what_the_standard_says(fake: Fake) -> None:
    """PS3.18 table 10.5.3-1: 200, 202, 409, read by pydicom from its JSON."""
    told: list[tuple[int, Counter[str]]] = []

    def note(status: int, body: bytes) -> tuple[int, str, bytes]:
        ds = pydicom.Dataset.from_json(json.loads(body))
        counts = {k: len(ds[k].value) for k in ("ReferencedSOPSequence", "FailedSOPSequence")}
        told.append((status, Counter(counts)))
        return status, "application/dicom+json", body

    fake.answer = note
    for refused in ([], UIDS[:1], UIDS):
        fake.refuse = lambda uid, data, refused=refused: 0xA900 if uid in refused else None
        fake.objects.clear()
        _store(fake)
    assert [status for status, _ in told] == [200, 202, 409]
    assert pydicom.dcmread(io.BytesIO(_object(1))).SOPInstanceUID == UIDS[0]
