"""What ``bae.bench.night`` measures on, and what each stage of a scan's way costs alone."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import torch
from pydicom.uid import UID, ExplicitVRLittleEndian
from torch import Tensor

from bae import recipes, storage
from bae.archive import objects as archive_objects
from bae.archive.intake import Decoded
from bae.method import boxes, image, model
from bae.method.heatmap import class_heatmap, to_byte_scale
from bae.method.networks import Localizer, Regressor
from bae.method.predictor import Prediction, Predictor, localize, regressor_inputs
from bae.phantom import PhantomConfig, PhantomScan, headers, make, syntaxes
from bae.pipeline.rows import staged
from bae.scan import Scan, View

DISTINCT = 2
"""Simulated scans; the rest of an archive are copies under other names."""
PLAIN = str(ExplicitVRLittleEndian)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

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
    """Save a model with random weights: as fast as a trained one."""
    torch.manual_seed(0)
    card = model.Card(recipe=recipe, parts={})
    for name, network in (
        ("localizer", Localizer(recipe.localizer)),
        ("regressor", Regressor(recipe.regressor)),
    ):
        card = model.save_part(str(folder), card, name, network, {})
    return str(folder)


def read(data: bytes) -> Scan:
    """Decode one of our phantoms."""
    ((_, scan),) = archive_objects.scans("phantom", data)
    assert isinstance(scan, Scan), scan
    return scan


def ready(predictor: Predictor, views: Sequence[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Return views as both networks take them: inputs, crops, sexes."""
    recipe, device = predictor.recipe, predictor.device
    size = (recipe.localizer.height, recipe.localizer.width)
    greys = [image.window(image.to_tensor(v.counts, device), recipe.windowing) for v in views]
    assert predictor.fast_localizer is not None
    found = localize(predictor.fast_localizer, recipe, list(views), device)
    crops = [crop for view in found for crop in regressor_inputs(recipe, [view])]
    return image.prepare(greys, *size), torch.stack(crops), torch.zeros(len(views), device=device)


def bare(predictor: Predictor, inputs_N1HW: Tensor, crops_N1HW: Tensor, male_N: Tensor) -> None:
    """Run the localizer with its heat map, and the regressor."""
    network = predictor.fast_localizer
    assert network is not None
    with torch.inference_mode():
        scores_NC, features_NKVU = network(inputs_N1HW)
        heat_NVU = class_heatmap(features_NKVU, network.head.weight, scores_NC.argmax(1))
        to_byte_scale(heat_NVU).cpu()
        predictor.fast_regressor(crops_N1HW, male_N).cpu()


def stages(predictor: Predictor, objects: Sequence[bytes], home: Path, place: str) -> list[Row]:
    """Time each step by itself, on one core, over the same scans."""
    torch.set_num_threads(1)
    recipe, device = predictor.recipe, predictor.device
    scans = [read(data) for data in objects]
    views = [view for scan in scans for view in scan.views]
    rows, columns = views[0].counts.shape
    stored = sum(view.counts.nbytes for view in views) / len(views)
    copies = storage.join(place, "archive")
    listing = storage.list_objects(copies)
    names = listing["object_uri"].to_pylist()[: len(objects)]
    size = (recipe.localizer.height, recipe.localizer.width)
    greys = [image.window(image.to_tensor(v.counts, device), recipe.windowing) for v in views]
    inputs = image.prepare(greys, *size)
    assert predictor.fast_localizer is not None
    network = predictor.fast_localizer
    with torch.inference_mode():
        scores, features = network(inputs)
        heat = to_byte_scale(class_heatmap(features, network.head.weight, scores.argmax(1)))
    maps = heat.cpu().numpy()
    _, crops, male = ready(predictor, views)
    predictions = list(predictor.predict(scans))
    items = [
        Decoded(
            object_uri=f"{i}",
            source_uri=f"{i}",
            etag="",
            size_bytes=0,
            scan_id=f"{i}",
            patient_key="",
            outcome=scan,
        )
        for i, scan in enumerate(scans)
    ]

    def no_grad(call: Callable[[], object]) -> Callable[[], object]:
        return torch.inference_mode()(call)

    found = [
        _stage("list", 2 * listing.num_rows, lambda: storage.list_objects(copies)),
        _stage("fetch", len(views), lambda: [storage.read_bytes(name) for name in names], stored),
    ]
    for syntax in syntaxes.SHARES:
        coded = phantoms(columns, rows, syntax)
        volume = sum(map(len, coded)) / len(views)
        found.append(
            _stage(
                f"decode {UID(syntax).keyword}",
                len(views),
                lambda coded=coded: [read(data) for data in coded],
                volume,
            )  # type: ignore[misc]
        )
    found += [
        _stage(
            "prepare",
            len(views),
            lambda: image.prepare(
                [image.window(image.to_tensor(v.counts, device), recipe.windowing) for v in views],
                *size,
            ),
            stored,
        ),
        _stage("localize", len(views), no_grad(lambda: network(inputs))),
        _stage(
            "heat map",
            len(views),
            no_grad(
                lambda: to_byte_scale(
                    class_heatmap(features, network.head.weight, scores.argmax(1))
                ).cpu()
            ),
        ),
        _stage(
            "boxes",
            len(views),
            lambda: [
                boxes.find_boxes(one, view.counts.shape, recipe.region)
                for one, view in zip(maps, views, strict=True)
            ],
        ),
        _stage(
            "crop",
            len(views),
            lambda: [regressor_inputs(recipe, prediction.views) for prediction in predictions],
        ),
        _stage("regress", len(views), no_grad(lambda: predictor.fast_regressor(crops, male))),
        _stage("write", len(views), lambda: _write(items, predictions, home)),
    ]
    return found


def _write(items: list[Decoded], predictions: Sequence[Prediction], home: Path) -> None:
    pq.write_table(staged(items, predictions, "m"), home / "rows.parquet", compression="zstd")


def _stage(name: str, views: int, call: Callable[[], object], bytes_per_view: float = 0.0) -> Row:
    """Call it at least three times and for half a second."""
    call()
    wall: list[float] = []
    cpu: list[float] = []
    while len(wall) < 3 or sum(wall) < 0.5:
        start, start_cpu = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return Row(
        name=name,
        views=views,
        wall_s=[seconds / views for seconds in wall],
        cpu_s=[seconds / views for seconds in cpu],
        bytes_per_view=bytes_per_view,
    )
