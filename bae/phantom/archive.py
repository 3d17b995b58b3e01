"""What only the simulation knows, kept in a table of its own beside the archive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bae import phantom, storage
from bae.phantom import PhantomConfig
from bae.phantom import evidence as phantom_evidence
from bae.phantom.ageing import EFFECTS
from bae.phantom.scan import PhantomScan


def _field(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, False, {"description": description})


def _column(effect: str) -> str:
    return "effect_" + effect.replace(" ", "_").replace("-", "_")


LANDMARK = pa.struct(
    [
        pa.field("name", pa.string(), False),
        pa.field("column", pa.float32(), False),
        pa.field("row", pa.float32(), False),
    ]
)

FOCUS = pa.struct(
    [
        pa.field("kind", pa.string(), False),
        pa.field("part", pa.string(), False),
        pa.field("radius_mm", pa.float32(), False),
        pa.field("uptake", pa.float32(), False),
    ]
)

SCHEMA = pa.schema(
    [
        _field("scan", pa.int64(), "number of the scan in the cohort"),
        _field("objects", pa.list_(pa.string()), "names of its objects in the archive"),
        _field("patient", pa.int64(), "number of the patient in the cohort"),
        _field("sex", pa.string(), "F or M"),
        _field("age_years", pa.float64(), "exact age at acquisition"),
        _field("latent_years", pa.float64(), "latent skeletal age that drives the picture"),
        _field("mistake", pa.string(), "what is wrong with the object, empty if nothing"),
        *[
            _field(
                _column(effect.name),
                pa.float32(),
                f"change of log uptake shared by the parts of: {effect.name}",
            )
            for effect in EFFECTS
        ],
        _field("foci", pa.list_(FOCUS), "hot spots; uptake is relative to muscle"),
        _field(
            "landmarks",
            pa.list_(LANDMARK),
            "middle of each part in pixels of the anterior view; the posterior is its mirror",
        ),
    ]
)


def table(scans: Sequence[tuple[PhantomScan, Sequence[str], str]]) -> pa.Table:
    """Return the truth of some scans.

    Args:
        scans: each scan with its objects' names and its mistake (empty if none).

    Returns:
        One row per scan, with ``SCHEMA``.
    """
    rows = [
        {
            "scan": scan.index,
            "objects": list(names),
            "patient": scan.patient,
            "sex": scan.sex,
            "age_years": scan.age_years,
            "latent_years": scan.latent_years,
            "mistake": mistake,
            **{_column(name): change for name, change in scan.effects.items()},
            "foci": [
                {"kind": f.kind, "part": f.part, "radius_mm": f.radius_mm, "uptake": f.uptake}
                for f in scan.foci
            ],
            "landmarks": [
                {"name": name, "column": column, "row": row}
                for name, (column, row) in scan.landmarks.items()
            ],
        }
        for scan, names, mistake in scans
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


TRUTH = ("_phantom", "truth.parquet")


ABOUT = ("_phantom", "phantom.json")
"""Where the archive keeps what is no scan; listings skip names that begin with ``_``."""


def about(scans: int, seed: int, config: phantom.PhantomConfig) -> bytes:
    """Return what ``phantom.json`` says."""
    values = {
        "what": "simulated whole-body bone scans; no person was ever scanned",
        "scans": scans,
        "seed": seed,
        "config": asdict(config),
        "limit_mae_years": round(phantom.limit_mae_years(config.ages, config.latent_sd_years), 4),
        "truth": "/".join(TRUTH),
    }
    return (json.dumps(values, indent=2) + "\n").encode()


ABOUT, TRUTH = ("_phantom", "phantom.json"), ("_phantom", "truth.parquet")


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """An archive of simulated scans.

    Attributes:
        root: its URI.
        seed, config: what it was made with.
        numbers: object name to number of the scan; without those that have a mistake.
    """

    root: str
    seed: int
    config: PhantomConfig
    numbers: dict[str, int]

    def evidence(self, object_uri: str) -> phantom_evidence.Evidence | None:
        """Return the evidence in one object, None if it holds no sound scan of this cohort."""
        if not object_uri.startswith(self.root + "/"):
            return None
        k = self.numbers.get(object_uri.removeprefix(self.root + "/"))
        return None if k is None else phantom_evidence.of(k, seed=self.seed, config=self.config)


def cohort_of(object_uri: str) -> Cohort | None:
    """Return the archive of simulated scans that an object lies in, None if there is none."""
    root = object_uri
    while (root := root.rpartition("/")[0]) and not root.endswith(("/", ":")):
        about = storage.read_or_none(storage.join(root, *ABOUT))
        if about is not None:
            values = json.loads(about)
            settings = values["config"] | {"ages": tuple(values["config"]["ages"])}
            data = storage.read_bytes(storage.join(root, *TRUTH))
            truth = pq.read_table(pa.BufferReader(data), columns=["scan", "objects", "mistake"])
            numbers = {
                name: row["scan"]
                for row in truth.to_pylist()
                for name in row["objects"]
                if not row["mistake"]
            }
            return Cohort(
                root=root, seed=values["seed"], config=PhantomConfig(**settings), numbers=numbers
            )
    return None


def phantom_archive(object_uris: Sequence[str]) -> dict[str, Any]:
    """Return what ``_phantom/phantom.json`` says of the archive of all these objects.

    Returns:
        Its content with ``root``, the archive's URI; empty for an archive of patients.
    """
    folder = object_uris[0]
    while "/" in folder.removeprefix("s3://").strip("/"):
        folder = folder.rpartition("/")[0]
        if all(uri.startswith(f"{folder}/") for uri in object_uris):
            data = storage.read_or_none(storage.join(folder, "_phantom", "phantom.json"))
            if data is not None:
                return {**json.loads(data), "root": folder}
    return {}


def phantom_numbers(about: dict[str, Any], object_uris: Sequence[str]) -> list[int]:
    """Return the phantoms' numbers of some objects, rising."""
    data = storage.read_bytes(storage.join(about["root"], *about["truth"].split("/")))
    truth = pq.read_table(pa.BufferReader(data), columns=["scan", "objects"]).to_pylist()
    number = {f"{about['root']}/{name}": row["scan"] for row in truth for name in row["objects"]}
    return sorted({number[uri] for uri in object_uris if uri in number})
