"""What ``bae.bench.night`` measures on, and what each stage of a scan's way costs alone."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian
from torch import Tensor

from bae import recipes, storage
from bae.archive import objects as archive_objects
from bae.archive.intake import Decoded
from bae.method import boxes, image, model
from bae.method.baselines import nearest
from bae.method.baselines.vectors import Vectors
from bae.method.heatmap import class_heatmap, to_byte_scale
from bae.method.networks import Localizer, Regressor
from bae.method.prediction import Prediction
from bae.method.predictor import Predictor, localize, regressor_inputs
from bae.method.regional.attention import Attention
from bae.method.regional.frame import lay
from bae.method.regional.reader import KINDS, Reader, fit
from bae.phantom import PhantomConfig, PhantomScan, headers, make, syntaxes
from bae.pipeline.rows import staged
from bae.scan import SEX_CODE, Scan, View

DISTINCT = 2
"""Simulated scans; the rest of an archive are copies under other names."""
PLAIN = str(ExplicitVRLittleEndian)


@dataclass(frozen=True)
class Timing:
    """One line of the benchmark's table.

    Attributes:
        name: ``bare``, ``job``, ``loop`` or a stage.
        views: how many views each measurement took.
        wall_s, cpu_s: seconds per view, one number for each repeat.
        bytes_per_view: what went through; 0 where that means nothing.
        peak_bytes: most memory of the process tree; 0 where not measured.
    """

    name: str
    views: int
    wall_s: list[float]
    cpu_s: list[float]
    bytes_per_view: float = 0.0
    peak_bytes: int = 0

    @property
    def views_per_s(self) -> float:
        """Return the median rate."""
        return 1 / statistics.median(self.wall_s)


def phantoms(columns: int, rows: int, syntax: str = PLAIN) -> list[bytes]:
    """Return a few simulated scans as DICOM objects of two frames."""
    made = []
    for k in range(DISTINCT):
        scan = _simulated(k, columns, rows)
        how = replace(headers.layout(scan, 0), capture=False, windows=1, syntax=syntax)
        made.append(headers.encode(headers.build(scan, 0, how)[0][1]))
    return made


@functools.cache
def _simulated(k: int, columns: int, rows: int) -> PhantomScan:
    return make(k, config=PhantomConfig(columns=columns, rows=rows))


def write_copies(uri: str, objects: Sequence[bytes], count: int) -> None:
    """Write an archive: copies that differ in their SOP Instance UID, so each is a scan."""
    uids = [str(headers.uid(0, "instance", k, 0)).encode() for k in range(len(objects))]
    with ThreadPoolExecutor(8) as pool:

        def write(i: int) -> None:
            data, uid = objects[i % len(objects)], uids[i % len(objects)]
            other = uid[:-9] + b"%09d" % (i + 1)
            storage.write_bytes(storage.join(uri, f"{i:06d}.dcm"), data.replace(uid, other))

        list(pool.map(write, range(count)))


def untrained(folder: Path, recipe: recipes.Recipe) -> str:
    """Save a model that has learned nothing of use: as fast as a trained one."""
    torch.manual_seed(0)
    parts: dict[str, Mapping[str, Tensor]] = {}
    if recipe.in_two_steps and not recipe.region.whole:
        parts["localizer"] = Localizer(recipe.localizer).state_dict()
    if recipe.method == "networks":
        parts["regressor"] = Regressor(recipe.regressor).state_dict()
    elif recipe.method == "svr":
        parts["svr"] = _vectors(Localizer(recipe.localizer).trunk.channels + 2).tensors()
    elif recipe.method == "nearest":
        parts["nearest"] = _fitted(nearest.fit, 12).tensors()
    else:
        parts["regional"] = fitted_reader().tensors()
    if recipe.reads_squares:
        parts["regions"] = Attention(recipe.regressor).state_dict()
    card = model.Card(recipe=recipe, parts={})
    for name, tensors in parts.items():
        card = model.save_part(str(folder), card, name, tensors, {})
    return str(folder)


def _vectors(columns: int, count: int = 500) -> Vectors:
    rng = np.random.default_rng(0)
    return Vectors(
        mean_F=np.zeros(columns),
        scale_F=np.ones(columns),
        support_SF=rng.standard_normal((count, columns)).astype(np.float32),
        dual_S=rng.standard_normal(count),
        intercept=60.0,
        gamma=1 / columns,
        error_years=5.0,
    )


def fitted_reader(scans: int = 12) -> Reader:
    """Fit the linear model to a few small phantoms: its size is that of any."""
    return _fitted(fit, scans)


B = TypeVar("B")


def _fitted(learn: Callable[..., tuple[B, NDArray[np.float64]]], scans: int) -> B:
    made = [_simulated(k, 128, 512) for k in range(scans)]
    sheets = {
        kind: [
            lay(view.counts, (scan.pixel_mm, scan.pixel_mm)).density_VU
            for scan in made
            for view in scan.views
            if view.name == kind
        ]
        for kind in KINDS
    }
    male = np.array([SEX_CODE[scan.sex] for scan in made])
    ages = np.array([scan.age_years for scan in made])
    return learn(sheets, male, ages, [str(scan.patient) for scan in made])[0]


def read(data: bytes) -> Scan:
    """Decode one of our phantoms."""
    ((_, scan),) = archive_objects.scans("phantom", data)
    assert isinstance(scan, Scan), scan
    return scan


def _read_all(objects: Sequence[bytes]) -> list[Scan]:
    return [read(data) for data in objects]


def prepared(predictor: Predictor, views: Sequence[View]) -> Tensor:
    """Return views as the localizer takes them."""
    recipe = predictor.recipe
    counts = [image.to_tensor(view.counts, predictor.device) for view in views]
    greys = [image.window(each, recipe.windowing) for each in counts]
    return image.prepare(greys, recipe.localizer.height, recipe.localizer.width)


def ready(predictor: Predictor, views: Sequence[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Return views as both networks take them: inputs, crops, sexes."""
    recipe, device = predictor.recipe, predictor.device
    assert predictor.fast_localizer is not None
    found = localize(predictor.fast_localizer, recipe, list(views), device)
    crops = [crop for view in found for crop in regressor_inputs(recipe, [view])]
    male_N = torch.zeros(len(views), device=device)
    return prepared(predictor, views), torch.stack(crops), male_N


