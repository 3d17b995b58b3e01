"""The network of several regions: one trunk reads every picture of a bag, attention adds up.

Gated attention (Ilse, Tomczak and Welling, ICML 2018, Eq. 9) says what share of the answer each
picture has. Each picture gives an age of its own before pooling and not after it (additive pooling,
Javed et al., NeurIPS 2022, Eq. 4), so that what a region adds in years is exact.

Shape suffixes: N scans, C pictures of a bag, H, W of a picture, P numbers of a place, F channels,
M members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from bae import recipes
from bae.method.networks import for_sex, full_precision, gated_attention, pool
from bae.method.regional.bag import PLACE, fill, own_of, squares_of
from bae.method.regional.reader import Seen
from bae.method.trunks import Trunk
from bae.recipes import Recipe
from bae.scan import SEX_CODE, Scan, View

PLACE_NEURONS = 32
"""Width of what is made of a place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What members say of scans.

    Attributes:
        ages_MN: years.
        weight_MNC: attention; sums to 1 over a bag.
        years_MNC: what each picture adds to ``mean_years``; with that, sums to the age.
    """

    ages_MN: Tensor
    weight_MNC: Tensor
    years_MNC: Tensor


class Member(nn.Module):
    """One trunk with its attention."""

    def __init__(self, config: recipes.Regressor) -> None:
        super().__init__()
        self.trunk = Trunk(config.trunk)
        self.place = nn.Sequential(
            nn.Linear(len(PLACE), PLACE_NEURONS), nn.ReLU(), nn.Linear(PLACE_NEURONS, PLACE_NEURONS)
        )
        self.sex = nn.Linear(1, config.sex_neurons) if config.use_sex else None
        inputs = self.trunk.channels + PLACE_NEURONS + (config.sex_neurons if config.use_sex else 0)
        hidden = config.hidden_neurons
        self.mixed = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(config.dropout))
        self.signal, self.gate = nn.Linear(hidden, hidden // 2), nn.Linear(hidden, hidden // 2)
        self.attention = nn.Linear(hidden // 2, 1)
        self.value = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(hidden, 1)
        )

    def forward(self, bag_NCHW: Tensor, places_NCP: Tensor, male_N: Tensor) -> Tensor:
        """Return (N, 2, C): attention, and the value of each picture in standard deviations."""
        n, c = bag_NCHW.shape[:2]
        features_NFVU = self.trunk(bag_NCHW.flatten(0, 1)[:, None])
        with full_precision(features_NFVU):
            pooled_NCF = pool(features_NFVU).view(n, c, -1)
            return for_sex(lambda male_N: self._pooled(pooled_NCF, places_NCP, male_N), male_N)

    def _pooled(self, pooled_NCF: Tensor, places_NCP: Tensor, male_N: Tensor) -> Tensor:
        there_NC = ~places_NCP.isnan().any(dim=2)
        inputs = [pooled_NCF, self.place(places_NCP.nan_to_num())]
        if self.sex is not None:
            inputs.append(self.sex(male_N[:, None, None].float().expand(-1, len(there_NC[0]), 1)))
        mixed_NCD = self.mixed(torch.cat(inputs, dim=2))
        weight_NC = gated_attention(mixed_NCD, there_NC, self.signal, self.gate, self.attention)
        return torch.stack([weight_NC, self.value(mixed_NCD)[..., 0]], dim=1)


class Attention(nn.Module):
    """Bags to years: the mean of members that each learned without some of the patients."""

    def __init__(self, config: recipes.Regressor) -> None:
        """Build with random weights; ``bae.method.trunks.weights`` brings ImageNet's."""
        super().__init__()
        self.members = nn.ModuleList(Member(config) for _ in range(config.members))
        self.register_buffer("mean_years", torch.tensor(60.0))
        self.register_buffer("spread_years", torch.tensor(10.0))
        self.register_buffer("share", torch.tensor(1.0))
        self.mean_years: Tensor
        self.spread_years: Tensor
        self.share: Tensor
        """Of the answer that is this network's; the rest is the linear model's."""

    def forward(
        self,
        bag_NCHW: Tensor,
        places_NCP: Tensor,
        male_N: Tensor,
        fold_N: Tensor | None = None,
    ) -> Tensor:
        """Return predicted ages (N,) in years; with folds, for a loss, those of each member (M, N).

        Args:
            bag_NCHW, places_NCP: see ``Bag``.
            male_N: 0 female, 1 male; NaN where unknown: the mean of both answers.
            fold_N: the member that learns without the scan, whose answer is NaN; -1 for none.
        """
        if fold_N is None:
            return self.say(bag_NCHW, places_NCP, male_N).ages_MN.mean(dim=0)
        ages = []
        for m, member in enumerate(self.members):
            seen_N = fold_N != m
            # batch norm needs two; gradients of all weights, though 0, are what DDP waits for
            read_N = seen_N if int(seen_N.sum()) > 1 else torch.ones_like(seen_N)
            weight_NC, value_NC = member(
                bag_NCHW[read_N], places_NCP[read_N], male_N[read_N]
            ).unbind(dim=1)
            years_N = self.mean_years + self.spread_years * (weight_NC * value_NC).sum(dim=1)
            whole_N = years_N.new_zeros(len(male_N)).masked_scatter(read_N, years_N)
            ages.append(whole_N.where(seen_N, torch.nan))
        return torch.stack(ages)

    def say(self, bag_NCHW: Tensor, places_NCP: Tensor, male_N: Tensor) -> Said:
        """Return what each member says; see ``forward``."""
        answers = torch.stack([ask(bag_NCHW, places_NCP, male_N) for ask in self.members])
        weight_MNC, value_MNC = answers.unbind(dim=2)
        years_MNC = self.spread_years * weight_MNC * value_MNC
        return Said(
            ages_MN=self.mean_years + years_MNC.sum(dim=2),
            weight_MNC=weight_MNC,
            years_MNC=years_MNC,
        )


