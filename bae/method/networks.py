"""The two networks of Fig. 1, and the trunks they stand on.

Shape suffixes: N views or crops, F channels, V rows, U columns of the last feature map,
H, W of the input, K age groups; of a head D neurons, B bins, S thinned copies, A answers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bae import recipes
from bae.method.trunks import Trunk


class Localizer(nn.Module):
    """Which age group, and the feature maps that say where (Fig. 1 (a), section III)."""

    def __init__(self, config: recipes.Localizer) -> None:
        """Build with random weights; ``bae.method.trunks.weights`` brings ImageNet's."""
        super().__init__()
        self.trunk = Trunk(config.trunk)
        self.head = nn.Linear(self.trunk.channels, config.groups)

    def forward(self, grey_N1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return age-group scores (N, K) and features (N, F, V, U)."""
        features_NFVU = self.trunk(grey_N1HW)
        with full_precision(features_NFVU):
            return self.head(pool(features_NFVU)), features_NFVU


BINS = 121
"""One-year bins, ages 0 to 120, that the mean-variance loss spreads an age over."""


THINNED = 32
"""Thinned heads in a regressor's ensemble; the spread is then known to about 12 %."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What a regressor sees of pictures.

    Attributes:
        pooled_NF: features, averaged over the map.
        heat_NVU: where it looked; None where the network does not say.
        boxes_NR4: regions that it read a second time: x0, y0, x1, y1 as shares of width and
            height; None where there are none.
    """

    pooled_NF: Tensor
    heat_NVU: Tensor | None = None
    boxes_NR4: Tensor | None = None


class Regressor(nn.Module):
    """Crop and sex to years (Fig. 1 (b), section IV); with options, Table 1's other methods.

    The last layer predicts in units of ``spread_years`` around ``mean_years``, the
    training ages' standard deviation and mean, so the first step's answers are already
    near the cohort's mean and the learning rate means the same for every cohort. With
    a loss over bins it scores ages of 0 to 120, and the answer is the expected one.

    Other methods (``bae.method.baselines``) see a picture in another way: they replace ``look``,
    and ``lessons`` where more than one answer is taught.
    """

    shares: tuple[float, ...] = (1.0,)
    """What each of the ``lessons`` counts in the loss; the first is the answer."""
    ranked: int = 0
    """So many lessons come last to be compared: each shall err less than the one before."""

    def __init__(self, config: recipes.Regressor, features: int | None = None) -> None:
        """Build with random weights.

        Args:
            features: F of ``Look``; by default the trunk's, twice where views enter as a pair.
        """
        super().__init__()
        self.trunk = Trunk(config.trunk)
        self.pair = config.pair
        self.sex = nn.Linear(1, config.sex_neurons) if config.use_sex else None
        inputs = features or self.trunk.channels * (2 if config.pair else 1)
        inputs += config.sex_neurons if config.use_sex else 0
        bins = BINS if config.by_year else 1
        self.head = nn.Sequential(
            nn.Linear(inputs, config.hidden_neurons),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_neurons, config.hidden_neurons),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_neurons, bins),
        )
        self.register_buffer("mean_years", torch.tensor(60.0))
        self.register_buffer("spread_years", torch.tensor(10.0))
        masks = torch.rand(
            2, THINNED, config.hidden_neurons, generator=torch.Generator().manual_seed(0)
        )
        kept = (masks >= config.dropout) / (1 - config.dropout)
        self.register_buffer("kept", kept, persistent=False)
        self.mean_years: Tensor
        self.spread_years: Tensor
        self.kept: Tensor

    def forward(self, crop_N1HW: Tensor, male_N: Tensor, scores: bool = False) -> Tensor:
        """Return predicted ages (N,) in years.

        Args:
            crop_N1HW: grey values in [0, 1]; (N, 2, H, W) where both views enter together.
            male_N: 0 female, 1 male; NaN where unknown: the mean of both answers.
            scores: return ``lessons`` instead, for a loss.
        """
        if scores:  # training goes through forward, where DistributedDataParallel listens
            return self.lessons(crop_N1HW, male_N)
        return self.answer(self.look(crop_N1HW).pooled_NF, male_N)

    def look(self, crop_N1HW: Tensor) -> Look:
        """Return what the trunk sees, averaged over the map: (N, F), or (N, 2F) for a pair."""
        n = len(crop_N1HW)
        if self.pair:  # one trunk reads both
            crop_N1HW = crop_N1HW.flatten(0, 1)[:, None]
        features_NFVU = self.trunk(crop_N1HW)
        with full_precision(features_NFVU):
            return Look(pooled_NF=pool(features_NFVU).view(n, -1))

    def lessons(self, crop_N1HW: Tensor, male_N: Tensor) -> Tensor:
        """Return the last layers (A, N, bins) that a loss teaches, by ``shares``."""
        return self.answer(self.look(crop_N1HW).pooled_NF, male_N, scores=True)[None]

    def answer(self, pooled_NF: Tensor, male_N: Tensor, scores: bool = False) -> Tensor:
        """Return ages (N,) of what ``look`` saw, or the last layer (N, bins)."""

        def ask(male_N: Tensor) -> Tensor:
            last_NB: Tensor = self.head(self._with_sex(pooled_NF, male_N))
            return last_NB if scores else self.years(last_NB)

        with full_precision(pooled_NF):
            return for_sex(ask, male_N)

    def ensemble(self, pooled_NF: Tensor, male_N: Tensor) -> Tensor:
        """Return the ages (S, N) by S thinned heads: their spread says how certain it is.

        Monte-Carlo dropout (Gal and Ghahramani 2016) through the head alone, with the same
        masks in every call, so that a scan's spread does not depend on its company.
        """
        first, relu, _, second, _, _, last = self.head

        def ask(male_N: Tensor) -> Tensor:
            hidden_ND = relu(first(self._with_sex(pooled_NF, male_N)))
            hidden_SND = relu(second(hidden_ND * self.kept[0][:, None]))
            return self.years(last(hidden_SND * self.kept[1][:, None])).T

        with full_precision(pooled_NF):
            return for_sex(ask, male_N).T

    def _with_sex(self, pooled_NF: Tensor, male_N: Tensor) -> Tensor:
        if self.sex is None:
            return pooled_NF
        return torch.cat([pooled_NF, self.sex(male_N[:, None].float())], dim=1)

    def years(self, last_B: Tensor) -> Tensor:
        """Turn a last layer's (..., bins) into years."""
        if last_B.shape[-1] == 1:
            return self.mean_years + self.spread_years * last_B[..., 0]
        return last_B.softmax(dim=-1) @ torch.arange(BINS, device=last_B.device).float()


def for_sex(ask: Callable[[Tensor], Tensor], male_N: Tensor) -> Tensor:
    """Ask for each scan's sex; where it is unknown, take the mean of both answers.

    Args:
        ask: sex to answers, (N,) or (N, ...).
        male_N: 0, 1 or NaN.
    """
    unknown_N = torch.isnan(male_N)
    if not bool(unknown_N.any()):
        return ask(male_N)
    both = 0.5 * (ask(torch.zeros_like(male_N)) + ask(torch.ones_like(male_N)))
    known = ask(male_N.nan_to_num())
    return torch.where(unknown_N.view(-1, *[1] * (known.ndim - 1)), both, known)


def gated_attention(
    mixed_NCD: Tensor, there_NC: Tensor, signal: nn.Linear, gate: nn.Linear, attention: nn.Linear
) -> Tensor:
    """Return the share (N, C) of each of C instances (Ilse, Tomczak and Welling 2018, Eq. 9).

    Args:
        mixed_NCD: what is known of each.
        there_NC: whether it takes part; where none does, all have equal shares, not NaN.
        signal, gate, attention: V, U and w of the equation.
    """
    gated_NCD = signal(mixed_NCD).tanh() * gate(mixed_NCD).sigmoid()
    score_NC: Tensor = attention(gated_NCD)[..., 0]
    return score_NC.masked_fill(~there_NC, -1e4).softmax(dim=1)


def pool(features_NFVU: Tensor) -> Tensor:
    """Average over the map, in float32: bf16 sums would cost a tenth of a year."""
    return features_NFVU.float().mean(dim=(2, 3))


def full_precision(like: Tensor) -> torch.autocast:
    """Turn autocast off for the small heads, where bf16 saves nothing and rounds the ages."""
    return torch.autocast(like.device.type, enabled=False)