def bare(predictor: Predictor, inputs_N1HW: Tensor, crops_N1HW: Tensor, male_N: Tensor) -> None:
    """Run the localizer with its heat map, and the regressor."""
    network = predictor.fast_localizer
    assert network is not None
    with torch.inference_mode():
        scores_NK, features_NFVU = network(inputs_N1HW)
        heat_NVU = class_heatmap(features_NFVU, network.head.weight, scores_NK.argmax(1))
        to_byte_scale(heat_NVU).cpu()
        predictor.fast_regressor(crops_N1HW, male_N).cpu()


def stages(predictor: Predictor, objects: Sequence[bytes], home: Path, place: str) -> list[Timing]:
    """Time each stage by itself, on one core, over the same scans."""
    torch.set_num_threads(1)
    scans = [read(data) for data in objects]
    views = [view for scan in scans for view in scan.views]
    rows, columns = views[0].counts.shape
    stored = sum(view.counts.nbytes for view in views) / len(views)
    copies = storage.join(place, "archive")
    listing = storage.list_objects(copies)
    names = listing["object_uri"].to_pylist()[: len(objects)]
    predictions = list(predictor.predict(scans))
    found = [
        _stage("list", 2 * listing.num_rows, lambda: storage.list_objects(copies)),
        _stage("fetch", len(views), lambda: [storage.read_bytes(name) for name in names], stored),
    ]
    for syntax in syntaxes.SYNTAXES:
        coded = phantoms(columns, rows, syntax)
        decode = functools.partial(_read_all, coded)
        volume = sum(map(len, coded)) / len(views)
        found.append(_stage(f"decode {UID(syntax).keyword}", len(views), decode, volume))
    calls: dict[str, Callable[[], object]] = {"predict": lambda: predictor.predict(scans)}
    if predictor.fast_localizer is not None:
        calls |= _of_networks(predictor, views, predictions)
    calls["write"] = lambda: _write(scans, predictions, home)
    with torch.inference_mode():
        for name, call in calls.items():
            found.append(_stage(name, len(views), call, stored if name == "prepare" else 0.0))
    return found


def _of_networks(
    predictor: Predictor, views: Sequence[View], predictions: Sequence[Prediction]
) -> dict[str, Callable[[], object]]:
    """Return what localizer and regressor do one after the other."""
    recipe, network = predictor.recipe, predictor.fast_localizer
    assert network is not None
    inputs, crops, male = ready(predictor, views)
    with torch.inference_mode():
        scores, features = network(inputs)

    def heat() -> Tensor:
        weight = network.head.weight
        return to_byte_scale(class_heatmap(features, weight, scores.argmax(1))).cpu()

    maps = heat().numpy()
    return {
        "prepare": lambda: prepared(predictor, views),
        "localize": lambda: network(inputs),
        "heat map": heat,
        "boxes": lambda: [
            boxes.find_boxes(one, view.counts.shape, recipe.region)
            for one, view in zip(maps, views, strict=True)
        ],
        "crop": lambda: [regressor_inputs(recipe, each.views) for each in predictions],
        "regress": lambda: predictor.fast_regressor(crops, male),
    }


def _write(scans: Sequence[Scan], predictions: Sequence[Prediction], home: Path) -> None:
    place: dict[str, Any] = {"source_uri": "", "etag": "", "size_bytes": 0, "patient_key": ""}
    items = [
        Decoded(object_uri=f"{i}", scan_id=f"{i}", outcome=scan, **place)
        for i, scan in enumerate(scans)
    ]
    pq.write_table(staged(items, predictions, "m"), home / "rows.parquet", compression="zstd")


def _stage(
    name: str, views: int, call: Callable[[], object], bytes_per_view: float = 0.0
) -> Timing:
    """Call it at least three times and for half a second."""
    call()
    wall_s: list[float] = []
    cpu_s: list[float] = []
    while len(wall_s) < 3 or sum(wall_s) * views < 0.5:
        start, start_cpu = time.perf_counter(), time.process_time()
        call()
        wall_s.append((time.perf_counter() - start) / views)
        cpu_s.append((time.process_time() - start_cpu) / views)
    return Timing(name, views, wall_s, cpu_s, bytes_per_view)
