"""Are the crops a regressor learns from better than those it will get? A measurement.

``python -m tests.bench.crops --tables URI --model URI`` needs an index and the localizer of
the recipe trained on it. Two more localizers are trained, each without one half of the
training patients, so that every training scan has an in-sample crop (its localizer learned
from it) and a cross-fitted one (its localizer never saw it); validation scans get what any
new scan gets. Then one regressor learns from either kind, and both are tested on the same
validation crops.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import ray.data

from bae import recipes, storage
from bae.archive.intake import Decoded
from bae.archive.sandbox import Decoder
from bae.method import hardware, image, model
from bae.method.prediction import LocalizedView
from bae.method.predictor import chosen_views, localize, network_inputs
from bae.pipeline import kept
from bae.pipeline.cluster import session
from bae.scan import Scan
from bae.training import loop, samples, tasks


def _decoded(scans: pa.Table) -> list[Decoded]:
    """Read the scans of a table once."""
    found = []
    with Decoder() as decoder:
        for row in scans.to_pylist():
            data = storage.read_bytes(row["source_uri"])
            for member, outcome in decoder.scans(row["source_uri"], data):
                name = f"{row['source_uri']}!/{member}" if member else row["source_uri"]
                if name == row["object_uri"]:
                    found.append(
                        Decoded(
                            object_uri=name,
                            source_uri=row["source_uri"],
                            etag=row["etag"],
                            size_bytes=0,
                            scan_id=row["scan_id"],
                            patient_key=row["patient_key"],
                            outcome=outcome,
                        )
                    )
    return found


def _regions(
    localizer_uri: str, recipe: recipes.Recipe, items: Sequence[Decoded]
) -> dict[str, list[LocalizedView]]:
    card = model.load_card(localizer_uri)
    localizer = hardware.onto(model.load_localizer(localizer_uri, card), hardware.best_device())
    found = {}
    for item in items:
        assert isinstance(item.outcome, Scan)
        views = chosen_views(item.outcome, recipe)
        found[item.scan_id] = localize(localizer, recipe, views, hardware.best_device())
    return found


def _crops(
    recipe: recipes.Recipe, known: samples.Truth, regions: dict[str, list[LocalizedView]]
) -> pa.Table:
    task = tasks.regressor(recipe)
    rows = []
    for scan_id, views in regions.items():
        age, male, _ = known[scan_id]
        inputs = network_inputs(views, task.size, task.pictures > 1, task.fit.box_jitter)
        rows += [
            {
                "scan_id": scan_id,
                "view": view.view,
                "male": male,
                "age_years": age,
                "image": image.to_bytes(picture),
            }
            for view, picture in zip(views, inputs, strict=True)
        ]
    return pa.Table.from_pylist(rows, schema=samples.SCHEMA)


def _trained(task: tasks.Task, train: pa.Table, validation: pa.Table) -> tuple:
    data = {"train": train, "validation": validation}
    ages = train["age_years"].to_numpy()
    with tempfile.TemporaryDirectory() as folder:
        assignment = loop.Assignment(
            task=task,
            rows=train.num_rows,
            checkpoints_uri=folder,
            run_name="bench",
            ages=(float(ages.mean()), float(ages.std())),
        )
        datasets = {k: ray.data.from_arrow(v).materialize() for k, v in data.items()}
        return loop.train(assignment, datasets)


def _accuracy(
    regions: dict[str, list[LocalizedView]], known: samples.Truth, edges: Sequence[float]
) -> float:
    hits = [
        view.group == np.clip(np.digitize(known[scan_id][0], edges[1:-1]), 0, len(edges) - 2)
        for scan_id, views in regions.items()
        for view in views
    ]
    return float(np.mean(hits))


def _area(regions: dict[str, list[LocalizedView]]) -> float:
    """Return the mean share of the view inside the box."""
    return float(
        np.mean(
            [
                (box.x1 - box.x0) * (box.y1 - box.y0) / view.grey.numel()
                for views in regions.values()
                for view in views
                for box in view.boxes[:1]
            ]
        )
    )


def _overlap(
    one: dict[str, list[LocalizedView]], two: dict[str, list[LocalizedView]]
) -> tuple[float, float]:
    """Return median and 5th percentile of the boxes' intersection over union."""
    shares = []
    for scan_id, views in one.items():
        for a, b in zip(views, two[scan_id], strict=True):
            p, q = a.boxes[0], b.boxes[0]
            wide = max(0, min(p.x1, q.x1) - max(p.x0, q.x0))
            inside = wide * max(0, min(p.y1, q.y1) - max(p.y0, q.y0))
            both = sum((box.x1 - box.x0) * (box.y1 - box.y0) for box in (p, q)) - inside
            shares.append(inside / both)
    return float(np.median(shares)), float(np.percentile(shares, 5))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", required=True)
    parser.add_argument("--model", required=True, help="folder with the trained localizer")
    options = parser.parse_args()
    recipe = model.load_card(options.model).recipe
    edges = recipe.localizer.group_edges_years
    scans = {
        split: kept.training_scans(options.tables, recipe, split)
        for split in ("train", "validation")
    }
    known = {k: v for table in scans.values() for k, v in samples.truth(table).items()}
    items = {split: _decoded(table) for split, table in scans.items()}
    half = {item.scan_id: int(item.patient_key, 16) % 2 for item in items["train"]}
    whole = samples.Samples(
        cache=kept.Cache(uri="", schema=samples.SCHEMA),
        task=tasks.localizer(recipe),
        known=known,
        model_uri=None,
    )
    whole.load()
    views = {split: whole.rows(items[split]) for split in items}
    sides = np.array([half[scan_id] for scan_id in views["train"]["scan_id"].to_pylist()])
    with session.session(), tempfile.TemporaryDirectory() as folder:
        in_sample = _regions(options.model, recipe, items["train"])
        new = _regions(options.model, recipe, items["validation"])
        crossed: dict[str, list[LocalizedView]] = {}
        for side in (0, 1):
            network, _ = _trained(
                tasks.localizer(recipe),
                views["train"].filter(pa.array(sides != side)),
                views["validation"],
            )
            uri = f"{folder}/{side}"
            model.save_part(
                uri, model.Card(recipe=recipe, parts={}), "localizer", network.state_dict(), {}
            )
            left_out = [item for item in items["train"] if half[item.scan_id] == side]
            crossed |= _regions(uri, recipe, left_out)
        print(
            "accuracy of the age group: in-sample "
            f"{_accuracy(in_sample, known, edges):.3f}, cross-fitted "
            f"{_accuracy(crossed, known, edges):.3f}, validation "
            f"{_accuracy(new, known, edges):.3f}"
        )
        print(
            f"share of the view inside the box: in-sample {_area(in_sample):.3f}, cross-fitted "
            f"{_area(crossed):.3f}, validation {_area(new):.3f}"
        )
        median, low = _overlap(in_sample, crossed)
        print(f"in-sample against cross-fitted boxes: IoU median {median:.2f}, 5 % below {low:.2f}")
        for name, regions in (("in-sample", in_sample), ("cross-fitted", crossed)):
            _, history = _trained(
                tasks.regressor(recipe), _crops(recipe, known, regions), _crops(recipe, known, new)
            )
            best = min(metrics["mae_years"] for metrics in history)
            last = history[-1]["mae_years"]
            print(
                f"regressor on {name} crops: validation error {best:.2f} years "
                f"(last epoch {last:.2f})"
            )


if __name__ == "__main__":
    main()
