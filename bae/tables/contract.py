"""The analysts' contract: which tables there are and what their columns mean.

``restricted/`` may hold what leads back to a person, ``cohort/`` never does. Every
column carries its unit in its name and a description in its field metadata. Only
types that Delta Lake, DuckDB, pandas, polars and R all read are used.

Each scan's way into the tables: a worker stages one row of ``STAGED`` per decoded
scan or refusal, and ``bae.tables.publish`` splits the staged rows into the tables. A change
of this file adds nullable columns; anything else is another tables folder.
"""

import pyarrow as pa

RESTRICTED, COHORT = "restricted", "cohort"
"""Below the tables' root: what may lead back to a person, and what never does."""
PSEUDONYM_FILE = "restricted/pseudonym.key"
"""The key that bae 0.1 made where none was given."""
SETTINGS = "restricted/settings.json"
"""What holds for all rows; see ``bae.tables.settings``."""
LEASE = "restricted/lease"
"""Who may write the tables; see ``bae.tables.lease``."""
STAGING = "restricted/staging"
"""Unfinished runs; see ``bae.tables.runs``."""
NIGHTS = "restricted/nights"
"""How the last nights ended; see ``bae.tables.nights``."""
SAMPLES = "restricted/samples"
"""Prepared training samples and kept answers."""
ERASING = "restricted/erasing"
"""What unfinished erasures have yet to remove."""
UNMATCHED_LABELS = "restricted/unmatched-labels.csv"
"""Rows of the last labels file that matched no scan."""
EXPORTS = "restricted/dicom"
"""DICOM exports, unless another place is named; erasure does not find them elsewhere. They
hold names, as their sources do."""
KEEP_DAYS = 30
"""Days for which replaced files stay, so that old versions and slow readers still find them."""

_text, _int, _float = pa.string(), pa.int32(), pa.float64()
_texts, _floats = (pa.list_(pa.field("element", kind)) for kind in (_text, _float))
_time = pa.timestamp("us", tz="UTC")


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"description": description})


