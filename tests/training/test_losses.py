"""What a regressor descends: each loss beside its formula in plain loops of float64."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from bae import recipes
from bae.method.networks import Regressor
from bae.training import tasks

SCORES = np.random.default_rng(2).normal(size=(3, 121))
AGES = np.array([44.2, 61.7, 79.5])
YEARS = np.arange(121.0)


class Fixed(Regressor):
    """A network whose answers are given."""

    def __init__(self, config: recipes.Regressor, answers: Any, ranked: int = 0) -> None:
        super().__init__(config)
        self.given, self.ranked = torch.tensor(answers), ranked

    def lessons(self, crop_N1HW: Tensor, male_N: Tensor) -> Tensor:
        return self.given


def loss_of(name: str, answers: Any, ranked: int = 0) -> float:
    changes = [f"regressor.loss={name}", "regressor.hidden_neurons=4"]
    recipe = recipes.recipe("small_vgg19", changes)
    batch = tasks.Batch(
        grey_N1HW=torch.zeros(3, 1, 2, 2),
        male_N=torch.zeros(3),
        age_N=torch.tensor(AGES),
        group_N=torch.zeros(3, dtype=torch.int64),
        scan_ids=["a", "b", "c"],
    )
    return float(tasks.regressor(recipe).loss(Fixed(recipe.regressor, answers, ranked), batch))


def softmax(score: np.ndarray) -> np.ndarray:
    return np.exp(score) / np.exp(score).sum()


def test_mean_variance_loss_is_what_the_paper_writes() -> None:
    """Pan et al. 2018."""
    total = 0.0
    for score, age in zip(SCORES, AGES, strict=True):
        p = softmax(score)
        mean = sum(p[j] * j for j in range(121))
        variance = sum(p[j] * (j - mean) ** 2 for j in range(121))
        total += -np.log(p[round(age)]) + 0.2 * 0.5 * (mean - age) ** 2 + 0.05 * variance
    assert loss_of("mean_variance", SCORES[None]) == pytest.approx(total / 3, rel=1e-5)


def test_one_class_a_year_is_the_likelihood_of_the_year() -> None:
    wanted = np.mean([-np.log(softmax(s)[round(a)]) for s, a in zip(SCORES, AGES, strict=True)])
    assert loss_of("classes", SCORES[None]) == pytest.approx(wanted, rel=1e-5)


def test_label_distribution_is_its_distance_and_the_error_of_its_expectation() -> None:
    total = 0.0
    for score, age in zip(SCORES, AGES, strict=True):
        label = stats.norm.pdf(YEARS, age, tasks.LABEL_SD)
        total += stats.entropy(label, softmax(score)) + abs(softmax(score) @ YEARS - age) / 10
    assert loss_of("distribution", SCORES[None]) == pytest.approx(total / 3, rel=1e-5)


def test_an_answer_that_errs_more_than_the_one_before_is_ranked() -> None:
    """Units are the ages' spread, 10 years here; the mean is 60."""
    errors = np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 4.0]])  # of a coarse and a fine answer, years
    answers = (AGES + errors - 60.0)[..., None] / 10
    squared = float(((AGES - 60.0) ** 2).mean() / 100)
    lessons = np.concatenate([np.zeros((1, 3, 1)), answers])  # the first is taught: always 60
    closer = np.maximum((errors[1] - errors[0]) / 10 + tasks.RANK_MARGIN, 0).mean()
    assert loss_of("squared", lessons, ranked=2) == pytest.approx(squared + closer, rel=1e-5)


def test_the_answer_before_is_a_mark_to_beat_and_learns_nothing_from_it() -> None:
    """Else a finer answer would come out closer because the coarse one errs more."""
    recipe = recipes.recipe("small_vgg19", ["regressor.hidden_neurons=4"])
    network = Fixed(recipe.regressor, np.zeros((3, 3, 1), np.float32), ranked=2)
    network.shares = (0.0,)
    network.given.requires_grad_()
    ages = torch.tensor(AGES, dtype=torch.float32)
    batch = tasks.Batch(
        grey_N1HW=torch.zeros(3, 1, 2, 2),
        male_N=torch.zeros(3),
        age_N=ages,
        group_N=torch.zeros(3, dtype=torch.int64),
        scan_ids=["a", "b", "c"],
    )
    tasks.regressor(recipe).loss(network, batch).backward()
    assert network.given.grad is not None
    assert torch.equal(network.given.grad[:2], torch.zeros(2, 3, 1))
    # towards the age: the answer is 60 for all
    assert torch.equal(network.given.grad[2, :, 0].sign(), (60 - ages).sign())
