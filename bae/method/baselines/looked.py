"""What a regressor says of where it looked, as a heat map and boxes of the stored view."""

from dataclasses import replace

import numpy as np

from bae.method.boxes import heat_shares
from bae.method.heatmap import to_byte_scale
from bae.method.networks import Look
from bae.method.prediction import LocalizedView
from bae.scan import Box


def looked(found: LocalizedView, seen: Look, n: int) -> LocalizedView:
    """Return a view with the heat, and the boxes, of a regressor that says where it looked.

    Args:
        found: the whole view.
        seen: of a batch.
        n: which of its pictures is the view.
    """
    assert seen.heat_NVU is not None
    heat_VU = seen.heat_NVU[n]
    heat = to_byte_scale(heat_VU[None])[0].cpu().numpy()
    made = replace(found, heat=heat, heat_min=float(heat_VU.min()), heat_max=float(heat_VU.max()))
    if seen.boxes_NR4 is None:
        return made
    rows, columns = found.grey.shape
    share_R4 = seen.boxes_NR4[n].double().cpu().numpy()
    edges = np.rint(share_R4 * (columns, rows, columns, rows)).astype(np.int64)
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2] + 1)  # a box of a pixel, at least
    inside = heat_shares(heat, (rows, columns), edges).tolist()
    return replace(
        made,
        boxes=[
            Box(x0, y0, x1, y1, share)
            for (x0, y0, x1, y1), share in zip(edges.tolist(), inside, strict=True)
        ],
    )
