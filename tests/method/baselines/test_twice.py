"""Networks that look at a picture twice: what each of them chooses, and from what it learns."""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bae import recipes
from bae.method import baselines, fused, model
from bae.method.baselines import crops, instances, iterated, zooming
from bae.method.networks import Regressor
from bae.method.predictor import Predictor
from bae.method.trunks import Trunk
from bae.scan import Identity, Scan, View
from bae.training import tasks

NAMES = ("small_attention_mil", "small_ra_cnn", "small_chen")
WIDTH, HEIGHT = 64, 192
ROWS, COLUMNS = instances.ROWS, instances.COLUMNS


def _recipe(name: str) -> recipes.Recipe:
    changes = [f"regressor.width={WIDTH}", f"regressor.height={HEIGHT}"]
    return recipes.recipe(name, [*changes, "regressor.hidden_neurons=16", "regressor.dropout=0.05"])


def _network(name: str) -> Regressor:
    torch.manual_seed(0)
    return baselines.build(_recipe(name).regressor)


def _pictures(ages_N: Tensor) -> Tensor:
    """Return noise, and at one place a square as bright as the age."""
    generator = torch.Generator().manual_seed(1)
    pictures = 0.3 * torch.rand(len(ages_N), 1, HEIGHT, WIDTH, generator=generator)
    pictures[:, :, 48:80, 16:48] += (ages_N / 100).view(-1, 1, 1, 1)
    return pictures.clamp(0, 1)


