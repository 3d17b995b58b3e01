"""Uptake against age: a planted slope is found, and few people show nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from bae.evaluation import metrics, pages, plots
from bae.evaluation.regions import uptake_by_age
from bae.evaluation.regions.uptake_by_age import NAMES
from bae.method.regional.frame import FRAME
from bae.method.regional.uptake import HALF
from bae.scan import ANTERIOR, POSTERIOR

LUMBAR, KNEES = NAMES.index("lumbar spine"), NAMES.index("knees")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.bootstrap, "__kwdefaults__", {"draws": 200, "seed": 0})


def _body() -> torch.Tensor:
    """Half a body: a broad band down the frame."""
    body_YH = torch.zeros(FRAME[0], HALF, dtype=torch.bool)
    body_YH[12:220, 22:] = True  # narrower than its hands would lie
    return body_YH


def _people(women: int, men: int) -> pa.Table:
    """Two scans each."""
    rng = np.random.default_rng(0)
    sexes = [s for s in ["F"] * women + ["M"] * men for _ in range(2)]
    keys = [f"{i // 2:03d}" for i in range(len(sexes))]
    return pa.table(
        {"sex": sexes, "age_years": rng.uniform(30, 85, len(sexes)), "patient_key": keys}
    )


def test_a_planted_slope_is_found_in_its_place_and_sex() -> None:
    """From counts on the frame to the table: uptake of the lumbar spine, of women alone."""
    scans = _people(20, 20)
    ages = scans["age_years"].to_numpy()
    woman = np.array(scans["sex"].to_pylist()) == "F"
    body_YH = _body()
    counts = torch.cat([body_YH, body_YH.flip(-1)], dim=1).float()
    place = torch.from_numpy(uptake_by_age._named() == LUMBAR)
    rng = np.random.default_rng(1)
    views = []
    for age, sex in zip(ages, woman, strict=True):
        view = counts.clone()
        view[place] *= 3 * np.exp(-0.012 * (age - 55) * sex + 0.03 * rng.standard_normal())
        views.append(view * rng.uniform(0.5, 2.0))  # dose and camera are no uptake
    log_NP = uptake_by_age.measured(torch.stack(views), body_YH)
    assert log_NP[:, KNEES] == pytest.approx(np.zeros(len(ages)), abs=0.03)  # its edge
    assert np.isnan(log_NP[:, NAMES.index("hands")]).all()  # this body has none
    found = uptake_by_age.trends(scans, {ANTERIOR: log_NP})
    rows = {(row["region"], row["sex"]): row for row in uptake_by_age.table(found)}
    wanted = 100 * np.expm1(-0.12)
    woman_row, man_row = rows["lumbar spine", "F"], rows["lumbar spine", "M"]
    # the faintest count that a logarithm knows, and the blur at the place's edge, take a little
    assert woman_row["percent_per_decade"] == pytest.approx(wanted, abs=1.5)
    assert woman_row["percent_per_decade_high"] < -5
    assert man_row["percent_per_decade_low"] < 0 < man_row["percent_per_decade_high"]
    assert (woman_row["scans"], woman_row["patients"], woman_row["view"]) == (40, 20, ANTERIOR)
    assert "lumbar spine" in pages.page_of(list(rows.values()))


def _made(scans: pa.Table, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {k: rng.standard_normal((len(scans), len(NAMES))) for k in (ANTERIOR, POSTERIOR)}
    found[POSTERIOR][:, LUMBAR] = 0.02 * scans["age_years"].to_numpy()
    return found


def test_the_interval_is_over_patients() -> None:
    """A hundred scans of one of ten people tell no more than a few."""
    scans = _people(10, 0)
    many = pa.concat_tables([scans, *[scans[:1]] * 100])
    found = _made(scans)
    repeated = {k: np.concatenate([v, *[v[:1]] * 100]) for k, v in found.items()}
    one, two = (
        next(t for t in uptake_by_age.trends(s, f) if (t.region, t.view) == ("skull", ANTERIOR))
        for s, f in ((scans, found), (many, repeated))
    )
    assert two.patients == 10 and two.scans == 120
    assert two.percent.high - two.percent.low > 0.5 * (one.percent.high - one.percent.low)


def test_few_people_show_nothing() -> None:
    """Four men are left out, and with them the women, from whom they would follow."""
    scans = _people(12, 4)
    assert uptake_by_age.trends(scans, _made(scans)) == []
    assert uptake_by_age.figure([]) is None
    # who does not show a place is not of its group
    scans = _people(12, 12)
    found = _made(scans)
    found[ANTERIOR][8:, KNEES] = np.nan
    made = uptake_by_age.trends(scans, found)
    assert not [one for one in made if (one.region, one.view) == ("knees", ANTERIOR)]
    assert {one.sex for one in made if (one.region, one.view) == ("knees", POSTERIOR)} == {"F", "M"}


def test_the_surest_places_are_drawn() -> None:
    """Twelve at most, from head to foot, the planted one among them; ages as tables tell them."""
    scans = _people(12, 12)
    made = uptake_by_age.trends(scans, _made(scans))
    figure = uptake_by_age.figure(made)
    assert figure is not None
    titles = [axis.get_title().split(",")[0] for axis in figure.axes if axis.get_visible()]
    assert len(titles) == uptake_by_age.MOST_PANELS
    assert titles == sorted(titles, key=NAMES.index)
    assert "lumbar spine,\nposterior" in [axis.get_title() for axis in figure.axes]
    assert all(np.array_equal(one.age_N, np.round(one.age_N, 1)) for one in made)
    assert plots.png(figure).startswith(b"\x89PNG")
