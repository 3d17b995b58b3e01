"""Train support vector regression on a localizer's features: scans table in, a whole model out.

Features are kept beside the tables as samples of networks are. The localizer saw the same
patients, so answers on patients left out of the regression alone look better than they are: they
choose its two numbers, but calibrate no interval.

Shape suffixes: N views, F columns.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from sklearn.svm import SVR

from bae import recipes, storage
from bae.archive.intake import Decoded
from bae.errors import after_writing
from bae.method import fused, hardware, model
from bae.method.baselines.svr import look
from bae.method.baselines.vectors import Vectors, apart, codes, columns, standard
from bae.method.networks import Localizer
from bae.method.predictor import chosen_views
from bae.pipeline import kept
from bae.pipeline.step import OnPart
from bae.scan import SEX_CODE
from bae.training import run

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

MOST_SCANS = 2000
"""Learned from at most: products of all views with all others are kept in memory, thrice."""
COSTS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Tried: C, the most years that one support vector may add."""
GAMMAS = (0.1, 0.3, 1.0, 3.0)
"""Tried, over the number of columns: 1 is a width of the views' usual distance, about."""
EPSILON_YEARS = 1.0
"""Errors below cost nothing."""
FOLDS = 5
"""Of patients."""

FEATURES = pa.schema(
    {
        "scan_id": pa.string(),
        "views": pa.list_(pa.field("element", pa.string())),
        "features": pa.binary(),
    }
)
"""Names of a scan's views, and their features as float32, row-major."""


@dataclass(kw_only=True, eq=False)
class Features(kept.KeptStep):
    """Look at whole views of the wanted scans with a model's localizer."""

    name: ClassVar[str] = "Features"
    wanted: set[str]
    model_uri: str
    recipe: recipes.Recipe
    device: str = field(init=False, default="cpu")
    network: Localizer | None = field(init=False, default=None, repr=False)

    def load(self) -> None:
        """Load the localizer; take every core, since Ray leaves torch one thread."""
        self.device = hardware.best_device()
        hardware.use_cores(hardware.cores())
        network = model.load_localizer(self.model_uri, model.load_card(self.model_uri))
        self.network = fused.fast(hardware.onto(network, self.device))

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``FEATURES``; a zip file may hold other scans beside those wanted."""
        assert self.network is not None
        rows = []
        for scan_id, scan in kept.among(items, self.wanted):
            views = chosen_views(scan, self.recipe)
            seen_NF, _ = look(self.network, self.recipe, views, self.device)
            names = [view.name for view in views]
            rows.append({"scan_id": scan_id, "views": names, "features": seen_NF.tobytes()})
        return pa.Table.from_pylist(rows, schema=FEATURES)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train, checked before Ray starts; the fields are ``run.Plan``'s."""

    recipe: recipes.Recipe
    tables_uri: str
    model_uri: str
    card: model.Card
    scans: dict[str, pa.Table]


def plan(recipe: recipes.Recipe, tables_uri: str, model_uri: str, most: int | None = None) -> Plan:
    """Check what is asked for; writes nothing.

    Args:
        most: scans to learn from at most; no more than ``MOST_SCANS`` in any case.

    Raises:
        UseError: no scans to train on, no localizer to see with, or one of another recipe.
    """
    card = run.with_localizer(recipe, model_uri)
    scans = {s: kept.training_scans(tables_uri, recipe, s) for s in ("train", "validation")}
    scans["train"] = kept.at_most(scans["train"], min(most or MOST_SCANS, MOST_SCANS))
    return Plan(recipe=recipe, tables_uri=tables_uri, model_uri=model_uri, card=card, scans=scans)