def _batch(n: int = 6) -> tasks.Batch:
    ages_N = torch.linspace(42, 78, n)
    male_N = torch.arange(n).float() % 2
    male_N[0] = torch.nan
    return tasks.Batch(
        grey_N1HW=_pictures(ages_N),
        male_N=male_N,
        age_N=ages_N,
        group_N=torch.zeros(n, dtype=torch.int64),
        scan_ids=[str(i) for i in range(n)],
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_lower_the_loss_and_reach_every_parameter(name: str) -> None:
    """As ``DistributedDataParallel`` asks; the first step is in bf16."""
    network, batch, loss_of = _network(name), _batch(), tasks.regressor(_recipe(name)).loss
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for step in range(10):
        with torch.autocast("cpu", torch.bfloat16, enabled=step < 1):
            loss = loss_of(network, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        missing = [key for key, value in network.named_parameters() if value.grad is None]
        assert missing == []
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-2:]) < 0.75 * np.mean(losses[:2]), losses


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", NAMES)
def test_several_processes_can_train_it(name: str, alone: None) -> None:
    """The second step is refused where a parameter of the first had no gradient."""
    wrapped = nn.parallel.DistributedDataParallel(_network(name))
    for _ in range(2):
        tasks.regressor(_recipe(name)).loss(wrapped, _batch(2)).backward()


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_finite_for_one_picture_a_black_one_and_unknown_sex(name: str) -> None:
    network = _network(name).eval()
    black = torch.zeros(1, 1, HEIGHT, WIDTH)
    with torch.inference_mode():
        for picture in (black, torch.ones_like(black), _pictures(torch.tensor([50.0]))):
            for male in (0.0, 1.0, torch.nan):
                years = network(picture, torch.tensor([male]))
                assert years.shape == (1,) and years.isfinite().all()
            assert network.ensemble(network.look(picture).pooled_NF, torch.ones(1)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_fast_form_gives_the_same_ages_and_boxes(name: str) -> None:
    network, batch = _network(name), _batch()
    network.lessons(batch.grey_N1HW, batch.male_N)  # batch norms have seen something
    network.eval()
    with torch.inference_mode():
        quick = fused.fast(network, "float32")
        plain, sooner = network.look(batch.grey_N1HW), quick.look(batch.grey_N1HW)
        ages = network.answer(plain.pooled_NF, batch.male_N)
        assert (quick.answer(sooner.pooled_NF, batch.male_N) - ages).abs().max() < 1e-3
    assert plain.boxes_NR4 is not None and sooner.boxes_NR4 is not None
    assert (plain.boxes_NR4 - sooner.boxes_NR4).abs().max() < 1e-4
    trunks = [type(m) for m in quick.modules() if isinstance(m, Trunk | fused.FusedTrunk)]
    assert trunks == [fused.FusedTrunk] * (3 if name == "small_ra_cnn" else 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_boxes_lie_inside_the_picture(name: str, dtype: torch.dtype) -> None:
    network = _network(name).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, dtype != torch.float32):
        seen = network.look(_batch().grey_N1HW)
    assert seen.boxes_NR4 is not None and seen.heat_NVU is not None
    low, high = seen.boxes_NR4.chunk(2, dim=2)
    assert low.min() >= 0 and high.max() <= 1
    assert (high - low).min() > 0.05
    assert seen.heat_NVU.isfinite().all() and seen.heat_NVU.shape[0] == 6


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_carries_heat_and_boxes(name: str) -> None:
    """In the stored view's own pixels."""
    card = model.Card(recipe=_recipe(name), parts={"regressor": model.Part(sha256="")})
    counts = (100 * _pictures(torch.tensor([60.0]))[0, 0, :, :60]).numpy().astype(np.uint16)
    scan = Scan(
        views=(View(name="anterior", counts=counts),),
        identity=Identity(patient="p", study="s", instance="i"),
        sex=None,
    )
    (view,) = Predictor(None, _network(name), card).predict([scan])[0].views
    assert view.heat.size and np.ptp(view.heat) == 255
    assert len(view.boxes) == {"small_attention_mil": 6, "small_ra_cnn": 2, "small_chen": 3}[name]
    for box in view.boxes:
        assert 0 <= box.x0 < box.x1 <= 60 and 0 <= box.y0 < box.y1 <= HEIGHT


def test_a_crop_on_pixel_edges_is_a_slice() -> None:
    picture = torch.rand(2, 1, 24, 16, generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor([[[4, 6, 10, 18], [0, 12, 6, 24]], [[10, 0, 16, 12], [3, 3, 9, 15]]])
    got = crops.cut(picture, pixels / torch.tensor([16, 24, 16, 24]), (12, 6)).view(2, 2, 12, 6)
    for n in range(2):
        for r in range(2):
            x0, y0, x1, y1 = pixels[n, r].tolist()
            torch.testing.assert_close(got[n, r], picture[n, 0, y0:y1, x0:x1])


def test_map_of_boxes_counts_them_by_area() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.25, 0.25, 0.75, 0.5]]])
    expected = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    expected += torch.tensor([[[0.25, 0.25], [0.0, 0.0]]])
    torch.testing.assert_close(crops.covered(boxes, (2, 2)), expected)


def _instances() -> instances.Instances:
    network = _network("small_attention_mil")
    assert isinstance(network, instances.Instances)
    return network.eval()


