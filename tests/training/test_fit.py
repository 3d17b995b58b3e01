"""Training in plain torch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bae import recipes
from bae.errors import RunError
from bae.method.networks import Regressor
from bae.training import fit, tasks

SMALL = recipes.recipe(
    "small",
    [
        "localizer.width=32",
        "localizer.height=48",
        "regressor.width=32",
        "regressor.height=48",
        "fit_regressor.box_jitter=0",
    ],
)
HOW = recipes.Fit(epochs=4, batch_size=8, learning_rate=1e-3, patience=9)
REGRESS = replace(tasks.regressor(SMALL), fit=HOW)


def _batches(seed: int = 0, count: int = 3) -> list[tasks.Batch]:
    """Pictures whose brightness is the age: learnable in a few steps."""
    rng = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        ages = 40 + 40 * torch.rand(8, generator=rng)
        grey = (ages / 100).view(8, 1, 1, 1) * torch.rand(8, 1, 48, 32, generator=rng)
        groups = ((ages - 40) / 10).long()
        batches.append(
            tasks.Batch(
                grey_N1HW=grey,
                male_N=torch.zeros(8),
                age_N=ages,
                group_N=groups,
                scan_ids=[f"s{i}" for i in range(8)],
            )
        )
    return batches


def _run(epochs: int, training: fit.Training, task: tasks.Task) -> list[float]:
    losses = []
    for _ in range(epochs):
        metrics = fit.train_epoch(training, training.network, _batches(), 3, task)
        metrics |= fit.evaluate(training.answering, _batches(1, 1), task)
        training.progress.note(metrics)
        losses.append(metrics["train_loss"])
    return losses


def _regressor() -> Regressor:
    torch.manual_seed(0)
    return Regressor(SMALL.regressor)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_resumed_training_equals_undisturbed_training(tmp_path: Path, decay: float) -> None:
    """Saved after two epochs and loaded into a fresh process' state, the losses are the same."""
    how = recipes.Fit(epochs=4, batch_size=8, learning_rate=1e-3, average_decay=decay)
    task = replace(REGRESS, fit=how)
    whole = _run(4, fit.Training.start(_regressor(), how), task)
    first = fit.Training.start(_regressor(), how)
    half = _run(2, first, task)
    first.save(tmp_path)
    torch.manual_seed(99)
    second = fit.Training.start(Regressor(SMALL.regressor), how)
    second.load(tmp_path)
    assert second.progress.epoch == 2
    rest = _run(2, second, task)
    np.testing.assert_allclose(half + rest, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("made", [tasks.localizer, tasks.regressor])
def test_training_learns(made: Callable[[recipes.Recipe], tasks.Task]) -> None:
    """The loss falls well below its start on pictures whose brightness is the age."""
    torch.manual_seed(0)
    task = replace(made(SMALL), fit=HOW)
    losses = _run(6, fit.Training.start(task.build(), HOW), task)
    assert losses[-1] < 0.7 * losses[0]


def test_loss_that_is_not_finite_stops_and_names_the_scans() -> None:
    """The network is left as it was before the bad batch."""
    training = fit.Training.start(_regressor(), HOW)
    bad = _batches()[0]
    bad.age_N[3] = float("nan")
    before = {k: v.clone() for k, v in training.network.named_parameters()}
    with pytest.raises(RunError, match=r"s0, s1, .*s7"):
        fit.train_epoch(training, training.network, [bad], 1, REGRESS)
    for name, value in training.network.named_parameters():
        assert torch.equal(value, before[name])


def test_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    """Two files, safetensors and JSON."""
    fit.Training.start(_regressor(), HOW).save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["progress.json", "training.safetensors"]


def test_augmentation_with_nothing_to_change_changes_nothing() -> None:
    """All limits at zero give the identity."""
    still = recipes.Fit(mirror=0, rotate_degrees=0, scale=0, shift=0, intensity=0)
    grey = torch.rand(2, 1, 40, 20)
    moved = fit.augment(grey, still, torch.Generator())
    torch.testing.assert_close(moved, grey, rtol=0, atol=1e-5)


def test_mirror_flips_left_and_right_only() -> None:
    """Head stays up."""
    flip = recipes.Fit(mirror=1, rotate_degrees=0, scale=0, shift=0, intensity=0)
    grey = torch.rand(2, 1, 40, 20)
    moved = fit.augment(grey, flip, torch.Generator())
    torch.testing.assert_close(moved, grey.flip(3), rtol=0, atol=1e-5)


def test_rotation_keeps_right_angles_in_pixels() -> None:
    """A disc in a tall picture stays a disc: the turn happens in pixels, not in stretched axes."""
    y, x = np.mgrid[:200, :60]
    disc = (((y - 60) ** 2 + (x - 30) ** 2) < 12**2).astype(np.float32)
    how = recipes.Fit(mirror=0, rotate_degrees=15, scale=0, shift=0, intensity=0)
    turned = fit.augment(torch.tensor(disc)[None, None], how, torch.Generator().manual_seed(3))[
        0, 0
    ].numpy()
    rows, columns = np.nonzero(turned > 0.5)
    assert abs(rows.mean() - 60) + abs(columns.mean() - 30) > 2, "it did turn"
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert abs(int(height) - int(width)) <= 2


def test_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    """Zero, peak, half way, zero."""
    how = recipes.Fit(epochs=11, learning_rate=1.0, schedule="cosine", warmup_epochs=1.0)
    assert fit.learning_rate(how, 0.5) == pytest.approx(0.5)
    assert fit.learning_rate(how, 1.0) == pytest.approx(1.0)
    assert fit.learning_rate(how, 6.0) == pytest.approx(0.5)
    assert fit.learning_rate(how, 11.0) == pytest.approx(0.0, abs=1e-9)
    assert fit.learning_rate(recipes.paper().fit_localizer, 17.3) == 1e-4


def test_interval_half_width_covers_nine_tenths_of_the_errors() -> None:
    """The conformal rank: ceil(0.9 (n + 1)) of n errors."""

    class Constant(torch.nn.Module):
        def forward(self, crop: torch.Tensor, male: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(crop))

    ages = torch.arange(1.0, 20.0)  # 19 errors of 1 to 19: rank 18
    batch = tasks.Batch(
        grey_N1HW=torch.zeros(19, 1, 2, 2),
        male_N=torch.zeros(19),
        age_N=ages,
        group_N=torch.zeros(19, dtype=torch.int64),
        scan_ids=["s"] * 19,
    )
    result = fit.evaluate(Constant(), [batch], REGRESS)
    assert result["error_90_years"] == 18
    assert result["mae_years"] == pytest.approx(10)


STILL = recipes.Fit(mirror=0, rotate_degrees=0, scale=0, shift=0, intensity=0)


def _ramp(axis: int) -> torch.Tensor:
    """400 samples of a box of 40 x 30 with a margin of a tenth: the value is the place.

    0 and 1 are the box's own edges along the axis, in halves: 0.25 + place / 2.
    """
    size = recipes.with_margin((40, 30), 0.1)
    place = (torch.arange(size[axis]) + 0.5) / size[axis] * 1.2 - 0.1
    line = (0.25 + place / 2).view(-1, 1) if axis == 0 else (0.25 + place / 2).view(1, -1)
    return line.expand(400, 1, *size).contiguous()


def test_without_augmentation_a_sample_is_cropped_to_its_middle() -> None:
    """The margin is there for the jitter only."""
    sample = _ramp(0)[:1] * _ramp(1)[:1]
    same = fit.augment(sample, STILL, torch.Generator(), (40, 30))
    torch.testing.assert_close(same, fit.without_margin(sample, (40, 30)))


@pytest.mark.parametrize("axis", [0, 1])
def test_each_edge_of_the_box_moves_by_itself_and_not_too_far(axis: int) -> None:
    """Read off a ramp: both edges stay within a tenth of the box and do not move together."""
    how = replace(STILL, box_jitter=0.1)
    seen = fit.augment(_ramp(axis), how, torch.Generator().manual_seed(1), (40, 30))
    line = (seen[:, 0, :, 15] if axis == 0 else seen[:, 0, 20]).double()
    place = (line - 0.25) * 2
    step = (place[:, -1] - place[:, 0]) / (line.shape[1] - 1)
    low, high = place[:, 0] - step / 2, place[:, -1] + step / 2
    assert low.abs().max() < 0.101 and (high - 1).abs().max() < 0.101
    assert low.std() > 0.05 and high.std() > 0.05  # uniform: 0.1 / sqrt(3) = 0.058
    assert abs(np.corrcoef(low, high)[0, 1]) < 0.15
