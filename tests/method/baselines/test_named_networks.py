"""The networks that the paper names beside its own: sizes, answers, training, the fast form."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bae import recipes
from bae.errors import RecipeError
from bae.method import baselines, fused, model
from bae.method.baselines.by_region import BANDS
from bae.method.networks import Regressor
from bae.method.trunks import named
from bae.training import tasks
from tests.method.test_fused import _lived_in

NAMES = ("lenet5", "googlenet", "bonet", "caffenet", "caffenet_regions", "lee")
SMALL = [f"small_{name}" for name in NAMES]

LENET5 = (3 * 25 + 1) * 6 + (6 * 25 + 1) * 16 + (16 * 25 + 1) * 120  # C1, C3, C5
GOOGLENET = 6_624_904 - (1024 + 1) * 1000  # torchvision's page, less the classifier
ALEXNET = 2_469_696  # torchvision's 61,100,840 less 58,631,144 in three linear layers
# kernel 11, 5, 3, 3, 3 without bias, two numbers of batch norm; then the deformation's two layers
BONET = (
    (3 * 121 + 2) * 96
    + (96 * 25 + 2) * 256
    + (256 * 9 + 2) * 512
    + (512 * 9 + 2) * 1024
    + (1024 * 9 + 2) * 1024
    + (1024 * 32 + 1) * 32
    + (32 + 1) * 6
)
TRUNKS = dict(zip(NAMES, (LENET5, GOOGLENET, BONET, ALEXNET, 3 * ALEXNET, GOOGLENET), strict=True))


def _size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_trunks_have_the_published_sizes(name: str) -> None:
    """Without what follows the last convolution; nothing of it is computed."""
    config = recipes.recipe(name).regressor
    with torch.device("meta"):
        network = baselines.build(config)
    trunks = [m for m in network.modules() if hasattr(m, "body")]
    assert sum(_size(trunk) for trunk in trunks) == TRUNKS[name]
    assert (config.width, config.height) == ((32, 32) if name == "lenet5" else (250, 750))


def test_auxiliary_heads_have_the_published_sizes() -> None:
    """13,004,888 with both, for a thousand classes (torchvision); here each gives one number."""
    with torch.device("meta"):
        heads = baselines.build(recipes.recipe("googlenet").regressor).heads
    classes = 2 * (1024 + 1) * 999
    assert _size(heads) + classes == 13_004_888 - 6_624_904


def _build(name: str, *changes: str) -> Regressor:
    torch.manual_seed(0)
    network = baselines.build(recipes.recipe(name, changes).regressor).eval()
    _lived_in(network)
    for layer in network.modules():
        if isinstance(layer, named.Deformation):  # no longer the identity
            nn.init.normal_(layer.change[-1].weight, std=0.1)
        if isinstance(layer, Regressor) and hasattr(layer, "head"):  # ages that lie apart
            nn.init.normal_(layer.head[-1].weight)
    return network


def _pictures(network_of: str, n: int) -> Tensor:
    config = recipes.recipe(network_of).regressor
    generator = torch.Generator().manual_seed(1)
    light = torch.linspace(0.2, 1, n).view(-1, 1, 1, 1)
    return light * torch.rand(n, 1, config.height, config.width, generator=generator)


SEXES = torch.tensor([0.0, 1.0, float("nan")])


@pytest.mark.parametrize("name", SMALL)
def test_fast_form_and_stored_form_give_the_same_ages(name: str, tmp_path: Path) -> None:
    """A batch or one picture, sex known or not; a model folder brings every tensor back."""
    network, pictures = _build(name), _pictures(name, 3)
    recipe = recipes.recipe(name)
    card = model.save_part(
        str(tmp_path), model.Card(recipe=recipe, parts={}), "regressor", network.state_dict(), {}
    )
    stored = model.load_regressor(str(tmp_path), card)
    fast = fused.fast(network, "float32")
    with torch.inference_mode():
        ages = network(pictures, SEXES)
        spread = network.ensemble(network.look(pictures).pooled_NF, SEXES)
        assert ages.isfinite().all() and ages.shape == (3,) and spread.shape == (32, 3)
        assert ages.std() > 0.1  # they are read from the pictures
        close = {"rtol": 0, "atol": 1e-3}
        torch.testing.assert_close(fast(pictures, SEXES), ages, **close)
        torch.testing.assert_close(fast(pictures[2:], SEXES[2:]), ages[2:], **close)
        assert torch.equal(stored(pictures, SEXES), ages)
        half = fused.fast(network, "bfloat16")(pictures, SEXES)
    assert (half - ages).abs().max() < 1


@pytest.mark.parametrize("name", SMALL)
def test_training_lowers_the_loss(name: str) -> None:
    """A few steps on one batch; dropout is the same each time."""
    task = tasks.regressor(recipes.recipe(name))
    torch.manual_seed(0)
    network = task.build().train()
    batch = tasks.Batch(
        grey_N1HW=_pictures(name, 3),
        male_N=SEXES,
        age_N=torch.tensor([45.0, 60.0, 75.0]),
        group_N=torch.zeros(3, dtype=torch.int64),
        scan_ids=["a", "b", "c"],
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(9):
        torch.manual_seed(1)
        loss = task.loss(network, batch)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in network.parameters())  # all of it learns
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_lee_scores_years_of_a_body_that_stands_alone() -> None:
    made = recipes.recipe("small_lee")
    assert (made.region.parts, made.regressor.loss) == ("body", "classes")
    lessons = _build("small_lee").lessons(_pictures("small_lee", 2), SEXES[:2])
    assert lessons.shape == (3, 2, 121)


def test_the_first_lesson_is_the_answer_and_the_taps_are_others() -> None:
    """What is counted once is what predicts; each tap counts 0.3 (Szegedy et al. 2015)."""
    network, pictures = _build("small_googlenet"), _pictures("small_googlenet", 2)
    assert network.shares == (1.0, 0.3, 0.3)
    with torch.inference_mode():
        lessons = network.lessons(pictures, SEXES[:2])
        torch.testing.assert_close(network.years(lessons[0]), network(pictures, SEXES[:2]))
    assert not torch.allclose(lessons[1], lessons[2])


def test_a_trunk_without_taps_is_one_sentence() -> None:
    recipe = recipes.recipe("small_googlenet", ["regressor.trunk=small_vgg19"])
    with pytest.raises(RecipeError, match="small_vgg19 has no two taps"):
        baselines.build(recipe.regressor)


def test_each_reader_sees_its_band_alone_and_the_answer_is_their_mean() -> None:
    """Feet, which no band holds, move the whole body's answer alone."""
    network, pictures = _build("small_caffenet_regions"), _pictures("small_caffenet_regions", 1)
    other = pictures.clone()
    other[:, :, round(BANDS["pelvis to knees"][1] * pictures.shape[2]) :] = 0
    male = torch.zeros(1)
    with torch.inference_mode():
        before, after = (network.lessons(grey, male) for grey in (pictures, other))
        assert [bool(torch.equal(a, b)) for a, b in zip(before, after, strict=True)] == [
            False, True, True,
        ]  # fmt: skip
        torch.testing.assert_close(network(pictures, male), network.years(before).mean(dim=0))
        thinned = network.ensemble(network.look(pictures).pooled_NF, male)
        assert (thinned.mean() - network(pictures, male)).abs() < 1


def test_a_deformation_starts_as_nothing_and_reads_where_it_says() -> None:
    """Half as long an axis reads the middle half, at twice the scale."""
    layer = named.Deformation(2)
    rows, columns = torch.arange(8.0), torch.arange(4.0)
    features = torch.stack([rows[:, None].expand(8, 4), columns.expand(8, 4)])[None]
    with torch.inference_mode():
        torch.testing.assert_close(layer(features), features)
        layer.change[-1].bias.copy_(torch.tensor([0, 0, 0, 0, -0.5, 0]))
        got = layer(features)
    torch.testing.assert_close(got[0, 0, :, 0], (rows - 3.5) / 2 + 3.5)
    torch.testing.assert_close(got[0, 1], features[0, 1])
