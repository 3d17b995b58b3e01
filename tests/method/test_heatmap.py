"""Eqs. (1) and (2)."""

import numpy as np
import pytest
import torch

from bae import recipes
from bae.method.heatmap import class_heatmap, to_byte_scale
from bae.method.networks import Localizer


@pytest.mark.parametrize("trunk", ["resnet10", "resnet50"])
def test_heatmap_equals_autograd_gradcam(trunk: str) -> None:
    """The closed form gives what differentiating the head gives."""
    torch.manual_seed(0)
    config = recipes.Localizer(trunk=trunk, weights="none", width=64, height=160)
    network = Localizer(config).eval()
    scores_NK, features_NFVU = network(torch.rand(3, 1, 160, 64))
    group_N = torch.tensor([0, 3, 1])
    chosen = scores_NK[torch.arange(3), group_N].sum()
    (gradient_NFVU,) = torch.autograd.grad(chosen, features_NFVU)
    w_NF = gradient_NFVU.mean(dim=(2, 3))  # Eq. (1)
    expected = (w_NF[:, :, None, None] * features_NFVU).sum(dim=1)  # Eq. (2), no ReLU
    got = class_heatmap(features_NFVU, network.head.weight, group_N)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert (got < 0).any(), "without a ReLU some heat is negative"


def test_cam_is_gradcam_up_to_a_factor_and_relu_takes_what_is_negative() -> None:
    """Zhou et al. 2016 and Selvaraju et al. 2017 on a pooled linear head, by plain loops."""
    rng = np.random.default_rng(4)
    features, weight = rng.normal(size=(2, 5, 4, 3)), rng.normal(size=(4, 5))
    groups = [2, 0]
    cam = np.array(
        [
            [(weight[g] * features[n, :, v, u]).sum() for v in range(4) for u in range(3)]
            for n, g in enumerate(groups)
        ]
    ).reshape(2, 4, 3)
    asked = (torch.tensor(features), torch.tensor(weight), torch.tensor(groups))
    for kind, wanted in (("cam", cam), ("gradcam", cam / 12), ("gradcam_relu", cam.clip(0) / 12)):
        got = class_heatmap(*asked, kind)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6, err_msg=kind)
    same = [to_byte_scale(class_heatmap(*asked, kind)) for kind in ("cam", "gradcam")]
    assert torch.equal(*same), "so boxes and tables are the same"


def test_heatmap_refuses_groups_of_another_count() -> None:
    """A mismatch is an error, not a broadcast."""
    with pytest.raises(ValueError, match="2 feature maps"):
        class_heatmap(torch.rand(2, 8, 4, 4), torch.rand(4, 8), torch.tensor([1]))


def test_byte_scale_spans_0_to_255_in_each_map() -> None:
    """Min-max per map, as ``bae/method/PAPER.md`` says."""
    heat = torch.tensor([[[-3.0, 1.0], [0.0, 5.0]], [[0.1, 0.2], [0.3, 0.4]]])
    scaled = to_byte_scale(heat).numpy()
    for got, source in zip(scaled, heat.numpy(), strict=True):
        expected = np.rint(255 * (source - source.min()) / (source.max() - source.min()))
        assert np.abs(got.astype(float) - expected).max() <= 1
        assert (got.min(), got.max()) == (0, 255)


def test_flat_map_becomes_zero() -> None:
    """A map without contrast has no hot place."""
    assert not to_byte_scale(torch.full((1, 3, 3), 7.0)).any()
