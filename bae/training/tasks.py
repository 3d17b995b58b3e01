"""What each of a recipe's two networks learns, from what samples, by which loss: one value.

Shape suffixes: N views or crops, H, W of the input, C age groups, B one-year bins.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bae import recipes
from bae.errors import UseError
from bae.method import baselines
from bae.method.networks import BINS, Localizer, Regressor
from bae.method.regional import bag
from bae.method.regional.attention import Attention


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Training samples on the device.

    Attributes:
        grey_N1HW: values in [0, 1]; both views in place of one where they enter together, or
            a bag of pictures.
        male_N: 0 female, 1 male, NaN unknown.
        age_N: chronological age in years.
        group_N: age group, int64.
        places_NCP: where a bag's pictures lie, see ``bag.PLACE``; empty without bags.
        fold_N: the member that must not learn from the scan, int64; -1 for none;
            empty without bags.
    """

    grey_N1HW: Tensor
    male_N: Tensor
    age_N: Tensor
    group_N: Tensor
    places_NCP: Tensor = field(default_factory=lambda: torch.empty(0))
    fold_N: Tensor = field(default_factory=lambda: torch.empty(0))
    scan_ids: list[str]


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that tells the training of one network from that of the other; it travels.

    Attributes:
        name: of the network, in the model folder and on its card.
        section: the recipe's section on this network.
        build: makes the network, with random weights.
        needs: the part of the model that chooses what is cut from a scan: ``localizer``,
            ``regional``, or none for whole views.
        pictures: channels of a sample: 1, 2 where both views are one sample, or a bag's.
        completes: whether the model can predict ages, and be calibrated, once this is trained.
        loss: network and batch to the loss to descend.
        answer: network and batch to (N, ...) float32 answers, for evaluation.
        score: answers, ages and groups to named numbers; ``score`` among them, less is better.
    """

    name: str
    recipe: recipes.Recipe
    section: recipes.Localizer | recipes.Regressor
    fit: recipes.Fit
    build: Callable[[], Localizer | Regressor | Attention]
    needs: str
    pictures: int
    completes: bool
    loss: Callable[[nn.Module, Batch], Tensor]
    answer: Callable[[nn.Module, Batch], Tensor]
    score: Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]], dict[str, float]]

    @property
    def size(self) -> tuple[int, int]:
        """Return rows and columns of the network's input."""
        return self.section.height, self.section.width

    @property
    def bag(self) -> bool:
        """Return whether a sample's pictures move each by itself in augmentation."""
        return self.needs == "regional"

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Return channels, rows and columns of a sample, the margin for box jitter included."""
        return (self.pictures, *recipes.with_margin(self.size, self.fit.box_jitter))


def _require_two_steps(recipe: recipes.Recipe) -> None:
    if not recipe.in_two_steps:
        raise UseError(f"recipe {recipe.name} is trained by one command; run jobs.train")


def localizer(recipe: recipes.Recipe) -> Task:
    """Learn the age group of a whole view.

    Raises:
        UseError: the recipe has no localizer.
    """
    _require_two_steps(recipe)
    if recipe.region.whole:
        raise UseError(
            f"recipe {recipe.name} takes whole views and has no localizer; run "
            "jobs.train_regressor at once"
        )
    return Task(
        name="localizer",
        recipe=recipe,
        section=recipe.localizer,
        fit=replace(recipe.fit_localizer, box_jitter=0.0),  # whole views have no box
        build=partial(Localizer, recipe.localizer),
        needs="",
        pictures=1,
        completes=False,
        loss=_group_loss,
        answer=_group_answer,
        score=_group_score,
    )


def regressor(recipe: recipes.Recipe) -> Task:
    """Learn the age from crop and sex, by the loss that the recipe names.

    Raises:
        UseError: the recipe has no regressor.
    """
    _require_two_steps(recipe)
    return Task(
        name="regressor",
        recipe=recipe,
        section=recipe.regressor,
        fit=recipe.fit_regressor,
        build=partial(baselines.build, recipe.regressor),
        needs="" if recipe.region.whole else "localizer",
        pictures=2 if recipe.regressor.pair else 1,
        completes=True,
        loss=partial(_age_loss, LOSSES[recipe.regressor.loss]),
        answer=_age_answer,
        score=_age_score,
    )


def regions(recipe: recipes.Recipe) -> Task:
    """Learn the age from the squares that the linear model chooses.

    Raises:
        UseError: the recipe has no such network.
    """
    if not recipe.reads_squares:
        raise UseError(f"recipe {recipe.name} has no network of several regions")
    return Task(
        name="regions",
        recipe=recipe,
        section=recipe.regressor,
        fit=recipe.fit_regressor,
        build=partial(Attention, recipe.regressor),
        needs="regional",
        pictures=bag.pictures(recipe),
        completes=True,
        loss=_members_loss,
        answer=_bag_answer,
        score=_age_score,
    )


def _group_loss(network: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(network(batch.grey_N1HW)[0].float(), batch.group_N)


def _group_answer(network: nn.Module, batch: Batch) -> Tensor:
    probabilities_NK: Tensor = network(batch.grey_N1HW)[0].float().softmax(dim=1)
    return probabilities_NK


def _group_score(
    answers_NK: NDArray[np.float32], ages: NDArray[np.float32], groups: NDArray[np.int64]
) -> dict[str, float]:
    likelihood = np.clip(answers_NK[np.arange(len(groups)), groups], 1e-12, 1)
    cross_entropy = float(-np.log(likelihood).mean())
    accuracy = float((answers_NK.argmax(axis=1) == groups).mean())
    return {"score": cross_entropy, "cross_entropy": cross_entropy, "accuracy": accuracy}


YearLoss = Callable[[Regressor, Tensor, Tensor], Tensor]
"""A network, the last layer (N, bins) of one of its answers, and ages: to a loss."""


def _age_loss(loss: YearLoss, network: nn.Module, batch: Batch) -> Tensor:
    """Add up the losses of all that a network teaches itself, by its shares."""
    regressor = _inner(network)
    assert isinstance(regressor, Regressor)
    lessons_ANB = network(batch.grey_N1HW, batch.male_N, scores=True).float()
    taught = zip(regressor.shares, lessons_ANB, strict=False)
    total = torch.stack([s * loss(regressor, last_NB, batch.age_N) for s, last_NB in taught]).sum()
    if regressor.ranked:
        error_AN = (regressor.years(lessons_ANB[-regressor.ranked :]) - batch.age_N).abs()
        # the one before is a mark to beat: nobody shall learn to err more there
        closer_AN = (error_AN[1:] - error_AN[:-1].detach()) / regressor.spread_years
        total = total + (closer_AN + RANK_MARGIN).relu().mean(dim=1).sum()
    return total


RANK_MARGIN = 0.05
"""By so much, in standard deviations of age, an answer shall err less than the one before it
(the pairwise ranking loss of Fu, Zheng and Mei 2017, there of the right class's probabilities)."""


def _inner(network: nn.Module) -> nn.Module:
    """Return the network itself, also where data-parallel training is wrapped round it."""
    if not isinstance(network, nn.parallel.DistributedDataParallel):
        return network
    inner = network.module
    assert isinstance(inner, nn.Module)
    return inner


def _squared(network: Regressor, last_NB: Tensor, age_N: Tensor) -> Tensor:
    """Eq. (4), in units of the training ages' variance so that clipping means the same."""
    spread = network.spread_years
    return F.mse_loss(network.years(last_NB) / spread, age_N / spread)


def _mean_variance(network: Regressor, last_NB: Tensor, age_N: Tensor) -> Tensor:
    """Pan et al. 2018, Eqs. (2)-(5): softmax loss + 0.2 mean loss + 0.05 variance loss."""
    bins_B = torch.arange(BINS, device=last_NB.device).float()
    probability_NB = last_NB.softmax(dim=1)
    mean_N = probability_NB @ bins_B
    variance_N = (probability_NB * (bins_B - mean_N[:, None]) ** 2).sum(dim=1)
    mean_loss = 0.5 * F.mse_loss(mean_N, age_N)
    return _classes(network, last_NB, age_N) + 0.2 * mean_loss + 0.05 * variance_N.mean()


def _classes(network: Regressor, last_NB: Tensor, age_N: Tensor) -> Tensor:
    """One class a year (Lee et al. 2017)."""
    return F.cross_entropy(last_NB, age_N.round().long().clamp(0, BINS - 1))


LABEL_SD = 2.0
"""Years: the width of a label's distribution (ours)."""


def _distribution(network: Regressor, last_NB: Tensor, age_N: Tensor) -> Tensor:
    """Label distribution and its expectation (Gao et al. 2018, Eqs. 2, 4 and 5).

    Kullback and Leibler's distance to a normal distribution over years round the age, and the
    absolute error of the expected age, here in standard deviations of age.
    """
    bins_B = torch.arange(BINS, device=last_NB.device).float()
    wanted_NB = (-0.5 * ((bins_B - age_N[:, None]) / LABEL_SD) ** 2).softmax(dim=1)
    apart = F.kl_div(last_NB.log_softmax(dim=1), wanted_NB, reduction="batchmean")
    return apart + (network.years(last_NB) - age_N).abs().mean() / network.spread_years


LOSSES: dict[str, YearLoss] = {
    "squared": _squared,
    "mean_variance": _mean_variance,
    "classes": _classes,
    "distribution": _distribution,
}
"""What ``sections.Regressor.loss`` may name."""


HUBER = 0.3
"""Where the loss turns from squared to absolute, in standard deviations of age."""


def _members_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Huber's loss of each member over the scans that it may see, in standard deviations."""
    ages_MN = network(batch.grey_N1HW, batch.places_NCP, batch.male_N, batch.fold_N)
    seen_MN = ~ages_MN.isnan() | batch.age_N.isnan()  # an age that is not finite must be seen
    away_MN = (ages_MN - batch.age_N) / _inner(network).get_buffer("spread_years")
    loss: Tensor = F.smooth_l1_loss(
        away_MN[seen_MN], torch.zeros_like(away_MN[seen_MN]), beta=HUBER
    )
    return loss


def _bag_answer(network: nn.Module, batch: Batch) -> Tensor:
    years_N: Tensor = network(batch.grey_N1HW, batch.places_NCP, batch.male_N).float()
    return years_N


def _age_answer(network: nn.Module, batch: Batch) -> Tensor:
    years_N: Tensor = network(batch.grey_N1HW, batch.male_N).float()
    return years_N


def _age_score(
    answers: NDArray[np.float32], ages: NDArray[np.float32], groups: NDArray[np.int64]
) -> dict[str, float]:
    """Eq. (5), and the half width of a split-conformal 90 % interval.

    The latter is the ceil(0.9 (n + 1))-th smallest absolute error (Vovk et al. 2005).
    """
    errors = np.abs(answers - ages)
    mae, rank = float(errors.mean()), min(len(errors), math.ceil(0.9 * (len(errors) + 1)))
    half_width = float(np.sort(errors)[rank - 1])
    return {"score": mae, "mae_years": mae, "error_90_years": half_width}
