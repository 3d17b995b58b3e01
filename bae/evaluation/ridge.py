"""The plainest learner as a row of Table 1: ridge regression on thumbnails and sex.

A network that does not beat it has learned nothing of shape.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bae import recipes
from bae.archive.intake import Decoded
from bae.method import image
from bae.pipeline.kept import KeptStep, among, answers, cache, digest
from bae.pipeline.outcomes import FLOATS
from bae.pipeline.step import OnPart
from bae.scan import POSTERIOR, SEX_CODE

ROWS, COLUMNS = 64, 16
"""Size of a thumbnail, pixels."""

PENALTIES = tuple(10.0**power for power in range(-2, 5))
"""Tried on the validation patients."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ridge:
    """A fitted ridge regression. Columns keep their scale: a border pixel that once in the
    training scans held a count would be an outlier in every other scan.

    Attributes:
        mean: (K,) of the training columns.
        slopes: (K,) years per unit of a column.
        intercept: years.
    """

    mean: Floats
    slopes: Floats
    intercept: float

    def predict(self, columns: Floats) -> Floats:
        """Return years (N,) of (N, K) columns; a value that is NaN counts as the mean."""
        return np.asarray(np.nan_to_num(columns - self.mean) @ self.slopes + self.intercept)


def fit(columns: Floats, years: Floats, penalty: float) -> Ridge:
    """Fit by the closed form, in the space of scans since there are more pixels than scans.

    Args:
        columns: (N, K); NaN where unknown.
        penalty: of the slopes' squares, as scikit-learn's ``alpha``.
    """
    mean, intercept = np.nanmean(columns, axis=0), float(years.mean())
    x = np.nan_to_num(columns - mean)
    middle = x.mean(axis=0)  # not quite zero where values were NaN
    centred = x - middle
    gram = centred @ centred.T + penalty * np.eye(len(years))
    slopes = centred.T @ np.linalg.solve(gram, years - intercept)
    return Ridge(mean=mean, slopes=slopes, intercept=intercept - float(middle @ slopes))


def chosen(train: tuple[Floats, Floats], validation: tuple[Floats, Floats]) -> Ridge:
    """Fit with the penalty of ``PENALTIES`` that errs least on validation scans."""
    fitted = [fit(*train, penalty) for penalty in PENALTIES]
    columns, years = validation
    return min(fitted, key=lambda model: float(np.abs(model.predict(columns) - years).mean()))


def thumbnails(
    tables_uri: str, windowing: recipes.Windowing, scans: pa.Table, on_part: OnPart
) -> NDArray[np.float64]:
    """Return thumbnails of scans with their sex; kept as ``outcomes.score`` keeps answers.

    Returns:
        (N, K): the grey values of ``ROWS`` x ``COLUMNS`` pixels, anterior, then
        posterior, NaN where there is no such view, and last the sex's code.
    """
    state = json.dumps([asdict(windowing), ROWS, COLUMNS])
    kept = cache(tables_uri, "thumbnails", [state, digest(scans)], THUMBNAILS)
    wanted = set(scans["scan_id"].to_pylist())
    step = Thumbnails(cache=kept, windowing=windowing, wanted=wanted)
    found = answers(tables_uri, scans, step, on_part)
    pixels = np.array(found["pixels"].to_pylist(), dtype=np.float64)
    sexes = [SEX_CODE[sex] for sex in scans["sex"].to_pylist()]
    return np.column_stack([pixels, sexes])


THUMBNAILS = pa.schema({"scan_id": pa.string(), "pixels": FLOATS})


@dataclass(kw_only=True, eq=False)
class Thumbnails(KeptStep):
    """Shrink both views of the wanted scans to what a ridge regression learns from."""

    name: ClassVar[str] = "Thumbnails"
    windowing: recipes.Windowing
    wanted: set[str]

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``THUMBNAILS``: anterior, then posterior; NaN where a view is missing."""
        rows = []
        for scan_id, scan in among(items, self.wanted):
            pixels = np.full((2, ROWS, COLUMNS), np.nan)
            for view in scan.views:
                grey = image.window(image.to_tensor(view.counts), self.windowing)
                # a view of unknown name counts as anterior, which most single views are
                place = int(view.name == POSTERIOR)
                pixels[place] = image.resize(grey, ROWS, COLUMNS).numpy()
            rows.append({"scan_id": scan_id, "pixels": pixels.ravel().tolist()})
        return pa.Table.from_pylist(rows, schema=THUMBNAILS)
