"""Training in plain torch: augmentation, one epoch, evaluation, the state between epochs.

Shape suffixes: N views or crops, H, W of the input.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bae.errors import RunError
from bae.method import hardware
from bae.recipes import Fit
from bae.training.tasks import Batch, Task


def without_margin(grey_N1HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut the middle of each sample: what a network sees when its box is not moved."""
    top, left = ((grey_N1HW.shape[2 + i] - size[i]) // 2 for i in (0, 1))
    return grey_N1HW[:, :, top : top + size[0], left : left + size[1]]


def augment(
    grey_N1HW: Tensor, config: Fit, generator: torch.Generator, size: tuple[int, int] | None = None
) -> Tensor:
    """Mirror, turn, resize, shift and re-light each image a little; move its box's edges.

    A mirrored view is still a possible view of a person (the skeleton is nearly
    symmetric and the age evidence has no side), so nothing is swapped with it.

    Args:
        grey_N1HW: samples, with the margin that ``recipes.with_margin`` gives.
        size: rows and columns without the margin; by default there is none.
    """
    n = grey_N1HW.shape[0]
    height, width = size or grey_N1HW.shape[2:]

    def either_way(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    turn = either_way(math.radians(config.rotate_degrees))
    larger = 1 + either_way(config.scale)
    flip = torch.where(torch.rand(n, generator=generator) < config.mirror, -1.0, 1.0)
    aspect = height / width  # grid_sample's axes are both 2 long; turn in pixels, not in those
    theta_N23 = torch.stack(
        [
            flip * larger * turn.cos(),
            -flip * larger * turn.sin() * aspect,
            either_way(2 * config.shift),
            larger * turn.sin() / aspect,
            larger * turn.cos(),
            either_way(2 * config.shift),
        ],
        dim=1,
    ).view(n, 2, 3)
    light = 1 + either_way(config.intensity)
    # each edge of the box moves by itself; the box is 2 long in theta's units
    low_N2, high_N2 = (
        torch.stack([either_way(2 * config.box_jitter), either_way(2 * config.box_jitter)], dim=1)
        for _ in range(2)
    )
    turned_N22 = theta_N23[:, :, :2]
    middle_N21 = ((low_N2 + high_N2) / 2)[:, :, None]
    stretched_N22 = turned_N22 * (1 + (high_N2 - low_N2) / 2)[:, None, :]
    theta_N23 = torch.cat([stretched_N22, theta_N23[:, :, 2:] + turned_N22 @ middle_N21], dim=2)
    # the sample is larger than what the network sees, by its margin
    seen = torch.tensor([width / grey_N1HW.shape[3], height / grey_N1HW.shape[2]])
    theta_N23 = theta_N23 * seen[:, None]
    device = grey_N1HW.device
    shape = [n, grey_N1HW.shape[1], height, width]
    grid = F.affine_grid(theta_N23.to(device), shape, align_corners=False)
    moved = F.grid_sample(grey_N1HW, grid, padding_mode="zeros", align_corners=False)
    return (moved * light.to(device).view(n, 1, 1, 1)).clamp_(0.0, 1.0)


def learning_rate(config: Fit, epoch: float) -> float:
    """Return the step size at a (fractional) epoch: warm-up, then constant or cosine."""
    if epoch < config.warmup_epochs:
        return config.learning_rate * max(epoch / config.warmup_epochs, 0.01)
    if config.schedule == "constant":
        return config.learning_rate
    span = max(config.epochs - config.warmup_epochs, 1e-9)
    done = min((epoch - config.warmup_epochs) / span, 1.0)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Progress:
    """What is remembered between epochs, beside the tensors."""

    epoch: int = 0
    best_score: float = math.inf
    stale_epochs: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def note(self, metrics: Mapping[str, float]) -> None:
        """Record one finished epoch."""
        better = metrics["score"] < self.best_score
        self.best_score = min(self.best_score, metrics["score"])
        self.stale_epochs = 0 if better else self.stale_epochs + 1
        self.epoch += 1
        self.history.append(dict(metrics))


@dataclass
class Training:
    """A network in training: everything that a checkpoint must bring back."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: AveragedModel | None
    progress: Progress

    @classmethod
    def start(cls, network: nn.Module, config: Fit) -> Training:
        """Begin at epoch 0 with Adam (section IV)."""
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        averaged = None
        if config.average_decay > 0:
            average = get_ema_multi_avg_fn(config.average_decay)  # type: ignore[no-untyped-call]
            averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        return cls(network, optimizer, averaged, Progress())

    @property
    def answering(self) -> nn.Module:
        """Return the network to evaluate and keep: the moving average where there is one."""
        return self.network if self.averaged is None else self.averaged.module

    def save(self, folder: Path) -> None:
        """Write a checkpoint: safetensors and JSON, no pickle."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        if self.averaged is not None:
            tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
        plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        safetensors.torch.save_file(plain, folder / "training.safetensors")
        (folder / "progress.json").write_text(json.dumps(asdict(self.progress)))

    def load(self, folder: Path) -> None:
        """Bring back what ``save`` wrote."""
        tensors = safetensors.torch.load_file(folder / "training.safetensors")

        def below(name: str) -> dict[str, Tensor]:
            start = f"{name}."
            return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}

        self.network.load_state_dict(below("network"))
        if self.averaged is not None:
            self.averaged.load_state_dict(below("averaged"))
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in below("optimizer").items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.progress = Progress(**json.loads((folder / "progress.json").read_text()))


def train_epoch(
    training: Training,
    wrapped: nn.Module,
    batches: Iterable[Batch],
    steps: int,
    task: Task,
    rank: int = 0,
) -> dict[str, float]:
    """Pass once over the training samples.

    Random numbers depend on seed, epoch and rank alone, so an epoch repeated after a
    fault is the same epoch.

    Args:
        wrapped: ``training.network`` itself or in its DistributedDataParallel.
        steps: expected number of batches, for the schedule.

    Raises:
        RunError: the loss is not finite; names the batch's scan ids.
    """
    config = task.fit
    seed = (config.seed * 1_000_003 + training.progress.epoch) * 1_009 + rank
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    wrapped.train()
    total, seen = 0.0, 0
    for step, batch in enumerate(batches):
        rate = learning_rate(config, training.progress.epoch + step / max(steps, 1))
        for group in training.optimizer.param_groups:
            group["lr"] = rate
        grey_N1HW = batch.grey_N1HW
        if task.bag:  # each picture moves by itself
            grey_N1HW = grey_N1HW.flatten(0, 1)[:, None]
        grey_N1HW = augment(grey_N1HW, config, generator, task.size)
        if task.bag:
            grey_N1HW = grey_N1HW.view(len(batch.scan_ids), task.pictures, *task.size)
        with _mixed(grey_N1HW.device.type, config.mixed):
            loss = task.loss(wrapped, replace(batch, grey_N1HW=grey_N1HW))
        value = loss.item()
        if not math.isfinite(value):
            raise RunError(
                f"the loss became {value} in epoch {training.progress.epoch + 1}; the last "
                f"checkpoint is whole. Scans of the batch: {', '.join(batch.scan_ids)}"
            )
        training.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(training.network.parameters(), config.clip_norm)
        training.optimizer.step()
        if training.averaged is not None:
            training.averaged.update_parameters(training.network)
        total += value * len(batch.scan_ids)
        seen += len(batch.scan_ids)
    return {"train_loss": total / max(seen, 1), "train_views": float(seen)}


def evaluate(network: nn.Module, batches: Iterable[Batch], task: Task) -> dict[str, float]:
    """Score a network on the middle of held-out samples; see ``Task.score``."""
    network.eval()
    answers, ages, groups = [], [], []
    with torch.inference_mode():
        for batch in batches:
            middle = replace(batch, grey_N1HW=without_margin(batch.grey_N1HW, task.size))
            with _mixed(batch.grey_N1HW.device.type, task.fit.mixed):
                answers.append(task.answer(network, middle).cpu().numpy())
            ages.append(batch.age_N.cpu().numpy())
            groups.append(batch.group_N.cpu().numpy())
    if not answers:
        return {"score": math.inf}
    return task.score(np.concatenate(answers), np.concatenate(ages), np.concatenate(groups))


def _mixed(device_type: str, wanted: bool) -> torch.autocast:
    """Matrix products in bf16 where it is wanted and the hardware has it."""
    half = wanted and hardware.has_bf16(device_type)
    return torch.autocast(device_type, torch.bfloat16, enabled=half)
