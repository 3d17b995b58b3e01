"""Where age shows: Eqs. (1) and (2).

Shape suffixes: N views, F feature channels, V rows, U columns of the map, K age groups.
"""

import torch
from torch import Tensor


def class_heatmap(
    features_NFVU: Tensor, weight_KF: Tensor, group_N: Tensor, kind: str = "gradcam"
) -> Tensor:
    """Show where each view looks like one age group, by Eqs. (1) and (2).

    For a pooled linear head Y_c = Σ_k W_ck mean(F_k) + b_c the gradient of Eq. (1) is
    constant over the map, W_ck / (U V), so no backward pass is needed. The paper has
    no ReLU, unlike Selvaraju et al. (2017): values may be negative.

    Args:
        features_NFVU: last convolutional output of the trunk.
        weight_KF: weight of the linear head.
        group_N: int64, the age group to explain in each view.
        kind: ``sections.Region.heat``. ``cam`` has W_ck itself for the gradient, the same map
            times U V (Zhou et al. 2016, Eq. 2).

    Returns:
        (N, V, U) float32, unitless, not yet on the 0-255 scale.

    Raises:
        ValueError: features and groups differ in N, or features and weight in K.
    """
    n, k, v, u = features_NFVU.shape
    if group_N.shape != (n,):
        raise ValueError(f"{n} feature maps but groups of shape {tuple(group_N.shape)}")
    if weight_KF.shape[1] != k:
        raise ValueError(f"features have {k} channels, the head {weight_KF.shape[1]}")
    weights_NF = weight_KF[group_N].float() / (1 if kind == "cam" else u * v)
    # autocast would round the sum over thousands of channels to three digits
    with torch.autocast(features_NFVU.device.type, enabled=False):
        heat_NVU = torch.einsum("nk,nkvu->nvu", weights_NF, features_NFVU.float())
    return heat_NVU.relu_() if kind == "gradcam_relu" else heat_NVU


def to_byte_scale(heat_NVU: Tensor) -> Tensor:
    """Put each map on the 0-255 scale by its own minimum and maximum (our reading).

    The paper's γ = 150 needs a scale and names none; see ``bae/method/PAPER.md``. A map
    without any contrast becomes all zero.

    Returns:
        (N, V, U) uint8.
    """
    low_N11 = heat_NVU.amin(dim=(1, 2), keepdim=True)
    span_N11 = heat_NVU.amax(dim=(1, 2), keepdim=True) - low_N11
    scaled_NVU = (heat_NVU - low_N11) / span_N11.clamp_min(torch.finfo(heat_NVU.dtype).tiny)
    return (scaled_NVU * 255).round().to(torch.uint8)
