"""What a user would write without bae: the loop that ``jobs.benchmark`` compares with.

Kept honest: both networks in evaluation mode and channels last, batches, decoding in the
workers of a DataLoader, one pass of pytorch-grad-cam for a whole batch. Same networks,
same windowing, same threshold, so its ages are ours but for rounding.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bae.method.networks import Localizer, Regressor
from bae.recipes import Recipe

Sample = tuple[str, NDArray[np.float32], float, Tensor]


class Views(Dataset[Sample]):
    """Each view of each file: name, grey values, sex, localizer input."""

    def __init__(self, paths: Sequence[Path], recipe: Recipe) -> None:
        """Keep what to read; every file has two views."""
        self.paths, self.recipe = paths, recipe

    def __len__(self) -> int:
        """Return the number of views."""
        return 2 * len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        """Read one view."""
        path = self.paths[index // 2]
        ds = pydicom.dcmread(path)
        counts = ds.pixel_array[index % 2].astype(np.float32)
        held = counts[counts > 0]
        white = np.percentile(held, self.recipe.windowing.percentile)
        grey = np.clip(counts / white, 0, 1) ** np.float32(self.recipe.windowing.power)
        size = (self.recipe.localizer.height, self.recipe.localizer.width)
        male = 1.0 if ds.PatientSex == "M" else 0.0
        return path.name, grey, male, _resized(torch.from_numpy(grey), size)


class _Scores(nn.Module):
    """The localizer as pytorch-grad-cam wants it: scores alone."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, grey_N1HW: Tensor) -> Tensor:
        scores: Tensor = self.localizer(grey_N1HW)[0]
        return scores


def run(
    paths: Sequence[Path], localizer: Localizer, regressor: Regressor, recipe: Recipe, out: Path
) -> None:
    """Score DICOM files of two frames and write one Parquet table."""
    last = list(localizer.trunk.body.children())[-1]
    for weight in last.parameters():  # gradients reach the features
        weight.requires_grad_(True)
    loader = DataLoader(Views(paths, recipe), batch_size=16, num_workers=2, collate_fn=list)
    size = (recipe.regressor.height, recipe.regressor.width)
    rows: list[tuple[str, float, int]] = []
    with GradCAM(_Scores(localizer), [last]) as cam:
        for samples in loader:
            inputs = torch.stack([sample[3] for sample in samples])
            with torch.no_grad():
                groups = localizer(inputs)[0].argmax(dim=1).tolist()
            # aug_smooth and the like off; the library scales each map to 0..1 itself
            maps = cam(inputs, [ClassifierOutputTarget(group) for group in groups])
            crops = [
                _resized(torch.from_numpy(_crop(grey, heat, recipe)), size)
                for (_, grey, _, _), heat in zip(samples, maps, strict=True)
            ]
            males = torch.tensor([sample[2] for sample in samples])
            with torch.no_grad():
                ages = regressor(torch.stack(crops), males).tolist()
            rows += zip([sample[0] for sample in samples], ages, groups, strict=True)
    table = pd.DataFrame(rows, columns=["file", "age_years", "age_group"])
    table.groupby("file", as_index=False).mean().to_parquet(out)


def _resized(grey: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (1, H, W)."""
    return F.interpolate(grey[None, None], size, mode="bilinear", antialias=True)[0]


def _crop(
    grey: NDArray[np.float32], heat: NDArray[np.float32], recipe: Recipe
) -> NDArray[np.float32]:
    large = F.interpolate(torch.from_numpy(heat)[None, None], grey.shape, mode="bilinear")[0, 0]
    mask = large.numpy() * 255 >= recipe.region.gamma
    parts, count = ndimage.label(mask)
    if not count:
        return grey
    areas = np.bincount(parts.ravel())[1:]
    return grey[ndimage.find_objects(parts)[int(areas.argmax())]]
