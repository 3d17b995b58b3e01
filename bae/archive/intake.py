"""A listed object to what became of it: fetched, decoded, under pseudonyms."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bae import storage
from bae.archive import privacy
from bae.archive.files import bounds, kinds
from bae.archive.labels import Labels, Match, apply
from bae.archive.sandbox import Decoder
from bae.errors import ObjectError, ScanError, StorageError
from bae.scan import Scan


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a scan's header said, where a labels file may say otherwise, and which one did.

    Attributes:
        age_years, age_source, sex: as in ``Scan``.
        person_key, study_key: pseudonyms that labels are looked up by.
        label: what was found.
        labels_digest: of the labels file; None where there was none.
    """

    age_years: float | None
    age_source: str | None
    sex: str | None
    person_key: str
    study_key: str
    label: Match | None = None
    labels_digest: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """What became of one object of the archive, or of one member of a zip file.

    Attributes:
        object_uri: the object, ``<zip>!/<member>`` for a member.
        source_uri, etag, size_bytes: the listed object.
        scan_id, patient_key: pseudonyms; empty where the object was refused.
        outcome: the scan, or why there is none.
        header: None where there is none.
    """

    object_uri: str
    source_uri: str
    etag: str
    size_bytes: int
    scan_id: str
    patient_key: str
    outcome: Scan | ScanError
    header: Header | None = None


def fetch(uri: str, size_bytes: int) -> bytes | ScanError:
    """Read an object; one that cannot be read is refused, and does not end the run.

    Args:
        uri: of the object.
        size_bytes: as listed. What is larger than any scan is refused unread; an object that has
            grown since is read no further than that.

    Raises:
        StorageError: the archive itself cannot be reached or may not be read.
    """
    try:
        if size_bytes > bounds.LARGEST_PACKED_BYTES:
            return bounds.too_large(size_bytes)
        if size_bytes > bounds.LARGEST_OBJECT_BYTES and not kinds.is_zip(
            storage.read_bytes(uri, 0, kinds.START_BYTES)
        ):
            return bounds.too_large(size_bytes)
        data = storage.read_bytes(uri, 0, bounds.LARGEST_PACKED_BYTES + 1)
    except ObjectError as error:
        return ScanError(error.code, error.message)
    except StorageError as error:
        if storage.is_absent(error):
            return ScanError("object_gone", "the object was listed but is no longer there")
        raise
    return data if len(data) <= bounds.LARGEST_PACKED_BYTES else bounds.too_large(len(data))


def decode(
    entry: dict[str, object],
    content: bytes | ScanError,
    decoder: Decoder,
    key: bytes,
    known: Labels | None,
    *,
    issuers: bool = False,
    decoded_bytes: int = bounds.LARGEST_DECODED_BYTES,
) -> Iterator[Decoded]:
    """Yield what became of an object: one scan or refusal, or one for each member of a zip file.

    Args:
        entry: a row of ``storage.LISTING``.
        content: what ``fetch`` returned.
        decoder: the child process that decodes.
        key: of the pseudonyms, see ``privacy.load_key``.
        known: ages and sexes of a labels file, or None.
        issuers: see ``privacy.patient_key``.
        decoded_bytes: of pixels that a zip file may decode to; its members behind are refused.
    """
    uri = str(entry["object_uri"])
    found: list[tuple[str, Scan | ScanError]] = (
        [("", content)]
        if isinstance(content, ScanError)
        else decoder.scans(uri, content, decoded_bytes)
    )
    for member, outcome in found:
        object_uri = f"{uri}!/{member}" if member else uri
        scan_id = patient_key = ""
        header = None
        if isinstance(outcome, Scan):
            header = _header(key, outcome)
            if known is not None:
                match = known.match(object_uri, header.study_key, header.person_key)
                header = replace(header, label=match, labels_digest=known.digest)
                outcome = outcome if match is None else apply(known.label(match), outcome)
            scan_id = privacy.scan_id(key, outcome.identity)
            patient_key = privacy.patient_key(key, outcome.identity, issuers=issuers)
            # Ray may spill what follows to a worker's disk
            outcome = privacy.without_identity(outcome)
        yield Decoded(
            object_uri=object_uri,
            source_uri=uri,
            etag=str(entry["etag"]),
            size_bytes=int(str(entry["size_bytes"])),
            scan_id=scan_id,
            patient_key=patient_key,
            outcome=outcome,
            header=header,
        )


def _header(key: bytes, scan: Scan) -> Header:
    return Header(
        age_years=scan.age_years,
        age_source=scan.age_source,
        sex=scan.sex,
        person_key=privacy.person_key(key, privacy.bare_id(scan.identity)),
        study_key=privacy.study_key(key, scan.identity.study),
    )
