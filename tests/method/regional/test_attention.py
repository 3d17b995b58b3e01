"""Bags of pictures and the network that reads them: what must hold for any weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bae import recipes
from bae.method import fused
from bae.method.prediction import LocalizedView
from bae.method.regional import bag
from bae.method.regional.attention import Attention, weigh
from bae.method.regional.reader import Seen
from bae.scan import Box, Identity, Scan, View
from bae.training import stack, tasks

RECIPE = recipes.recipe("best", ["regressor.hidden_neurons=16", "region.count=2"])
PICTURES = 6
NOBODY = Identity(patient="p", study="s", instance="i")


def network(seed: int = 0) -> Attention:
    """Random weights, batch norms that do something."""
    torch.manual_seed(seed)
    made = Attention(RECIPE.regressor)
    made.train()
    made(*bags(8), torch.full((8,), -1))
    return made.eval()


def bags(scans: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, places and sexes; the last picture of every second scan is not there."""
    torch.manual_seed(seed)
    places = torch.rand(scans, PICTURES, 4)
    places[::2, -1] = torch.nan
    return torch.rand(scans, PICTURES, 64, 64), places, (torch.arange(scans) % 2).float()


def labelled(scans: int, ages: Tensor, folds: Tensor) -> tasks.Batch:
    """Bags with ages, and the member that may not see each."""
    pictures, places, male = bags(scans)
    return tasks.Batch(
        grey_N1HW=pictures,
        male_N=male,
        age_N=ages,
        group_N=torch.zeros(scans, dtype=torch.int64),
        places_NCP=places,
        fold_N=folds,
        scan_ids=[f"s{i}" for i in range(scans)],
    )