def train(planned: Plan, on_samples: OnPart, on_scored: OnPart) -> model.Card:
    """Look at the training scans, fit, calibrate, and write the part ``svr`` and the card."""
    start = time.monotonic()
    rows, recipe = planned.scans["train"], planned.recipe
    with after_writing():
        state = [
            planned.card.parts["localizer"].sha256,
            asdict(recipe.windowing),
            recipe.region.views,
            kept.digest(rows),
        ]
        step = Features(
            cache=kept.cache(planned.tables_uri, "features", state, FEATURES),
            wanted=set(rows["scan_id"].to_pylist()),
            model_uri=planned.model_uri,
            recipe=recipe,
        )
        step.cache.drop_others()
        found = kept.answers(planned.tables_uri, rows, step, on_samples).to_pylist()
        each = [len(row["views"]) for row in found]
        features_NF = np.concatenate(
            [np.frombuffer(r["features"], np.float32).reshape(len(r["views"]), -1) for r in found]
        )
        sexes = rows["sex"].to_pylist() if recipe.regressor.use_sex else [None] * len(found)
        known = {
            "male_N": [SEX_CODE[sex] for sex in sexes],
            "years_N": rows["age_years"].to_pylist(),
            "patients": rows["patient_key"].to_pylist(),
        }
        learned, chosen = learn(
            features_NF,
            posterior_N=codes([view for row in found for view in row["views"]]),
            **{name: np.repeat(values, each) for name, values in known.items()},
        )
        facts = {
            "metrics": {"held_out_view_rmse_years": learned.error_years, **chosen},
            "fit": {"seconds": round(time.monotonic() - start, 1), "device": "cpu"},
        }
        made = run.Made(name="svr", tensors=learned.tensors(), facts=facts, completes=True)
        where = (planned.tables_uri, planned.model_uri)
        card = run.finish(*where, planned.card, made, planned.scans, on_scored)
        storage.delete(storage.join(planned.model_uri, run.CHECKPOINTS))
    return card


def learn(
    features_NF: Floats32,
    *,
    male_N: Floats,
    posterior_N: Floats,
    years_N: Floats,
    patients: NDArray[np.str_],
) -> tuple[Vectors, dict[str, float]]:
    """Fit with the cost and the width of the kernel that err least on patients left out.

    Args:
        features_NF: of the trunk.
        male_N: 0 women, 1 men, NaN unknown.
        posterior_N: see ``VIEW_CODE``.
        years_N: ages.
        patients: of the views.

    Returns:
        The regression, and what was chosen, for the card.
    """
    raw_NF = columns(features_NF, male_N, posterior_N)
    mean_F, scale_F = raw_NF.mean(axis=0), raw_NF.std(axis=0)
    scale_F[scale_F < 1e-9] = np.inf  # says nothing
    standard_NF = standard(raw_NF, mean_F, scale_F)
    # by the number of columns, so that widths mean the same for every trunk
    mean_NN = apart(standard_NF, standard_NF) / raw_NF.shape[1]
    cost, width, error = _chosen(mean_NN, years_N, patients)
    gamma = width / raw_NF.shape[1]
    fitted = SVR(kernel="rbf", C=cost, gamma=gamma, epsilon=EPSILON_YEARS)
    fitted.fit(standard_NF.astype(float), years_N)
    support_SF = fitted.support_vectors_.astype(np.float32)  # they were float32
    order = np.lexsort(support_SF.T)
    found = Vectors(
        mean_F=mean_F,
        scale_F=scale_F,
        support_SF=support_SF[order],
        dual_S=fitted.dual_coef_[0][order],
        intercept=float(fitted.intercept_[0]),
        gamma=gamma,
        error_years=error,
    )
    return found, {"cost": cost, "gamma": gamma, "support_vectors": float(len(support_SF))}


def splits(patients: Sequence[str] | NDArray[np.str_]) -> Iterator[tuple[Any, Any]]:
    """Yield views to learn from and to test on, by number; no patient is in both."""
    count = min(FOLDS, len(set(patients)))
    if count > 1:
        yield from GroupKFold(count).split(patients, groups=patients)


def _chosen(
    apart_NN: Floats, years_N: Floats, patients: NDArray[np.str_]
) -> tuple[float, float, float]:
    """Return cost, width and root mean square error of what errs least on patients left out.

    Of equals the one that bends least.
    """
    tried: list[tuple[float, float, float, float]] = []
    for gamma in GAMMAS:
        kernel_NN = np.exp(-gamma * apart_NN)
        for cost in COSTS:
            said_N = np.full(len(years_N), years_N.mean())  # of a single patient
            for rest, out in splits(patients):
                fitted = SVR(kernel="precomputed", C=cost, epsilon=EPSILON_YEARS)
                fitted.fit(kernel_NN[np.ix_(rest, rest)], years_N[rest])
                said_N[out] = fitted.predict(kernel_NN[np.ix_(out, rest)])
            away_N = said_N - years_N
            root = float(np.sqrt(np.mean(away_N**2)))
            tried.append((float(np.abs(away_N).mean()), cost, gamma, root))
    _, cost, gamma, root = min(tried)
    return cost, gamma, root
