"""A scan as the network of several regions reads it: a bag of pictures with their places.

Each square that the linear model chose is cut from the stored scan; the whole view is one
picture more, small. Nothing says how the pictures of a bag are ordered but their places.

Shape suffixes: C pictures of a bag, H, W of a picture, P numbers that say where it lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bae.method import image
from bae.method.prediction import cut
from bae.method.regional.reader import KINDS, Seen
from bae.recipes import Recipe, with_margin
from bae.scan import View

PLACE = ("posterior", "whole", "crown_sole", "midline")
"""What says where a picture lies: two of 0 or 1, two in body lengths, see ``Box``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bag:
    """What the network sees of one scan.

    Attributes:
        pictures_CHW: grey values in [0, 1]; black where there is none.
        places_CP: ``PLACE``; NaN where there is no picture.
    """

    pictures_CHW: Tensor
    places_CP: Tensor


def pictures(recipe: Recipe) -> int:
    """Return C, the pictures of a bag: the squares of two views, and either view whole."""
    return len(KINDS) * (recipe.region.count + 1)


def own_of(kind: str, recipe: Recipe) -> slice:
    """Return which pictures are of one kind of view: the whole one, then its squares."""
    own = recipe.region.count + 1
    return slice(KINDS.index(kind) * own, (KINDS.index(kind) + 1) * own)


def squares_of(recipe: Recipe) -> list[int]:
    """Return which pictures are squares."""
    return [c for c in range(pictures(recipe)) if c % (recipe.region.count + 1)]


def fill(views: Sequence[View], seen: Seen, recipe: Recipe, margin: float = 0.0) -> Bag:
    """Cut a scan's pictures.

    Args:
        views: those that were read.
        seen: what the linear model said of them.
        recipe: windowing, squares a view, and the size of a picture (``regressor``).
        margin: surroundings on each side, as a share; the pictures grow by as much.
    """
    height, width = with_margin((recipe.regressor.height, recipe.regressor.width), margin)
    pictures_CHW = torch.zeros(pictures(recipe), height, width)
    places_CP = torch.full((pictures(recipe), len(PLACE)), torch.nan)
    for view, kind, found in zip(views, seen.kinds, seen.views, strict=True):
        if kind is None:
            continue
        grey = image.window(image.to_tensor(view.counts), recipe.windowing)
        posterior = float(KINDS.index(kind))
        at = own_of(kind, recipe).start
        # no margin: what lies beyond the whole view is not known
        whole = image.resize(grey, recipe.regressor.height, recipe.regressor.width)
        top, left = (height - len(whole)) // 2, (width - whole.shape[1]) // 2
        pictures_CHW[at, top : top + len(whole), left : left + whole.shape[1]] = whole
        places_CP[at] = torch.tensor([posterior, 1.0, 0.5, 0.0])
        for c, box in enumerate(found.boxes, start=at + 1):
            if box.crown_sole is not None and box.midline is not None:
                pictures_CHW[c] = image.resize(cut(grey, box, margin), height, width)
                places_CP[c] = torch.tensor([posterior, 0.0, box.crown_sole, box.midline])
    return Bag(pictures_CHW=pictures_CHW, places_CP=places_CP)
