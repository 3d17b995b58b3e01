"""Support vector regression on features of whole views: reference [17] of the paper.

The features are those of the localizer's trunk, averaged over the map, of each whole view; sex and
the kind of view stand beside them. The scan's age is the mean of its views' answers.

Support vectors are features of training scans: a model's folder is as private as these are. No
identity is in it, and they are sorted, so that their order tells none.

Shape suffixes: N views, F columns: the trunk's features, then sex and view; S support vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae.scan import ANTERIOR, POSTERIOR

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

VIEW_CODE = {ANTERIOR: 0.0, POSTERIOR: 1.0}
"""Beside the features; a view of unknown name lies between both."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """A fitted regression with a bell-shaped kernel.

    Attributes:
        mean_F, scale_F: of the columns in training; a column without spread has an infinite scale
            and says nothing.
        support_SF: standardised support vectors.
        dual_S: years that each one adds at most, with its sign.
        intercept: years.
        gamma: of exp(-gamma distance^2).
        error_years: root mean square error of a view's answer, on patients left out.
    """

    mean_F: Floats
    scale_F: Floats
    support_SF: Floats32
    dual_S: Floats
    intercept: float
    gamma: float
    error_years: float

    def predict(self, features_NF: Floats32, male_N: Floats, posterior_N: Floats) -> Floats:
        """Return (N,) years; the mean of both answers where the sex is unknown.

        Args:
            features_NF: of the trunk alone.
            male_N: 0 women, 1 men, NaN unknown.
            posterior_N: see ``VIEW_CODE``.
        """
        one_N, two_N = (np.nan_to_num(male_N, nan=other) for other in (0.0, 1.0))
        answers = [
            self._ask(standard(columns(features_NF, own_N, posterior_N), self.mean_F, self.scale_F))
            for own_N in (one_N, two_N)
        ]
        return np.asarray(np.mean(answers, axis=0))

    def _ask(self, standard_NF: Floats32) -> Floats:
        kernel_NS = np.exp(-self.gamma * apart(standard_NF, self.support_SF))
        return np.asarray(kernel_NS @ self.dual_S + self.intercept)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that it is, for a safetensors file."""
        # by way of numpy: torch makes float32 of a number
        plain = {each.name: np.asarray(getattr(self, each.name)) for each in fields(self)}
        return {name: torch.from_numpy(value) for name, value in plain.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Vectors:
        """Rebuild it.

        Raises:
            KeyError: a tensor is missing.
        """
        plain: dict[str, Any] = {each.name: tensors[each.name].numpy() for each in fields(cls)}
        return cls(**{name: value if value.ndim else value.item() for name, value in plain.items()})


def columns(features_NF: Floats32, male_N: Floats, posterior_N: Floats) -> Floats:
    """Return (N, F) features with sex and view; what is unknown lies between both."""
    codes_N2 = np.nan_to_num(np.column_stack([male_N, posterior_N]), nan=0.5)
    return np.column_stack([np.asarray(features_NF, float), codes_N2])


def standard(columns_NF: Floats, mean_F: Floats, scale_F: Floats) -> Floats32:
    """Return standardised columns, rounded: training and model must see the same numbers."""
    return np.asarray((columns_NF - mean_F) / scale_F, np.float32)


def apart(one_NF: Floats32, two_SF: Floats32) -> Floats:
    """Return (N, S) squared distances, in float64."""
    one, two = one_NF.astype(float), two_SF.astype(float)
    squares_NS = (one**2).sum(axis=1)[:, None] + (two**2).sum(axis=1)
    return np.asarray(np.maximum(squares_NS - 2 * one @ two.T, 0))


def codes(views: Sequence[str]) -> Floats:
    """Return (N,) codes of views' names, NaN for an unknown one."""
    return np.array([VIEW_CODE.get(view, np.nan) for view in views])