def test_a_bag_has_no_order() -> None:
    """Shuffled pictures with their places give shuffled weights and the same age."""
    made, (pictures, places, male) = network(), bags(3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one, two = (
        made.say(pictures, places, male),
        made.say(pictures[:, order], places[:, order], male),
    )
    torch.testing.assert_close(one.ages_MN, two.ages_MN, rtol=0, atol=1e-3)
    torch.testing.assert_close(one.weight_MNC[:, :, order], two.weight_MNC, rtol=0, atol=1e-5)


def test_what_is_not_there_says_nothing() -> None:
    """Its pixels do not matter and its weight is 0; a scan without any picture has an answer."""
    made, (pictures, places, male) = network(), bags(4)
    other = pictures.clone()
    other[::2, -1] = 0.3
    torch.testing.assert_close(made(pictures, places, male), made(other, places, male))
    assert made.say(pictures, places, male).weight_MNC[:, ::2, -1].max() == 0
    assert made(pictures, torch.full_like(places, torch.nan), male).isfinite().all()


def test_weights_sum_to_one_and_years_to_the_age() -> None:
    """For each member; attention differs between pictures."""
    made = network()
    made.mean_years.fill_(55.0)
    said = made.say(*bags(5))
    torch.testing.assert_close(said.weight_MNC.sum(dim=2), torch.ones(3, 5))
    torch.testing.assert_close(said.ages_MN, 55.0 + said.years_MNC.sum(dim=2))
    assert said.weight_MNC[:, 1].std(dim=1).min() > 0
    assert said.ages_MN.std(dim=0).min() > 0


def test_unknown_sex_is_the_mean_of_both_answers() -> None:
    """As for the other networks."""
    made, (pictures, places, male) = network(), bags(2)
    women, men, unknown = (
        made(pictures, places, torch.full_like(male, sex)) for sex in (0.0, 1.0, torch.nan)
    )
    assert (women - men).abs().min() > 0
    torch.testing.assert_close(unknown, (women + men) / 2)


def test_rewritten_for_speed_it_says_the_same() -> None:
    """Every member."""
    made = network()
    made.share.fill_(0.25)
    quick = fused.fast(made)
    torch.testing.assert_close(quick(*bags(3)), made(*bags(3)), rtol=0, atol=2e-2)
    assert float(quick.share) == 0.25


def test_a_member_learns_nothing_from_its_own_fold() -> None:
    """All scans of a batch in fold 1: its gradient is 0 and the others' are not."""
    made = network().train()
    folds = torch.ones(6, dtype=torch.int64)
    batch = labelled(6, torch.linspace(40, 80, 6), folds)
    tasks.regions(RECIPE).loss(made, batch).backward()
    sizes = [
        sum(float(w.grad.abs().sum()) for w in member.parameters() if w.grad is not None)
        for member in made.members
    ]
    assert sizes[1] == 0 and sizes[0] > 0 and sizes[2] > 0
    # every weight has a gradient, which data-parallel training waits for
    assert all(w.grad is not None for w in made.members[1].parameters())


def test_a_scan_of_no_age_makes_the_loss_not_finite() -> None:
    """So that training stops with its name, as for the other networks."""
    ages = torch.tensor([50.0, torch.nan, 60.0, 70.0])
    batch = labelled(4, ages, torch.zeros(4, dtype=torch.int64))
    assert tasks.regions(RECIPE).loss(network().train(), batch).isnan()


# ---- bags ---------------------------------------------------------------------------------

BOXES = [
    Box(10, 20, 30, 40, 0.3, weight=0.4, crown_sole=0.1, midline=0.0, name="skull", years=2.0),
    Box(40, 60, 60, 80, 0.2, weight=0.1, crown_sole=0.5, midline=-0.1, name="hip", years=-1.0),
]


def scan(*names: str) -> Scan:
    """A scan whose pixels tell their row and column."""
    rows, columns = np.indices((200, 100))
    views = [View(name=n, counts=(rows + 3 * columns + 1).astype(np.uint16)) for n in names]
    return Scan(views=tuple(views), identity=NOBODY, sex="F")


def seen(*kinds: str | None) -> Seen:
    """What a linear model might say of it."""
    view = LocalizedView(
        view="x", heat=np.zeros((1, 1), np.uint8), boxes=BOXES, grey=torch.empty(0, 0)
    )
    shown = tuple(view for _ in kinds)
    named = sum(kind is not None for kind in kinds)
    return Seen(years=61.0, spread=1.0, view_years=(61.0,) * named, views=shown, kinds=kinds)


def test_a_bag_holds_the_squares_and_the_whole_view() -> None:
    """Cut as stored: bright to the right and below; posterior ones in the second half."""
    plain = recipes.recipe("best", ["region.count=2", "windowing.power=1", "regressor.height=32",
                                    "regressor.width=32", "windowing.percentile=100"])  # fmt: skip
    both = scan("posterior", "anterior")
    filled = bag.fill(both.views, seen("posterior", "anterior"), plain)
    assert filled.pictures_CHW.shape == (6, 32, 32)
    assert filled.places_CP.tolist() == [
        [0, 1, 0.5, 0], [0, 0, pytest.approx(0.1), 0], [0, 0, 0.5, pytest.approx(-0.1)],
        [1, 1, 0.5, 0], [1, 0, pytest.approx(0.1), 0], [1, 0, 0.5, pytest.approx(-0.1)],
    ]  # fmt: skip
    highest = 199 + 3 * 99 + 1
    expected = (np.mean([20, 39]) + 3 * np.mean([10, 29]) + 1) / highest
    assert float(filled.pictures_CHW[1].mean()) == pytest.approx(expected, abs=0.002)
    assert filled.pictures_CHW[0, 0, 0] < 0.05 < 0.9 < filled.pictures_CHW[0, -1, -1]


def test_views_that_have_no_part_leave_their_places_empty() -> None:
    """One view alone; a second view of a kind."""
    alone = bag.fill(scan("posterior").views, seen("posterior"), RECIPE)
    assert alone.places_CP.isnan().all(dim=1).tolist() == [True] * 3 + [False] * 3
    two = bag.fill(scan("anterior", "anterior").views, seen("anterior", None), RECIPE)
    assert two.places_CP.isnan().all(dim=1).tolist() == [False] * 3 + [True] * 3


def test_a_margin_shows_what_lies_round_a_square() -> None:
    """The middle stays what it was."""
    own = scan("anterior")
    near = bag.fill(own.views, seen("anterior"), RECIPE)
    wide = bag.fill(own.views, seen("anterior"), RECIPE, margin=0.25)
    assert wide.pictures_CHW.shape[-1] == 96
    middle = wide.pictures_CHW[:, 16:-16, 16:-16]
    torch.testing.assert_close(middle[1:3], near.pictures_CHW[1:3], rtol=0, atol=0.02)
    torch.testing.assert_close(middle[0], near.pictures_CHW[0])


def test_the_answer_is_shared_between_network_and_linear_model() -> None:
    """All of the one, all of the other, and halves; weights of the squares sum to one."""
    made, scans = network(), [scan("anterior", "posterior"), scan("posterior")]
    told = [seen("anterior", "posterior"), seen("posterior")]
    found = {}
    for share in (0.0, 0.5, 1.0):
        made.share.fill_(share)
        found[share] = weigh(made, RECIPE, scans, [s.views for s in scans], told)
    for i, one in enumerate(told):
        linear, half, net = (found[share][i] for share in (0.0, 0.5, 1.0))
        assert linear.years == one.years and linear.view_years == pytest.approx(one.view_years)
        assert half.years == pytest.approx((linear.years + net.years) / 2)
        boxes = [box for view in net.views for box in view.boxes]
        assert sum(box.weight or 0 for box in boxes) == pytest.approx(1)
        assert linear.views[0].boxes == BOXES
    # one view alone says what it says among none
    assert found[1.0][1].view_years[0] == pytest.approx(found[1.0][1].years, abs=1e-3)


# ---- stacking -----------------------------------------------------------------------------


def test_the_share_is_what_errs_least_squared() -> None:
    """Against a search; never below 0 or above 1; two that agree share nothing."""
    rng = np.random.default_rng(0)
    years = rng.uniform(40, 80, 200)
    one, two = years + rng.normal(0, 3, 200), years + rng.normal(0, 5, 200)
    tried = np.linspace(0, 1, 1001)
    best = tried[[np.square(s * one + (1 - s) * two - years).sum() for s in tried].index(
        min(np.square(s * one + (1 - s) * two - years).sum() for s in tried))]  # fmt: skip
    assert stack.share(one, two, years) == pytest.approx(best, abs=1e-3)
    assert stack.share(2 * years - two, two, years) == pytest.approx(0.5)
    assert stack.share(two + 10, two, two - 5) == 0 and stack.share(one, one, years) == 0
    assert stack.share(two + 1, two, two + 5) == 1


def test_each_scan_is_told_by_the_member_that_did_not_see_it() -> None:
    """Fold m is told by member m."""
    made, task = network(), tasks.regions(RECIPE)
    pictures, places, male = bags(3)
    edge = task.sample_shape[1] - 64
    padded = torch.nn.functional.pad(pictures, (edge // 2, edge - edge // 2) * 2)
    batch = tasks.Batch(
        grey_N1HW=padded,
        male_N=male,
        age_N=torch.full((3,), 60.0),
        group_N=torch.zeros(3, dtype=torch.int64),
        places_NCP=places,
        fold_N=torch.tensor([2, 0, 1], dtype=torch.int8),
        scan_ids=["a", "b", "c"],
    )
    told = stack.held_out(made, [batch], task)
    ages = made.say(pictures, places, male).ages_MN.detach()
    expected = {"a": ages[2, 0], "b": ages[0, 1], "c": ages[1, 2]}
    assert told == pytest.approx({name: float(age) for name, age in expected.items()}, abs=1e-3)


def test_only_the_stack_has_a_share() -> None:
    """Recipe regions answers by its network alone."""
    made = network()
    own, linear = {"a": 50.0, "b": 70.0}, {"a": 60.0, "b": 60.0}
    said, years = stack.settle(made, own, linear, {"a": 55.0, "b": 65.0}, stacked=False)
    assert years == own
    assert float(made.share) == 1 and said["held_out_mae_years"] == said["network_mae_years"] == 5
    said, years = stack.settle(made, own, linear, {"a": 55.0, "b": 65.0}, stacked=True)
    assert float(made.share) == pytest.approx(0.5) and said["held_out_mae_years"] == 0
    assert years == {"a": 55.0, "b": 65.0}


def test_recipes_say_which_method_they_are() -> None:
    """No section alone turns one method into another."""
    for name, method in (("regions", "regions"), ("small_regions", "regions"), ("best", "stack")):
        assert recipes.recipe(name).method == method
        assert replace(recipes.recipe(name), name="x").region.parts == "several"
    reading = {name for name in recipes.RECIPES if recipes.recipe(name).reads_squares}
    assert reading == {"regions", "small_regions", "best"}


def test_data_parallel_training_waits_for_no_member(tmp_path: Path) -> None:
    """A worker whose scans a member must not see: the next step begins all the same."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(network().train())
        batch = labelled(4, torch.linspace(40, 80, 4), torch.ones(4, dtype=torch.int64))
        losses = []
        for _ in range(2):
            loss = tasks.regions(RECIPE).loss(wrapped, batch)
            loss.backward()
            losses.append(float(loss))
        assert np.isfinite(losses).all()
    finally:
        torch.distributed.destroy_process_group()
