"""One DICOMweb server (PS3.18): who asks, and searching, reading and storing with one way to fail.

Credentials come from the environment, never from an address: ``BAE_DICOMWEB_TOKEN`` (bearer),
or ``BAE_DICOMWEB_USER`` and ``BAE_DICOMWEB_PASSWORD`` (basic), else ``~/.netrc``; certificates
from ``REQUESTS_CA_BUNDLE``, proxies from ``HTTPS_PROXY``, as requests takes them. A server that is
away, busy or slow is waited for, up to ``PATIENCE_S``. What went wrong is a ``StorageError`` (all)
or an ``ObjectError`` (one object); neither says more of it than host and path of the service,
since what is asked for is named by UIDs.
"""

import io
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pydicom
from pydicom.dataset import Dataset

from bae.archive.dicom import decode
from bae.archive.files import bounds
from bae.dicomweb import address, answers, multipart
from bae.dicomweb.answers import Item
from bae.errors import ObjectError, StorageError

PATIENCE_S = 60.0
"""How long a call keeps trying while the server is away or busy."""
TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two pieces of an answer."""
PAGE = 100
"""Most results to ask for at once; a server may give fewer."""
TRIES = 3
"""How often an object is stored that the server has no room for just now."""

_BUSY = frozenset((408, 429, 502, 503, 504))
_OF_THE_OBJECTS = frozenset((400, 409, 413, 415, 422, 500))
"""What a server says of what it was sent; the next objects may be stored."""
_TOO_LARGE = 413
_SENTENCES = {
    401: "the server asks for other credentials; check " + address.VARIABLES,
    403: "these credentials may not do this; ask who runs the server",
    404: "there is no DICOMweb service at this path; check the address",
}
_NOT_DICOMWEB = "it answers, but not as DICOMweb does; check the path in the address"
_DUPLICATE = 0x0111
_FOR_NOW = frozenset((0x0110, *range(0xA700, 0xA800)))
"""Failure Reasons (PS3.18 annex I.2) that may pass: processing failure, out of resources."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _Status(StorageError):
    """The server said no with an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A DICOMweb service; threads may share it, each gets connections of its own.

    Attributes:
        url: its root, without slash at the end.
        stopped: set it to end all waiting.
    """

    def __init__(self, place: str) -> None:
        """Take an address, see ``address.url``, and who asks from the environment.

        Raises:
            UseError: one of them is wrong; nothing was asked of anybody.
        """
        self.url = address.url(place)
        self.stopped = threading.Event()
        self._auth = address.credentials()
        self._mine = threading.local()

    def studies(self, **filters: str) -> Iterator[Item]:
        """Yield what the server says of each study that it finds for some keywords and values."""
        ask = self._client().search_for_studies
        yield from self._pages("search for studies", ask, filters, ("StudyDescription",))

    def instances(self, study: str, **filters: str) -> Iterator[Item]:
        """Yield what the server says of each object of a study."""

        def ask(**options: Any) -> list[Item]:
            found: list[Item] = self._client().search_for_instances(study, **options)
            return found

        fields = ("NumberOfFrames", "Rows", "Columns")
        yield from self._pages("search for a study's objects", ask, filters, fields)

    def fetch(self, study: str, series: str, instance: str) -> bytes:
        """Return an object as the server has it, in the encoding in which it lies there.

        Raises:
            ObjectError: the server does not give this one, or gives something else.
        """
        doing = "fetch an object"
        url = f"{self.url}/studies/{study}/series/{series}/instances/{instance}"
        try:
            data = self._patiently(doing, lambda: self._read(url), _BUSY)
        except _Status as error:
            if error.status in (401, *_BUSY):
                raise
            raise ObjectError(
                "object_unreadable", f"the server says {error.status} for it"
            ) from None
        # no parser of ours sees it here: that is for the decoding process, without credentials
        if data[128:132] != b"DICM" or instance.encode() not in data[132:8192]:
            raise ObjectError("object_unreadable", "what came is not the object asked for")
        return data

    def store(self, objects: Sequence[bytes]) -> dict[str, str]:
        """Store our own objects in one request; again only what there was no room for.

        An object that the server has already is stored.

        Args:
            objects: DICOM files with different SOP Instance UIDs.

        Returns:
            SOP Instance UID to the server's reason, of each object that it did not take.
        """
        with decode.quiet():
            left = {str(ds.SOPInstanceUID): ds for ds in map(_parsed, objects)}
            refused: dict[str, str] = {}
            for attempt in range(TRIES):
                again = {}
                if attempt:
                    self._pause(2.0**attempt)
                for uid, reason in self._unconfirmed(list(left.values())).items():
                    if reason in _FOR_NOW and attempt + 1 < TRIES:
                        again[uid] = left[uid]
                    elif reason != _DUPLICATE and not self._has(left[uid]):
                        refused[uid] = f"code {reason:04X}" if reason > 0 else f"status {-reason}"
                left = again
                if not left:
                    break
        return refused

    # ---- one request each ---------------------------------------------------------------------

    def _unconfirmed(self, datasets: list[Dataset]) -> dict[str, int]:
        """Store in one request; return what may not be there.

        Returns:
            UID to Failure Reason, or to the negative HTTP status where none is told.
        """

        def post() -> tuple[int, Dataset]:
            import requests

            try:
                return 200, self._client().store_instances(datasets)
            except requests.HTTPError as error:
                if error.response.status_code not in _OF_THE_OBJECTS:
                    raise
                return error.response.status_code, answers.of_refusal(error.response)

        status, told = self._patiently("store objects", post, _BUSY)
        if status == _TOO_LARGE and len(datasets) > 1:
            alone = (self._unconfirmed([ds]) for ds in datasets)
            return {uid: reason for one in alone for uid, reason in one.items()}
        stored = {
            str(item.get("ReferencedSOPInstanceUID")) for item in answers.items(told, "Referenced")
        }
        reasons = {
            str(item.get("ReferencedSOPInstanceUID")): int(item.get("FailureReason") or -status)
            for item in answers.items(told, "Failed")
        }
        uids = [str(ds.SOPInstanceUID) for ds in datasets]
        return {uid: reasons.get(uid, -status) for uid in uids if uid not in stored}

    def _has(self, ds: Dataset) -> bool:
        """Say whether the server finds an object; one that may not be asked says no."""
        uid, study = str(ds.SOPInstanceUID), str(ds.get("StudyInstanceUID") or "")
        if not study:
            return False
        try:
            found = self.instances(study, SOPInstanceUID=uid)
            return any(answers.text(item, answers.INSTANCE) == uid for item in found)
        except _Status as error:
            if error.status == 401:
                raise
            return False

    def _pages(
        self,
        doing: str,
        ask: Callable[..., list[Item]],
        filters: Mapping[str, str],
        fields: Collection[str],
    ) -> Iterator[Item]:
        """Yield all results of a search, page by page.

        Raises:
            StorageError: the server gives the same page again, so the rest cannot be had.
        """
        offset, before = 0, list[Item]()
        options = {"search_filters": dict(filters), "fields": list(fields) or None}
        while True:

            def page(start: int = offset) -> list[Item]:
                return list(ask(limit=PAGE, offset=start, **options))

            items = self._patiently(doing, page, {*_BUSY, 500})
            if items and items == before:
                if len(items) != PAGE:
                    return  # no paging here: the first answer was all
                raise StorageError(
                    f"cannot {doing} at {self.url}: the server gives its first {len(items)} "
                    "results again and again; narrow the search"
                )
            if not items:
                return
            yield from items
            before, offset = items, offset + len(items)

    def _read(self, url: str) -> bytes:
        """Return the one object in the answer to a GET, of a bounded size."""
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        # not the client's own way: it parses and writes anew, which changes bytes
        session = self._mine.session
        with session.get(url, headers={"Accept": accept}, stream=True, timeout=TIMEOUT_S) as answer:
            answer.raise_for_status()
            body = bytearray()
            for piece in answer.iter_content(1 << 20):
                body += piece
                if len(body) > bounds.LARGEST_OBJECT_BYTES:
                    raise ObjectError("object_unreadable", "it is larger than objects are read")
            return multipart.only_part(body, answer.headers.get("Content-Type", ""))

    def _client(self) -> Any:
        """Return this thread's client."""
        if not hasattr(self._mine, "client"):
            import requests
            from dicomweb_client.web import DICOMwebClient

            # what they say quotes UIDs, and whatever a server likes to warn of
            logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)
            logging.getLogger("urllib3.connectionpool").setLevel(logging.CRITICAL)
            session = requests.Session()
            session.auth = self._auth
            session.headers["Accept"] = "application/dicom+json"
            client = DICOMwebClient(
                self.url,
                session,
                callback=answers.type_alone,
                chunk_size=1 << 31,  # its chunks cannot be sent a second time
                permissive_uid=True,
                timeout=TIMEOUT_S,
            )
            client.set_http_retry_params(retry=False)  # _patiently waits, for all alike
            self._mine.session, self._mine.client = session, client
        return self._mine.client

    def _patiently(self, doing: str, call: Callable[[], _T], wait: Collection[int]) -> _T:
        """Make a call, waiting while the server is away or busy; translate what stays wrong.

        What requests raises is left behind: it quotes the whole URL.
        """
        import requests

        at = f"cannot {doing} at {self.url}"
        give_up, pause = None, 0.2
        while True:
            self._client()
            try:
                return call()
            except requests.HTTPError as error:
                status = error.response.status_code
                give_up = give_up or time.monotonic() + PATIENCE_S
                if status not in wait or time.monotonic() > give_up:
                    said = _SENTENCES.get(status, f"the server says {status}")
                    raise _Status(status, f"{at}: {said}") from None
            except requests.exceptions.SSLError:
                raise StorageError(
                    f"{at}: its certificate is not trusted here; name your authority's in "
                    "REQUESTS_CA_BUNDLE"
                ) from None
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
                requests.exceptions.ContentDecodingError,
                multipart.CutOffError,
            ):
                give_up = give_up or time.monotonic() + PATIENCE_S
                if time.monotonic() > give_up:
                    raise StorageError(
                        f"{at}: no answer for {PATIENCE_S:.0f} s; check the address and the network"
                    ) from None
            except (ValueError, KeyError, TypeError, AttributeError):
                raise StorageError(f"{at}: {_NOT_DICOMWEB}") from None
            except requests.RequestException as error:
                raise StorageError(f"{at}: {type(error).__name__}") from None
            _log.debug("DICOMweb: no answer yet, trying again in %.1f s", pause)
            self._pause(pause)
            pause = min(pause * 2, 5.0)

    def _pause(self, seconds: float) -> None:
        if self.stopped.wait(seconds * random.uniform(0.5, 1.0)):
            raise StorageError("stopped while waiting for the server")


def _parsed(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))
