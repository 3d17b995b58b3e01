"""What only the simulation knows, kept in a table of its own beside the archive."""

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bae import phantom, storage
from bae.phantom import PhantomConfig
from bae.phantom import evidence as phantom_evidence
from bae.phantom.limits import limits
from bae.phantom.scan import PhantomScan
from bae.phantom.world import Effect, world
from bae.phantom.world.words import words


def _field(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, False, {"description": description})


def _structs(kinds: dict[str, pa.DataType]) -> pa.DataType:
    return pa.list_(pa.struct([pa.field(name, kind, False) for name, kind in kinds.items()]))


def _column(effect: str) -> str:
    return "effect_" + effect.replace(" ", "_").replace("-", "_")


LANDMARK = {"name": pa.string(), "column": pa.float32(), "row": pa.float32()}

FOCUS = {"kind": pa.string(), "part": pa.string()}
FOCUS |= {"radius_mm": pa.float32(), "uptake": pa.float32()}

_EFFECT = "change of log uptake shared by the parts of: "
_MIDDLES = "middle of each part in pixels of the anterior view; the posterior is its mirror"


def schema(effects: Sequence[Effect]) -> pa.Schema:
    """Return the columns of the truth: worlds differ in the effects that they have."""
    return pa.schema(
        [
            _field("scan", pa.int64(), "number of the scan in the cohort"),
            _field("objects", pa.list_(pa.string()), "names of its objects in the archive"),
            _field("patient", pa.int64(), "number of the patient in the cohort"),
            _field("sex", pa.string(), "F or M"),
            _field("age_years", pa.float64(), "exact age at acquisition"),
            _field("latent_years", pa.float64(), "latent skeletal age that drives the picture"),
            _field("mistake", pa.string(), "what is wrong with the object, empty if nothing"),
            *[_field(_column(e.name), pa.float32(), _EFFECT + e.name) for e in effects],
            _field("foci", _structs(FOCUS), "hot spots; uptake is relative to muscle"),
            _field("landmarks", _structs(LANDMARK), _MIDDLES),
        ]
    )


def table(scans: Sequence[tuple[PhantomScan, Sequence[str], str]]) -> pa.Table:
    """Return the truth of some scans.

    Args:
        scans: at least one, each with its objects' names and its mistake (empty if none).

    Returns:
        One row per scan, with ``schema``.
    """
    rows = [
        {
            "patient": scan.patient,
            "sex": scan.sex,
            "age_years": scan.age_years,
            "latent_years": scan.latent_years,
            "scan": scan.index,
            "objects": list(names),
            "mistake": mistake,
            **{_column(name): change for name, change in scan.effects.items()},
            "foci": [{name: getattr(focus, name) for name in FOCUS} for focus in scan.foci],
            "landmarks": [
                dict(zip(LANDMARK, (name, *place), strict=True))
                for name, place in scan.landmarks.items()
            ],
        }
        for scan, names, mistake in scans
    ]
    return pa.Table.from_pylist(rows, schema=schema(scans[0][0].world.effects))


ABOUT, TRUTH = ("_phantom", "phantom.json"), ("_phantom", "truth.parquet")
"""Where the archive keeps what is no scan; listings skip names that begin with ``_``."""


def about(scans: int, seed: int, config: phantom.PhantomConfig) -> bytes:
    """Return what ``phantom.json`` says.

    ``limit_mae_years`` is the least error of who knows the latent age,
    ``regional_limit_mae_years`` of who sees every bone's true uptake: what a reader of
    pictures could reach at best.
    """
    reached = limits(config)
    values = {
        "what": "simulated whole-body bone scans; no person was ever scanned",
        "scans": scans,
        "seed": seed,
        "config": asdict(config),
        "limit_mae_years": round(reached.latent, 4),
        "regional_limit_mae_years": round(reached.regional, 4),
        "regional_limit_by_sex": {"F": round(reached.women, 4), "M": round(reached.men, 4)},
        "world": words(world(config.world)),
        "truth": "/".join(TRUTH),
    }
    return (json.dumps(values, indent=2) + "\n").encode()


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """An archive of simulated scans.

    Attributes:
        root: its URI.
        about: what its ``phantom.json`` says.
    """

    root: str
    about: dict[str, Any]

    @property
    def seed(self) -> int:
        """Return which cohort it is."""
        return int(self.about["seed"])

    @property
    def config(self) -> PhantomConfig:
        """Return what the cohort is made of."""
        said = self.about["config"]
        return PhantomConfig(**said | {"ages": tuple(said["ages"])})

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Return the number of the scan in each object, by URI; without those with a mistake."""
        return self._truth("scan")

    @functools.cached_property
    def latent_years(self) -> dict[str, float]:
        """Return the latent skeletal age that drives each object's picture; as ``numbers``."""
        return self._truth("latent_years")

    def _truth(self, column: str) -> dict[str, Any]:
        data = storage.read_bytes(storage.join(self.root, *TRUTH))
        columns = [column, "objects", "mistake"]
        return {
            storage.join(self.root, name): row[column]
            for row in pq.read_table(pa.BufferReader(data), columns=columns).to_pylist()
            for name in row["objects"]
            if not row["mistake"]
        }

    def scans_of(self, object_uris: Sequence[str]) -> list[int]:
        """Return the numbers of the scans in some objects, rising."""
        return sorted({self.numbers[uri] for uri in object_uris if uri in self.numbers})

    def evidence(self, object_uri: str) -> phantom_evidence.Evidence | None:
        """Return the evidence in one object, None if it holds no sound scan of this cohort."""
        k = self.numbers.get(object_uri)
        return None if k is None else phantom_evidence.of(k, seed=self.seed, config=self.config)


def cohort_of(object_uris: Sequence[str]) -> Cohort | None:
    """Return the archive of simulated scans that all these objects lie in, if there is one."""
    root = object_uris[0]
    while (root := root.rpartition("/")[0]) and not root.endswith(("/", ":")):
        if all(uri.startswith(f"{root}/") for uri in object_uris):
            data = storage.read_or_none(storage.join(root, *ABOUT))
            if data is not None:
                return Cohort(root=root, about=json.loads(data))
    return None
