"""What the cost page says is what its formula gives, and its counts are counted."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bae import recipes
from bae.method import networks

INFRA = Path(__file__).parents[2] / "infra"


def _cost() -> Any:
    spec = importlib.util.spec_from_file_location("bae_cost", INFRA / "cost.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bae_cost"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


cost = _cost()


def test_the_page_shows_the_table() -> None:
    """infra/README.md holds what infra/cost.py prints, and the constants it speaks of."""
    page = (INFRA / "README.md").read_text()
    assert cost.table() in page
    trained = cost.TRAINED_CPU_S
    flop = {part: value / 1e9 for part, value in cost.FORWARD_FLOP.items()}
    for words in (
        f"from DICOM to tables ({cost.SCORED_CPU_S} s",
        f"(localizer {trained['localizer']} s, regressor {trained['regressor']} s)",
        f"n / {cost.SCORED_CPU_S} scans a second",
        f"{flop['localizer']:.1f} GFLOP in the localizer and {flop['regressor']:.1f} in",
        f"a quarter of its {cost.GPU_PEAK_FLOPS / 1e12:.0f} TFLOP/s",
    ):
        assert words in " ".join(page.split()), words
    assert cost.GPU_USE == 0.25


@pytest.mark.parametrize("part", ["localizer", "regressor"])
def test_flops_are_those_of_the_networks(part: str) -> None:
    """Counted by torch while one view goes through."""
    section = getattr(recipes.paper(), part)
    build = {"localizer": networks.Localizer, "regressor": networks.Regressor}[part]
    network = build(section).eval()
    grey_N1HW = torch.zeros(1, 1, section.height, section.width)
    inputs = (grey_N1HW,) if part == "localizer" else (grey_N1HW, torch.zeros(1))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    assert counter.get_total_flops() == pytest.approx(cost.FORWARD_FLOP[part], rel=0.005)


def test_the_formula_worked_out_by_hand() -> None:
    """One hour of two machines at 4 dollars half off and a head: 5 dollars and the requests."""
    machine = replace(cost.CPU, usd_per_hour=4.0, vcpus=1)
    scans = round(2 * (3600 - cost.SECONDS_TO_START) / cost.SCORED_CPU_S)
    hours, usd = cost.scoring(scans, machine, 2)
    assert hours == pytest.approx(1.0, rel=1e-3)
    requests = scans * 0.0004 / 1000 + scans / 64 * 0.005 / 1000
    assert usd == pytest.approx(2 * 4.0 * 0.5 + 0.2016 + requests, rel=1e-3)


def test_a_gpu_waits_for_slow_decoding() -> None:
    """With one CPU and a GPU without end, decoding sets the pace."""
    fast = replace(cost.GPU, vcpus=1, gpus=1000)
    assert cost.scans_per_second(fast) == pytest.approx(1 / cost.DECODE_CPU_S)


def test_training_counts_every_view_of_every_epoch() -> None:
    """The paper's cohort, both networks, one after the other."""
    machine = replace(cost.CPU, vcpus=1)
    hours, _ = cost.training(machine)
    views = 3636 * 0.7 * 2 * recipes.paper().fit_localizer.epochs
    work_s = views * (cost.TRAINED_CPU_S["localizer"] + cost.TRAINED_CPU_S["regressor"])
    assert hours == pytest.approx((work_s + cost.SECONDS_TO_START) / 3600)
    assert recipes.paper().fit_regressor.epochs == cost.EPOCHS
