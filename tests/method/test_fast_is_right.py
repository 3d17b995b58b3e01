"""The fast path beside the float32 networks as they were written, on real and simulated scans."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from pydicom.data import get_testdata_file
from torch.nn import functional as F

from bae import phantom, recipes
from bae.archive.dicom import decode
from bae.method import hardware, image, model
from bae.method.networks import Localizer, Regressor
from bae.method.prediction import Prediction
from bae.method.predictor import Predictor, localize, regressor_inputs
from bae.scan import SEX_CODE, Identity, Scan
from tests.bench.precision import overlaps

pytestmark = pytest.mark.slow

RECIPE = dataclasses.replace(
    recipes.small(),
    localizer=recipes.Localizer(trunk="resnet10", weights="none", width=48, height=160),
    regressor=recipes.Regressor(
        trunk="resnet10", weights="none", width=64, height=96, hidden_neurons=64
    ),
)
STEPS = 12


@pytest.fixture(scope="module")
def scans() -> list[Scan]:
    """Eight phantoms, and the real scan that pydicom's package carries."""
    made = []
    for k in range(8):
        one = phantom.make(k)
        identity = Identity(patient=str(k), study="", instance=str(k))
        made.append(Scan(views=one.views, identity=identity, sex=one.sex, age_years=one.age_years))
    path = get_testdata_file("JPEG2000.dcm", download=False)
    return [*made, decode.decode(Path(str(path)).read_bytes())]


@pytest.fixture(scope="module")
def trained(scans: Sequence[Scan]) -> Predictor:
    """Both networks, trained for a few steps: their maps and ages depend on the picture."""
    torch.manual_seed(0)
    localizer, regressor = Localizer(RECIPE.localizer), Regressor(RECIPE.regressor)
    views = [view for scan in scans[:-1] for view in scan.views]
    ages_N = torch.tensor([scan.age_years for scan in scans[:-1] for _ in scan.views])
    greys = [image.window(image.to_tensor(view.counts), RECIPE.windowing) for view in views]
    inputs_N1HW = image.prepare(greys, RECIPE.localizer.height, RECIPE.localizer.width)
    groups_N = torch.bucketize(ages_N, torch.tensor(RECIPE.localizer.group_edges_years[1:-1]))
    optimizer = torch.optim.Adam(localizer.parameters(), lr=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(localizer(inputs_N1HW)[0], groups_N).backward()
        optimizer.step()
    found = localize(localizer.eval(), RECIPE, views, "cpu")
    crops_N1HW = torch.stack([crop for one in found for crop in regressor_inputs(RECIPE, [one])])
    male_N = torch.tensor([SEX_CODE[scan.sex] for scan in scans[:-1] for _ in scan.views])
    optimizer = torch.optim.Adam(regressor.parameters(), lr=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (F.mse_loss(regressor(crops_N1HW, male_N), ages_N) / 100).backward()
        optimizer.step()
    card = model.Card(recipe=RECIPE, parts={"regressor": model.Part(sha256="")})
    return Predictor(localizer, regressor, card, precision="float32")


@pytest.fixture(scope="module")
def reference(trained: Predictor, scans: Sequence[Scan]) -> list[Prediction]:
    """What the plain networks say in float32, not fused and not folded."""
    plain = _with(trained, "float32")
    plain.fast_localizer, plain.fast_regressor = plain.localizer, plain.regressor
    with mock.patch.object(hardware, "has_bf16", lambda device: False):  # no autocast either
        return plain.predict(scans)


def _with(one: Predictor, precision: str) -> Predictor:
    return Predictor(one.localizer, one.regressor, one.card, precision=precision)


def _near(one: Sequence[float], two: Sequence[float]) -> float:
    """Return the share of ages within a tenth of a year."""
    return float(np.mean(np.abs(np.subtract(one, two)) <= 0.1))


def test_reference_depends_on_the_picture(reference: Sequence[Prediction]) -> None:
    """Else the bounds below would say nothing."""
    assert np.std([each.age_years for each in reference]) > 0.5
    assert len({each.views[0].boxes[0] for each in reference}) > 3


def test_float32_gives_the_references_ages_and_boxes(
    trained: Predictor, scans: Sequence[Scan], reference: Sequence[Prediction]
) -> None:
    """Within a tenth of a year for 99 % of scans; overlaps of 0.95 (median) and 0.85 (5 %)."""
    found = trained.predict(scans)
    assert _near([f.age_years for f in found], [r.age_years for r in reference]) >= 0.99
    shares = overlaps(found, reference)
    assert np.median(shares) >= 0.95
    assert np.quantile(shares, 0.05) >= 0.85


def test_bf16_gives_the_references_boxes(
    trained: Predictor, scans: Sequence[Scan], reference: Sequence[Prediction]
) -> None:
    """Overlaps of 0.95 (median) and 0.85 (5 %)."""
    shares = overlaps(_with(trained, "bfloat16").predict(scans), reference)
    assert np.median(shares) >= 0.95
    assert np.quantile(shares, 0.05) >= 0.85


def test_bf16_regressor_gives_the_references_ages_on_the_same_crops(
    trained: Predictor, scans: Sequence[Scan], reference: Sequence[Prediction]
) -> None:
    """Within a tenth of a year for 99 % of scans."""
    mixed = _with(trained, "float32")
    mixed.fast_regressor = _with(trained, "bfloat16").fast_regressor
    found = mixed.predict(scans)
    assert _near([f.age_years for f in found], [r.age_years for r in reference]) >= 0.99
