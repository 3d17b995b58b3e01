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
from bae.pipeline import kept
from bae.pipeline.parts import OnPart
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
    ]
)

Truth = dict[str, tuple[float, float]]
"""scan_id to (age in years, sex code): from the scans table, where labels already count."""


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
        model_uri: where the localizer lies, if the card names one.
    """
    localizer = card.parts.get("localizer")
    state = {
        "part": task.name,
        "shape": task.sample_shape,
        "windowing": asdict(task.recipe.windowing),
        "region": asdict(task.recipe.region),
        "localizer": "" if localizer is None else localizer.sha256,
        "scans": {split: kept.digest(table) for split, table in scans.items()},
    }
    step = Samples(
        cache=kept.cache(tables_uri, task.name, state, SCHEMA),
        task=task,
        known={k: v for table in scans.values() for k, v in truth(table).items()},
        model_uri=None if localizer is None else model_uri,
    )
    step.cache.drop_others()
    return kept.make(tables_uri, scans, step, on_part)


def truth(scans: pa.Table) -> Truth:
    """Return age and sex code of each scan of the scans table."""
    columns = (scans[name].to_pylist() for name in ("scan_id", "age_years", "sex"))
    return {scan_id: (age, SEX_CODE[sex]) for scan_id, age, sex in zip(*columns, strict=True)}


STEP_NAMES = {"localizer": "LocalizerSamples", "regressor": "RegressorSamples"}
"""A network's name to the label that its samples' step has in metrics."""


@dataclass(kw_only=True, eq=False)
class Samples(kept.KeptStep):
    """Prepare the views of scans as a network will see them in training.

    Attributes:
        known: the scans wanted.
        model_uri: holds the localizer that crops; None: every view is taken whole.
    """

    task: Task
    known: Truth
    model_uri: str | None
    localizer: networks.Localizer | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return the label of its metrics: one for each network."""
        return STEP_NAMES[self.task.name]

    def load(self) -> None:
        """Load the localizer; take every core, since Ray leaves torch one thread."""
        hardware.use_cores(hardware.cores())
        self.device = hardware.best_device()
        if self.model_uri is not None:
            localizer = model.load_localizer(self.model_uri, model.load_card(self.model_uri))
            self.localizer = fused.fast(hardware.onto(localizer, self.device))

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``SCHEMA``; a zip file may hold other scans beside those wanted."""
        task, rows = self.task, []
        for item in items:
            if item.scan_id not in self.known or not isinstance(item.outcome, Scan):
                continue
            age, male = self.known[item.scan_id]
            views = chosen_views(item.outcome, task.recipe)
            found = localize(self.localizer, task.recipe, views, self.device)
            inputs = network_inputs(found, task.size, task.pair, task.fit.box_jitter)
            names = ["both"] if task.pair else [view.view for view in found]
            rows += [
                {
                    "scan_id": item.scan_id,
                    "view": name,
                    "male": male,
                    "age_years": age,
                    "image": image.to_bytes(grey),
                }
                for name, grey in zip(names, inputs, strict=True)
            ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)


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
        yield Batch(
            grey_N1HW=grey_N1HW.contiguous(memory_format=torch.channels_last),
            male_N=torch.tensor(males, dtype=torch.float32, device=device),
            age_N=torch.tensor(ages, dtype=torch.float32, device=device),
            group_N=torch.tensor(groups, device=device),
            scan_ids=table["scan_id"].to_pylist(),
        )