def weigh(
    network: Attention,
    recipe: Recipe,
    scans: Sequence[Scan],
    views: Sequence[Sequence[View]],
    seen: Sequence[Seen],
) -> list[Seen]:
    """Let the network read what the linear model has seen.

    Args:
        network: in evaluation mode.
        recipe: of the pictures.
        scans: tell the sex.
        views: of each scan, those that were read.
        seen: of each scan.

    Returns:
        Answer, weights and years of ``share`` parts of the network and the rest of the linear
        model; as spread the standard deviation of the members' and the linear model's answers,
        in years. Weights are of the squares alone, so that they sum to 1: what the whole view
        has is left out.
    """
    bags = [fill(own, one, recipe) for own, one in zip(views, seen, strict=True)]
    with torch.inference_mode():
        said = network.say(
            torch.stack([bag.pictures_CHW for bag in bags]),
            torch.stack([bag.places_CP for bag in bags]),
            torch.tensor([SEX_CODE[scan.sex] for scan in scans]),
        )
    share, mean = float(network.share), float(network.mean_years)
    found = []
    for i, one in enumerate(seen):
        ages_M = said.ages_MN[:, i].numpy()
        weight_C = said.weight_MNC[:, i].mean(dim=0).numpy()
        years_C = said.years_MNC[:, i].mean(dim=0).numpy()
        squares = float(weight_C[squares_of(recipe)].sum()) or 1.0
        shown, alone = [], []
        for kind, view in zip(one.kinds, one.views, strict=True):
            if kind is None:
                shown.append(view)
                continue
            own = own_of(kind, recipe)
            at = range(own.start + 1, own.stop)
            boxes = [
                replace(
                    box,
                    weight=_mixed(share, weight_C[c] / squares, box.weight),
                    years=_mixed(share, years_C[c], box.years),
                )
                for c, box in zip(at, view.boxes, strict=False)
            ]
            shown.append(replace(view, boxes=boxes))
            alone.append(mean + years_C[own].sum() / max(weight_C[own].sum(), 1e-6))
        found.append(
            replace(
                one,
                years=_mixed(share, float(ages_M.mean()), one.years),
                spread=float(np.std([*ages_M, one.years], ddof=1)),
                view_years=tuple(
                    _mixed(share, age, linear)
                    for age, linear in zip(alone, one.view_years, strict=True)
                ),
                views=tuple(shown),
            )
        )
    return found


def _mixed(share: float, network: float, linear: float | None) -> float:
    return share * float(network) + (1 - share) * (linear or 0.0)
