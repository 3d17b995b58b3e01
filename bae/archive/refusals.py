"""Why an object is refused: one stable code each, what it means, and what to do.

Analysts filter ``restricted/rejects`` by these codes, so a code is never renamed. A
message beside the code says what was found in this object; neither holds anything
that leads back to a person.
"""

from dataclasses import dataclass

READ, DECODE, SELECT, SCORE = "read", "decode", "select", "score"


@dataclass(frozen=True)
class Reject:
    """One way to be refused.

    Args:
        stage: ``read``, ``decode``, ``select`` or ``score``: how far the object came.
        meaning: what is wrong with it.
        action: what the archive's keeper can do.
        transient: whether the same object may well be read another night, because the fault may
            have been the machine's or the moment's. Such objects are tried again.
    """

    stage: str
    meaning: str
    action: str
    transient: bool = False


_EXPORT = "export the object again from its source"
_EXPECTED = "nothing: such objects are not for this method"
_KEEP = "keep it for bug reports"
_ZIP = "zip it again by the usual method, Deflate"
_AGAIN = "nothing: it is tried again in the next nights; if it stays, keep it for bug reports"
_LOOK = "look at the picture; export the whole scan again, or leave it out"

REJECT_CODES: dict[str, Reject] = {
    "object_gone": Reject(
        READ,
        "listed, but no longer there when read",
        "nothing, if it was meant to be deleted",
        transient=True,
    ),
    "object_unreadable": Reject(
        READ,
        "listed, but this one object may not or cannot be read",
        "check its permissions",
        transient=True,
    ),
    "object_archived": Reject(
        READ,
        "kept in an archive class of S3 that gives nothing at once",
        "restore it",
        transient=True,
    ),
    "object_empty": Reject(READ, "no bytes at all", _EXPORT),
    "format_unknown": Reject(
        READ, "neither DICOM, PNG, TIFF nor zip", "nothing, if it is no image; else convert it"
    ),
    "format_not_read": Reject(
        READ,
        "a known format that is not read, such as JPEG, PDF, gzip or NIfTI",
        "nothing, if it is no scan; else unpack it, or convert it to DICOM, PNG or TIFF",
    ),
    "object_too_large": Reject(
        READ, "larger than one scan can be", "store scans, not volumes, in this archive"
    ),
    "zip_broken": Reject(READ, "a zip file or one of its members is damaged", "zip it again"),
    "zip_empty": Reject(READ, "a zip file with no file in it, or only hidden ones", _EXPORT),
    "zip_method_unsupported": Reject(
        READ, "a zip file or one of its members is packed in a way that is not read", _ZIP
    ),
    "zip_encrypted": Reject(READ, "a zip member needs a password", "zip it without a password"),
    "zip_nested": Reject(READ, "a zip file inside a zip file", "unpack the inner one"),
    "zip_too_large": Reject(
        READ,
        "a zip file unpacks or decodes to more than the limit",
        "split it into several zip files",
    ),
    "object_cut_off": Reject(DECODE, "the file ends too early", _EXPORT),
    "header_broken": Reject(DECODE, "the DICOM header cannot be parsed", _EXPORT),
    "header_incomplete": Reject(DECODE, "an element needed to read the pixels is absent", _EXPORT),
    "header_conflict": Reject(DECODE, "elements of the header exclude each other", _EXPORT),
    "size_refused": Reject(
        DECODE, "the header claims more pixels or frames than a scan has", _EXPORT
    ),
    "codec_unsupported": Reject(
        DECODE, "compressed in a way that is not read", "export it in another transfer syntax"
    ),
    "pixels_missing": Reject(DECODE, "an image without pixel data", _EXPORT),
    "pixels_short": Reject(DECODE, "fewer pixels than the header promises", _EXPORT),
    "pixels_broken": Reject(DECODE, "the compressed pixel data is damaged", _EXPORT),
    "pixels_conflict": Reject(
        DECODE, "the pixel data's own size, length or depth is not the header's", _EXPORT
    ),
    "picture_broken": Reject(DECODE, "a PNG or TIFF file that cannot be decoded", _EXPORT),
    "decoder_hang": Reject(
        DECODE, "decoding took longer than the limit and was stopped", _AGAIN, True
    ),
    "decoder_crash": Reject(DECODE, "decoding ended the process that did it", _KEEP),
    "decoder_killed": Reject(
        DECODE, "the decoding process was killed from outside, as for want of memory", _AGAIN, True
    ),
    "decoder_memory": Reject(DECODE, "decoding asked for more memory than allowed", _AGAIN, True),
    "object_kills_worker": Reject(
        DECODE, "reading or scoring it, alone, ended the worker process twice", _AGAIN, True
    ),
    "not_an_image": Reject(SELECT, "a report, document or directory, no image", _EXPECTED),
    "xray": Reject(SELECT, "an X-ray picture", _EXPECTED),
    "other_modality": Reject(SELECT, "neither nuclear medicine nor X-ray", _EXPECTED),
    "screen_capture": Reject(
        SELECT, "a screen capture: colour, or said to have text burnt in", "send the counts"
    ),
    "spect": Reject(SELECT, "a tomographic acquisition or volume", _EXPECTED),
    "dynamic_series": Reject(SELECT, "a dynamic or gated series", _EXPECTED),
    "static_view": Reject(SELECT, "a static view of one region", _EXPECTED),
    "not_emission": Reject(SELECT, "a transmission image", _EXPECTED),
    "other_tracer": Reject(SELECT, "a radionuclide or tracer that is not for bone", _EXPECTED),
    "not_whole_body": Reject(
        SELECT, "the matrix or its extent in mm does not fit a standing body", _LOOK
    ),
    "too_many_views": Reject(SELECT, "more than two views in the photopeak", _EXPECTED),
    "photopeak_unknown": Reject(
        SELECT, "no energy window is known to hold the 140 keV photopeak", "export it with windows"
    ),
    "image_empty": Reject(SELECT, "no counts, or hardly any", _LOOK),
    "image_constant": Reject(SELECT, "every pixel is the same", _LOOK),
    "image_saturated": Reject(SELECT, "most of the body is at the largest value", _LOOK),
    "image_noise": Reject(SELECT, "no body stands out from the background", _LOOK),
    "upside_down": Reject(SELECT, "the body is upside down", "turn it head up and export it again"),
    "half_body": Reject(SELECT, "only a part of the body", _LOOK),
    "two_bodies": Reject(
        SELECT, "two bodies side by side in one frame", "export each view as a frame of its own"
    ),
    "score_failed": Reject(SCORE, "the networks gave no finite age", "report it as a bug"),
}
"""Code to meaning, in the order in which an object meets them."""

TRANSIENT = tuple(code for code, reject in REJECT_CODES.items() if reject.transient)
"""Codes of objects that are tried again by themselves."""

DECODER_VERSION = 4
"""Raised whenever objects that were refused may now be read: what an older version refused is
then tried once more. Refusals that name no version are of version 1."""