def test_tiles_are_pieces_of_the_picture_in_the_order_of_their_boxes() -> None:
    picture = torch.rand(2, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    network = _instances()
    half = nn.functional.avg_pool2d(picture, 2)
    tiles = crops.cut(half, network.boxes_C4.expand(2, -1, 4), (8, 8)).view(2, -1, 8, 8)
    torch.testing.assert_close(network._tiles(picture), tiles)


def test_attention_sums_to_one_and_leaves_empty_tiles_out() -> None:
    pictures = _pictures(torch.tensor([50.0, 60.0]))
    pictures[:, :, : HEIGHT // 3] = 0
    with torch.inference_mode():
        seen = _instances().look(pictures)
        black = _instances().look(torch.zeros_like(pictures))
    assert seen.heat_NVU is not None and black.heat_NVU is not None
    torch.testing.assert_close(seen.heat_NVU.sum(dim=(1, 2)), torch.ones(2))
    assert (seen.heat_NVU[:, : ROWS // 3] == 0).all() and (seen.heat_NVU[:, ROWS // 3 :] > 0).all()
    torch.testing.assert_close(black.heat_NVU, torch.full((2, ROWS, COLUMNS), 1 / ROWS / COLUMNS))


def test_only_the_most_attended_tiles_are_read_in_full_resolution() -> None:
    """A pattern that half the resolution does not show changes the answer in these alone."""
    network, picture = _instances(), _pictures(torch.tensor([60.0])).clamp(0.2, 0.8)
    pattern = 0.2 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
    with torch.inference_mode():
        seen = network.look(picture)
        assert seen.heat_NVU is not None
        chosen = seen.heat_NVU.flatten().topk(instances.CHOSEN).indices.tolist()
        for tile in range(ROWS * COLUMNS):
            y, x = 16 * (tile // COLUMNS), 16 * (tile % COLUMNS)
            changed = picture.clone()
            changed[:, :, y : y + 16, x : x + 16] += pattern
            again = network.look(changed)
            assert again.heat_NVU is not None
            torch.testing.assert_close(again.heat_NVU, seen.heat_NVU)
            moved = (again.pooled_NF - seen.pooled_NF).abs().max() > 1e-4
            assert bool(moved) is (tile in chosen), tile


def _gradients(network: nn.Module, loss: Tensor) -> set[str]:
    """Return the names of the parameters that a loss moves."""
    found = torch.autograd.grad(
        loss, list(network.parameters()), allow_unused=True, retain_graph=True
    )
    names = [name for name, _ in network.named_parameters()]
    return {
        name for name, grad in zip(names, found, strict=True) if grad is not None and grad.any()
    }


def test_zooms_learn_from_ranking_alone_and_scales_from_ages_alone() -> None:
    """The scales ranked give the very answers taught, and leave no mark in batch norms."""
    network, batch = _network("small_ra_cnn"), _batch()
    lessons = network.lessons(batch.grey_N1HW, batch.male_N)
    assert lessons.shape == (7, 6, 1)
    torch.testing.assert_close(lessons[4:], lessons[1:4])
    tracked = [v for k, v in network.named_buffers() if k.endswith("num_batches_tracked")]
    assert tracked and all(int(count) == 1 for count in tracked)
    every = {name for name, _ in network.named_parameters()}
    proposals = {name for name in every if name.startswith("proposals.")}
    ranked = _gradients(network, lessons[5:].square().sum())
    assert ranked == proposals
    assert not lessons[4].requires_grad or not _gradients(network, lessons[4].sum())
    taught = _gradients(network, lessons[:4].square().sum())
    assert not taught & proposals
    assert {name.split(".")[0] for name in taught} == {"trunk", "finer", "own", "head", "sex"}


def test_a_zoom_moves_to_what_lowers_the_error() -> None:
    """A picture that is bright at its top, and scales that answer their crop's brightness."""
    torch.manual_seed(0)
    ramp = torch.linspace(1, 0, HEIGHT)[:, None].expand(4, 1, HEIGHT, WIDTH)
    proposal = zooming.Proposal(8)
    features = torch.rand(4, 8, 12, 4)
    optimizer = torch.optim.Adam(proposal.parameters(), lr=1e-2)
    first = proposal(features).detach()
    for _ in range(20):
        optimizer.zero_grad()
        error = 1 - crops.cut(ramp, proposal(features)[:, None], (24, 8)).mean()
        error.backward()
        optimizer.step()
    last = proposal(features).detach()
    assert (last[:, 1] < first[:, 1] - 0.05).all()


def test_no_zoom_leaves_the_picture_whatever_is_proposed() -> None:
    proposal = zooming.Proposal(8)
    proposal.layers[2].weight.data *= 1000
    low, high = proposal(torch.randn(200, 8, 12, 4)).detach().chunk(2, dim=1)
    assert low.min() > -1e-5 and high.max() < 1 + 1e-5
    assert (high - low).min() > 1 / 3 - 1e-5 and (high - low).max() < 2 / 3 + 1e-5
    assert low.min() < 0.01 and high.max() > 0.99, "but each place can be reached"


def test_a_zoom_of_a_zoom_is_a_share_of_it() -> None:
    outer, inner = torch.tensor([[0.2, 0.4, 0.6, 0.8]]), torch.tensor([[0.5, 0.25, 1.0, 0.75]])
    expected = torch.tensor([[0.4, 0.5, 0.6, 0.7]])
    torch.testing.assert_close(zooming._inside(outer, inner), expected)


def test_regions_follow_the_heat_and_do_not_overlap() -> None:
    """Hottest first; not where the picture is black; the next one elsewhere, also without heat."""
    heat = torch.zeros(2, *iterated.CELLS)
    heat[0, 20:28, 4:12] = 1.0
    heat[0, 24:32, 8:16] = 2.0  # hotter, and overlapping
    heat[0, 40:48, 0:8] = 0.5
    heat[0, 0:8, 0:8] = 9.0
    black = torch.zeros(2, *iterated.CELLS, dtype=torch.bool)
    black[0, 0:8, 0:8] = True
    boxes = iterated.discriminative(heat, black)
    cells = (boxes * torch.tensor([16, 48, 16, 48])).round()
    assert cells[0, 0].tolist() == [8, 24, 16, 32]
    assert [0, 40, 8, 48] in cells[0].tolist()
    for own in (
        *boxes,
        *iterated.discriminative(torch.rand(5, 12, 4), black[1:].expand(5, -1, -1)),
    ):
        covering = crops.covered(own[None], iterated.CELLS)
        assert covering.max() <= 1 + 1e-5
        torch.testing.assert_close(covering.sum(), torch.tensor(3.0 * iterated.SIDE**2))


def test_heat_is_the_map_of_the_years_that_are_answered() -> None:
    """In plain loops; the same for an answer whose scores all rise alike."""
    rng = np.random.default_rng(0)
    features, weight = rng.random((2, 3, 4, 2)), rng.normal(size=(5, 3))
    scores = rng.normal(size=(2, 5))
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = np.zeros((2, 4, 2))
    for n in range(2):
        for b in range(5):
            for f in range(3):
                expected[n] += (p[n, b] - 1 / 5) * weight[b, f] * features[n, f]
    given = [torch.tensor(v, dtype=torch.float32) for v in (features, weight, scores)]
    torch.testing.assert_close(iterated.answer_heat(*given), torch.tensor(expected).float())
    shifted = given[1] + torch.tensor([3.0, -1.0, 2.0])
    torch.testing.assert_close(
        iterated.answer_heat(given[0], shifted, given[2]), torch.tensor(expected).float()
    )
    single = iterated.answer_heat(given[0], given[1][:1], given[2][:, :1])
    torch.testing.assert_close(single, torch.einsum("f,nfvu->nvu", given[1][0], given[0]))


def test_where_the_whole_looks_is_given_to_the_regions() -> None:
    """No gradient passes through the choice; the whole alone is taught by its own answer."""
    network, batch = _network("small_chen"), _batch()
    lessons = network.lessons(batch.grey_N1HW, batch.male_N)
    own = {name.split(".")[0] for name in _gradients(network, lessons[1].square().sum())}
    assert own == {"trunk", "own"}
    answer = {name.split(".")[0] for name in _gradients(network, lessons[0].square().sum())}
    assert answer == {"trunk", "finer", "head", "sex"}


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_odd_sizes_are_read_too(name: str) -> None:
    """Sizes that no tile, crop or half divides."""
    changes = ["regressor.width=70", "regressor.height=201", "regressor.hidden_neurons=8"]
    network = baselines.build(recipes.recipe(name, changes).regressor).eval()
    again = copy.deepcopy(network)
    again.load_state_dict(network.state_dict())
    picture = torch.rand(2, 1, 201, 70)
    with torch.inference_mode():
        first = network(picture, torch.ones(2))
        assert first.isfinite().all() and torch.equal(first, again(picture, torch.ones(2)))
