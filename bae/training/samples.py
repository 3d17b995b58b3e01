"""Training samples: prepared images kept beside the tables, so no epoch decodes again.

::

    <tables>/restricted/samples/<key>/000000.parquet    one file per part, one row per sample

From top to bottom: parts of the archive to files (``prepare``), a scan to rows (``Samples``),
files to a dataset (``opened``), its rows to batches on the device (``batches``).

The key is a digest of what the images depend on: recipe sections, localizer weights,
and the object versions. A change of any gives another folder; nothing is ever stale. A
file that is not whole is made again, and of each network's folders only the newest few stay.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import ray
import ray.data
import torch

from bae import storage
from bae.archive.intake import Decoded
from bae.method import fused, hardware, image, model, networks
from bae.method.predictor import chosen_views, localize, network_inputs
from bae.method.regional import bag
from bae.method.regional.linear import folds
from bae.method.regional.reader import Reader, read
from bae.pipeline import kept
from bae.pipeline.step import OnPart
from bae.recipes import age_group
from bae.scan import SEX_CODE, Scan
from bae.training.tasks import Batch, Task

SCHEMA = pa.schema(
    [
        pa.field("scan_id", pa.string(), metadata={"description": "pseudonym of the scan"}),
        pa.field("view", pa.string(), metadata={"description": "its name, or both together"}),
        pa.field("male", pa.float32(), metadata={"description": "0 female, 1 male, NaN unknown"}),
        pa.field("age_years", pa.float32(), metadata={"description": "age at acquisition, years"}),
        pa.field("image", pa.binary(), metadata={"description": "uint8 grey values, row-major"}),
        pa.field("places", pa.binary(), metadata={"description": "float32, of a bag's pictures"}),
        pa.field("fold", pa.int8(), metadata={"description": "member that may not see it, or -1"}),
    ]
)

Truth = dict[str, tuple[float, float, int]]
"""scan_id to (age in years, sex code, fold): from the scans table, where labels already count."""


def prepare(
    task: Task,
    tables_uri: str,
    model_uri: str,
    card: model.Card,
    scans: Mapping[str, pa.Table],
    on_part: OnPart,
) -> dict[str, list[str]]:
    """Make the samples that are not there yet; return the files of each split.

    Args:
        model_uri: where the part lies that chooses what is cut, if the task needs one.
    """
    chooser = card.parts[task.needs].sha256 if task.needs else ""
    members = task.recipe.regressor.members if task.bag else 1
    state = {
        "part": task.name,
        "shape": task.sample_shape,
        "windowing": asdict(task.recipe.windowing),
        "region": asdict(task.recipe.region),
        task.needs: chooser,
        "members": members,
        "scans": {split: kept.digest(table) for split, table in scans.items()},
    }
    step = Samples(
        cache=kept.cache(tables_uri, task.name, state, SCHEMA),
        task=task,
        known={
            scan_id: known
            for split, table in scans.items()
            for scan_id, known in truth(table, members if split == "train" else 1).items()
        },
        model_uri=model_uri if task.needs else None,
    )
    step.cache.drop_others()
    return kept.make(tables_uri, scans, step, on_part)


def truth(scans: pa.Table, members: int = 1) -> Truth:
    """Return age, sex code and fold of each scan of the scans table.

    Args:
        scans: rows.
        members: among so many folds the patients are shared out; one alone leaves nobody out.
    """
    columns = (scans[name].to_pylist() for name in ("scan_id", "age_years", "sex"))
    fold = folds(scans["patient_key"].to_pylist(), members) if members > 1 else [-1] * len(scans)
    return {
        scan_id: (age, SEX_CODE[sex], int(own))
        for scan_id, age, sex, own in zip(*columns, fold, strict=True)
    }


STEP_NAMES = {
    "localizer": "LocalizerSamples",
    "regressor": "RegressorSamples",
    "regions": "RegionsSamples",
}
"""A network's name to the label that its samples' step has in metrics."""


@dataclass(kw_only=True, eq=False)
class Samples(kept.KeptStep):
    """Prepare the views of scans as a network will see them in training.

    Attributes:
        known: the scans wanted.
        model_uri: holds the part that chooses; None: every view is taken whole.
    """

    task: Task
    known: Truth
    model_uri: str | None
    localizer: networks.Localizer | None = None
    reader: Reader | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return the label of its metrics: one for each network."""
        return STEP_NAMES[self.task.name]

    def load(self) -> None:
        """Load what chooses; take every core, since Ray leaves torch one thread."""
        self.device = hardware.best_device()
        if self.task.bag and self.model_uri is not None:
            hardware.use_cores(1)  # small matrices
            self.reader = model.load_regional(self.model_uri, model.load_card(self.model_uri))
            return
        hardware.use_cores(hardware.cores())
        if self.model_uri is not None:
            localizer = model.load_localizer(self.model_uri, model.load_card(self.model_uri))
            self.localizer = fused.fast(hardware.onto(localizer, self.device))

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``SCHEMA``; a zip file may hold other scans beside those wanted."""
        rows = []
        for scan_id, scan in kept.among(items, self.known):
            age, male, fold = self.known[scan_id]
            rows += [
                {
                    "scan_id": scan_id,
                    "view": name,
                    "male": male,
                    "age_years": age,
                    "image": image.to_bytes(grey),
                    "places": places.numpy().tobytes(),
                    "fold": fold,
                }
                for name, grey, places in self._inputs(scan)
            ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def _inputs(self, scan: Scan) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """Yield what the network sees of a scan: view, pictures (channels, H, W), places."""
        task, views = self.task, chosen_views(scan, self.task.recipe)
        if self.reader is not None:
            seen = read(self.reader, scan, views, task.recipe.region)
            filled = bag.fill(views, seen, task.recipe, task.fit.box_jitter)
            yield "both", filled.pictures_CHW, filled.places_CP
            return
        found = localize(self.localizer, task.recipe, views, self.device)
        pair = task.pictures > 1
        inputs = network_inputs(found, task.size, pair, task.fit.box_jitter)
        names = ["both"] if pair else [view.view for view in found]
        for name, grey in zip(names, inputs, strict=True):
            yield name, grey, torch.empty(0)


def opened(files: list[str]) -> ray.data.Dataset:
    """Open samples, in Ray's object store where they fit into half of it.

    Streaming them from files starts the readers anew in each epoch, which costs ten
    seconds an epoch on two cores; from the object store it costs none.
    """
    filesystem, _ = storage.pyarrow_filesystem(files[0])
    paths = [storage.pyarrow_filesystem(name)[1] for name in files]
    dataset = ray.data.read_parquet(paths, filesystem=filesystem)
    size_bytes = sum(info.size for info in filesystem.get_file_info(paths))
    if 4 * size_bytes < ray.cluster_resources().get("object_store_memory", 0.0):
        # 4: two datasets, and Parquet shrinks the grey values to about half
        return dataset.materialize()
    return dataset


def batches(rows: Iterable[pa.Table], task: Task, device: torch.device) -> Iterator[Batch]:
    """Turn rows of ``SCHEMA`` into batches on the device."""
    for table in rows:
        pixels = bytearray().join(table["image"].to_pylist())
        shaped = torch.frombuffer(pixels, dtype=torch.uint8).view(-1, *task.sample_shape)
        grey_N1HW = shaped.to(device).float() / 255
        # to_numpy: Ray Data may turn NaN (sex unknown) into null, this turns it back
        ages, males = (table[name].to_numpy() for name in ("age_years", "male"))
        # an age that is NaN has no group; it stops training at the loss, with its scan id
        edges = task.recipe.localizer.group_edges_years
        groups = [age_group(age, edges) or 0 for age in ages]
        bags = _bags(table, task, device) if task.bag else {}
        yield Batch(
            grey_N1HW=grey_N1HW.contiguous(memory_format=torch.channels_last),
            male_N=torch.tensor(males, dtype=torch.float32, device=device),
            age_N=torch.tensor(ages, dtype=torch.float32, device=device),
            group_N=torch.tensor(groups, device=device),
            scan_ids=table["scan_id"].to_pylist(),
            **bags,
        )


def _bags(table: pa.Table, task: Task, device: torch.device) -> dict[str, torch.Tensor]:
    """Return what ``Batch`` has for bags alone."""
    places = bytearray().join(table["places"].to_pylist())
    placed = torch.frombuffer(places, dtype=torch.float32).view(len(table), task.pictures, -1)
    fold = torch.tensor(table["fold"].to_pylist(), device=device)
    return {"places_NCP": placed.to(device), "fold_N": fold}