def _optional(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return _field(name, kind, description, nullable=True)


_OBJECT_URI = _field(
    "object_uri", _text, "place of the object; a zip's member is <uri>!/<member>; may hold names"
)
_SOURCE_URI = _field("source_uri", _text, "place of the listed object that held this one")
_ETAG = _field("etag", _text, "the listed object's version, as its storage names it")
_SCAN_ID = _field("scan_id", _text, "keyed hash of the scan, 32 hex digits")
_PATIENT_KEY = _field("patient_key", _text, "keyed hash of the patient, 32 hex digits")
_MODEL_ID = _field("model_id", _text, "the model that scored the scan")
_VERSION = _field("object_version", _int, "1 for the first object seen of this scan, then 2, ...")
_SEX = _optional("sex", _text, "F, M, or null where not known")
_VIEWS = _field("views", _texts, "names of the views: anterior, posterior, unknown")
_VIEW = _field("view", _text, "anterior, posterior or unknown")
_VIEW_INDEX = _field("view_index", _int, "place of the view among the scan's views, from 0")
_FLAGS = _field("flags", _texts, "sorted names of what was unusual")
_SPLIT = _field("split", _text, "train, validation or test; one patient is in one split only")
_REMOVED = _optional(
    "removed_at", _time, "since when the archive has no such object, or not at this version"
)
_RUN_ID = _field("run_id", _text, "the run that published this row")
_GROUP = _field("age_group", _int, "index of the predicted age group, 0 is the youngest")

_HEADER = [
    _optional("header_age_years", _float, "age that the header gives, years"),
    _optional("header_age_source", _text, "birth_date, patient_age, or null"),
    _optional("header_sex", _text, "sex that the header gives: F, M, or null"),
    _optional("person_key", _text, "keyed hash of the header's Patient ID; empty without one"),
    _optional("study_key", _text, "keyed hash of the Study Instance UID; empty without one"),
    _optional("label_by", _text, "how its label was found: object, file name, study, patient"),
    _optional("label_row", _int, "row of the labels file that it is, from 1"),
    _optional("labels_digest", _text, "the labels file that was looked at last"),
]
"""What a later labels file is applied to, without reading the object again."""

_REGION = [
    _optional("region", _text, "name of the place on the body, by body_x and body_y alone"),
    _optional("weight", _float, "share of the scan's answer; sums to 1 over its regions"),
    _optional("body_x", _float, "box's middle from the midline, body lengths; left is positive"),
    _optional("body_y", _float, "box's middle along the body: 0 at the crown, 1 at the soles"),
    _optional("added_years", _float, "what the region adds to the mean age, years; may be below 0"),
]
"""What a method of several regions says of each; null where a method or row has no such thing."""

SCHEMAS: dict[str, pa.Schema] = {
    "restricted/scans": pa.schema(
        [
            _OBJECT_URI,
            _SOURCE_URI,
            _ETAG,
            _field("size_bytes", pa.int64(), "size of the listed object, bytes"),
            _SCAN_ID,
            _PATIENT_KEY,
            _VERSION,
            _SEX,
            _optional("age_years", _float, "age at acquisition, years"),
            _optional("age_source", _text, "birth_date, patient_age, labels, or null"),
            _field("manufacturer", _text, "vendor in normal form, never free text"),
            _VIEWS,
            _field("rows", _int, "height of one view, pixels"),
            _field("columns", _int, "width of one view, pixels"),
            _optional("pixel_mm", _float, "row spacing, mm"),
            _optional("pixel_column_mm", _float, "column spacing, mm"),
            _FLAGS,
            _SPLIT,
            *_HEADER,
            _REMOVED,
            _RUN_ID,
            _field("indexed_at", _time, "when this row was published"),
        ]
    ),
    "restricted/rejects": pa.schema(
        [
            _OBJECT_URI,
            _SOURCE_URI,
            _ETAG,
            _field("stage", _text, "where the object was refused: read, decode, select, score"),
            _field("code", _text, "stable code of the refusal, see bae.archive.refusals"),
            _field("message", _text, "what was found, free of anything that identifies a person"),
            _optional("model_id", _text, "the model that refused it; null if no model would do"),
            _RUN_ID,
            _field("rejected_at", _time, "when this row was published"),
            _optional("attempts", _int, "how often the object was tried, this time among them"),
            _optional("decoder_version", _int, "version of the decoder that refused it"),
            _optional(
                "settled_at",
                _time,
                "since when the refusal is history: the object was tried again; else null",
            ),
        ]
    ),
    "cohort/heatmaps": pa.schema(
        [
            _SCAN_ID,
            _MODEL_ID,
            _VERSION,
            _VIEW,
            _VIEW_INDEX,
            _GROUP,
            _field("heat", pa.binary(), "uint8 heat on the 0-255 scale, row-major, rows x columns"),
            _field("rows", _int, "height of the heat map, cells"),
            _field("columns", _int, "width of the heat map, cells"),
            _field("heat_min", _float, "heat that became 0, unitless"),
            _field("heat_max", _float, "heat that became 255, unitless"),
            _RUN_ID,
        ]
    ),
    "cohort/boxes": pa.schema(
        [
            _SCAN_ID,
            _MODEL_ID,
            _VERSION,
            _VIEW,
            _VIEW_INDEX,
            _field("box_index", _int, "0 for the box cropped or of most heat; heat falls"),
            _field("x0", _int, "first column, pixels of the stored scan"),
            _field("y0", _int, "first row, pixels of the stored scan"),
            _field("x1", _int, "column after the last, pixels of the stored scan"),
            _field("y1", _int, "row after the last, pixels of the stored scan"),
            _optional("width_mm", _float, "width, mm; null where the pixel size is not known"),
            _optional("height_mm", _float, "height, mm; null where the pixel size is not known"),
            _optional("heat_share", _float, "share of the view's heat inside the box, 0 to 1"),
            *_REGION,
            _RUN_ID,
        ]
    ),
    "cohort/ages": pa.schema(
        [
            _SCAN_ID,
            _PATIENT_KEY,
            _MODEL_ID,
            _VERSION,
            _SEX,
            _optional(
                "age_years", _float, "age at acquisition, rounded, years; 90 stands for all over 89"
            ),
            _field("predicted_age_years", _float, "predicted age, years"),
            _optional("age_low_years", _float, "lower end of the prediction interval, years"),
            _optional("age_high_years", _float, "upper end of the prediction interval, years"),
            _optional("age_gap_years", _float, "predicted_age_years minus age_years, years"),
            _GROUP,
            _field("group_probabilities", _floats, "probability of each age group, youngest first"),
            _VIEWS,
            _FLAGS,
            _SPLIT,
            _RUN_ID,
            _field(
                "predicted_at", _time, "month of publishing; microseconds keep the order of nights"
            ),
            _REMOVED,
        ]
    ),
}
"""Schema of every table, in the order of publishing: ``cohort/ages`` comes last, so
that a row of ages always has its boxes and heat maps."""

_ADDED = {"object_version", "split", "run_id", "indexed_at", "rejected_at", "predicted_at"}
_ADDED |= {"removed_at", "attempts", "decoder_version", "settled_at"}
_OF_OBJECT = {"object_uri", "source_uri", "etag"}
_TOLD = {"patient_key", "sex", "age_years", "age_gap_years"}
"""What ages take from ``restricted/scans``: whoever scores need not know the labels."""


_KEYS = {"scan_id", "model_id"}


def _struct(name: str, without: set[str]) -> pa.StructType:
    return pa.struct([field for field in SCHEMAS[name] if field.name not in without])


def _structs(name: str) -> pa.ListType:
    return pa.list_(pa.field("element", _struct(name, _ADDED | _KEYS)))


_SCAN = _struct("restricted/scans", _ADDED | _OF_OBJECT)
_REJECT = _struct("restricted/rejects", _ADDED | _OF_OBJECT)

STAGED = pa.schema(
    [
        _OBJECT_URI,
        _SOURCE_URI,
        _ETAG,
        _optional("scan", _SCAN, "the scan as read; null where refused by reading"),
        _optional("reject", _REJECT, "the refusal; null where read"),
        _optional(
            "age",
            _struct("cohort/ages", _ADDED | _TOLD),
            "the prediction; null where only indexed, or refused",
        ),
        _optional("boxes", _structs("cohort/boxes"), "boxes of the prediction"),
        _optional("heatmaps", _structs("cohort/heatmaps"), "heat maps of the prediction"),
    ]
)
"""What a worker stages: one row per decoded scan or refusal.

The structs hold the columns of the tables of the same name, less what publishing
adds (object version, split, run, time, what the scans table says) and less what stands
elsewhere in the row.
"""


def same_kind(left: pa.DataType, right: pa.DataType) -> bool:
    """Compare types without names, nullability and metadata of list elements."""
    if pa.types.is_list(left) and pa.types.is_list(right):
        return same_kind(left.value_type, right.value_type)
    if pa.types.is_struct(left) and pa.types.is_struct(right):
        return same_columns(pa.schema(left.fields), pa.schema(right.fields))
    return bool(left == right)


def same_columns(left: pa.Schema, right: pa.Schema) -> bool:
    """Say whether two schemas have the same columns in the same order, metadata aside."""
    return left.names == right.names and all(
        same_kind(a, b) for a, b in zip(left.types, right.types, strict=True)
    )
