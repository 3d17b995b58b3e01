"""Training samples: prepared pictures kept beside the tables, so no epoch decodes again.

::

    <tables>/restricted/samples/<key>/000000.parquet    one file per part, one row per view

The key is a digest of what the pictures depend on: recipe sections, localizer weights,
and the object versions. A change of any gives another folder; nothing is ever stale. A
file that is not whole is made again, and of each part's folders only the newest few stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.fs

from bae import recipes, storage
from bae.archive.intake import Decoded
from bae.method import fused, hardware, image, model, networks
from bae.method.predictor import chosen_views, localize, regressor_inputs, whole_views
from bae.pipeline.kept import Cache, KeptStep, digest
from bae.scan import SEX_CODE, Scan
from bae.tables import contract

SCHEMA = pa.schema(
    [
        pa.field("scan_id", pa.string(), metadata={"description": "pseudonym of the scan"}),
        pa.field("view", pa.string(), metadata={"description": "its name, or both together"}),
        pa.field("male", pa.float32(), metadata={"description": "0 female, 1 male, NaN unknown"}),
        pa.field("age_years", pa.float32(), metadata={"description": "age at acquisition, years"}),
        pa.field("image", pa.binary(), metadata={"description": "uint8 grey values, row-major"}),
    ]
)


Truth = dict[str, tuple[float, float]]
"""scan_id to (age in years, sex code): from the scans table, where labels already count."""


def truth(scans: pa.Table) -> Truth:
    """Return age and sex code of each scan of the scans table."""
    columns = (scans[name].to_pylist() for name in ("scan_id", "age_years", "sex"))
    return {scan_id: (age, SEX_CODE[sex]) for scan_id, age, sex in zip(*columns, strict=True)}


def wanted(items: Sequence[Decoded], known: Truth) -> Iterator[tuple[str, Scan]]:
    """Yield the scans to train on; a zip file may hold others beside them."""
    for item in items:
        if item.scan_id in known and isinstance(item.outcome, Scan):
            yield item.scan_id, item.outcome


def row(scan_id: str, view: str, known: Truth, picture: bytes) -> dict[str, Any]:
    """Return one sample as a row of ``SCHEMA``."""
    age, male = known[scan_id]
    return {"scan_id": scan_id, "view": view, "male": male, "age_years": age, "image": picture}


def shape(recipe: recipes.Recipe, part: str) -> tuple[int, int, int]:
    """Return channels, rows and columns of a part's samples, margin included."""
    section = getattr(recipe, part)
    size = (section.height, section.width)
    if part == "localizer":
        return (1, *size)
    margin = recipe.fit_regressor.box_jitter
    return (2 if recipe.regressor.pair else 1, *recipes.with_margin(size, margin))


def cache(
    tables_uri: str, recipe: recipes.Recipe, part: str, scans: Mapping[str, pa.Table], made_by: str
) -> Cache:
    """Return where the samples lie.

    Args:
        tables_uri: root of the tables.
        recipe: windowing, input sizes, regions.
        part: ``localizer`` or ``regressor``.
        scans: what ``training_scans`` returned for each split.
        made_by: hash of the localizer's weights for regressor samples, else empty.
    """
    state = {
        "part": part,
        "shape": shape(recipe, part),
        "windowing": asdict(recipe.windowing),
        "region": asdict(recipe.region),
        "localizer": made_by,
        "scans": {split: digest(table) for split, table in scans.items()},
    }
    key = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
    folder = storage.join(tables_uri, contract.SAMPLES, f"{part}-{key}")
    return Cache(uri=folder, schema=SCHEMA)


@dataclass(kw_only=True)
class LocalizerSamples(KeptStep):
    """Prepare every view as the localizer will see it."""

    name: ClassVar[str] = "LocalizerSamples"
    recipe: recipes.Recipe
    known: Truth

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``samples.SCHEMA``."""
        size = (self.recipe.localizer.height, self.recipe.localizer.width)
        rows = []
        for scan_id, scan in wanted(items, self.known):
            for view in chosen_views(scan, self.recipe):
                grey = image.window(image.to_tensor(view.counts), self.recipe.windowing)
                picture = image.to_bytes(image.resize(grey, *size))
                rows.append(row(scan_id, view.name, self.known, picture))
        return pa.Table.from_pylist(rows, schema=SCHEMA)


@dataclass(kw_only=True)
class RegressorSamples(KeptStep):
    """Crop every view where the trained localizer says, as the regressor will see it.

    Attributes:
        model_uri: holds the localizer; None: every view is taken whole.
    """

    name: ClassVar[str] = "RegressorSamples"
    recipe: recipes.Recipe
    known: Truth
    model_uri: str | None
    localizer: networks.Localizer | None = None

    def load(self) -> None:
        """Load the localizer."""
        hardware.use_every_core()
        self.device = hardware.best_device()
        if self.model_uri is not None:
            localizer = model.load_localizer(self.model_uri, model.load_card(self.model_uri))
            self.localizer = fused.fast(hardware.onto(localizer, self.device))

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``samples.SCHEMA``."""
        margin = self.recipe.fit_regressor.box_jitter
        rows = []
        for scan_id, scan in wanted(items, self.known):
            views = chosen_views(scan, self.recipe)
            if self.localizer is None:
                found = whole_views(self.recipe, views, self.device)
            else:
                found = localize(self.localizer, self.recipe, views, self.device)
            inputs = regressor_inputs(self.recipe, found, margin)
            names = ["both"] if self.recipe.regressor.pair else [view.view for view in found]
            for name, picture in zip(names, inputs, strict=True):
                rows.append(row(scan_id, name, self.known, image.to_bytes(picture)))
        return pa.Table.from_pylist(rows, schema=SCHEMA)
