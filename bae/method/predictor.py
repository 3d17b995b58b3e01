"""The whole method without Ray: ``Predictor.load(uri).predict(scans)``.

Shape suffixes: N views, K age groups, F channels, V rows, U columns of the map, H, W of an
input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae import body
from bae.method import fused, hardware, image, model
from bae.method.baselines.looked import looked
from bae.method.boxes import find_boxes
from bae.method.heatmap import class_heatmap, to_byte_scale
from bae.method.networks import Localizer, Regressor
from bae.method.prediction import LocalizedView, Prediction
from bae.method.regional.attention import Attention, weigh
from bae.method.regional.bodies import Bodies, Seen
from bae.method.regional.reader import Reader
from bae.recipes import Recipe, with_margin
from bae.scan import SEX_CODE, Box, Scan, View


def chosen_views(scan: Scan, recipe: Recipe) -> tuple[View, ...]:
    """Return the views that the recipe asks for; all of them where none has that name."""
    named = tuple(v for v in scan.views if recipe.region.views in ("both", v.name))
    return named or scan.views


def localize(
    localizer: Localizer | None, recipe: Recipe, views: Sequence[View], device: str
) -> list[LocalizedView]:
    """Find age group, heat map and boxes of each view.

    Args:
        localizer: in evaluation mode, on the device. None takes each whole view for its
            region, or the body alone: the way of Table 1's other methods.
        recipe: windowing, input size, γ.
        views: any sizes.
        device: ``cpu`` or ``cuda``.
    """
    alone = recipe.region.parts == "body"
    shown = [body.only_body(view.counts) if alone else view.counts for view in views]
    greys = [image.window(image.to_tensor(counts, device), recipe.windowing) for counts in shown]
    if localizer is not None:
        with hardware.inference(device):
            return localize_windowed(localizer, recipe, views, greys)
    return [
        LocalizedView(
            view=view.name,
            heat=np.empty((0, 0), np.uint8),
            boxes=[_round(counts, alone)],
            grey=grey,
        )
        for view, counts, grey in zip(views, shown, greys, strict=True)
    ]


def _round(counts: body.Counts, alone: bool) -> Box:
    """Return the box round the body alone, or the whole view."""
    x0, y0, x1, y1 = body.extent(counts) if alone else (0, 0, *counts.shape[::-1])
    return Box(x0, y0, x1, y1, 1.0)


def localize_windowed(
    localizer: Localizer, recipe: Recipe, views: Sequence[View], greys: Sequence[Tensor]
) -> list[LocalizedView]:
    """Do what ``localize`` does from grey pictures of the views, in the caller's precision."""
    size = (recipe.localizer.height, recipe.localizer.width)
    scores_NK, features_NFVU = localizer(image.prepare(greys, *size))
    group_N = scores_NK.argmax(dim=1)
    heat_NVU = class_heatmap(features_NFVU, localizer.head.weight, group_N, recipe.region.heat)
    probabilities_NK = scores_NK.float().softmax(dim=1).cpu().numpy()
    heat_bytes_NVU = to_byte_scale(heat_NVU).cpu().numpy()
    lows, highs = heat_NVU.amin(dim=(1, 2)).tolist(), heat_NVU.amax(dim=(1, 2)).tolist()
    return [
        LocalizedView(
            view=view.name,
            group=int(group_N[i]),
            probabilities=probabilities_NK[i],
            heat=heat_bytes_NVU[i],
            heat_min=lows[i],
            heat_max=highs[i],
            boxes=find_boxes(heat_bytes_NVU[i], view.counts.shape, recipe.region),
            grey=greys[i],
        )
        for i, view in enumerate(views)
    ]


def regressor_inputs(recipe: Recipe, found: Sequence[LocalizedView]) -> list[Tensor]:
    """Return what the regressor sees of one scan; see ``network_inputs``."""
    size = (recipe.regressor.height, recipe.regressor.width)
    return network_inputs(found, size, recipe.regressor.pair)


def network_inputs(
    found: Sequence[LocalizedView], size: tuple[int, int], pair: bool, margin: float = 0.0
) -> list[Tensor]:
    """Return what a network sees of one scan: each view's crop, or both views at once.

    Args:
        found: the scan's views.
        size: rows and columns of the network's input.
        pair: whether both views enter together.
        margin: see ``LocalizedView.crop``; enlarges the input by the same share.

    Returns:
        (1, H, W) float32 for each view; or one (2, H, W), anterior before posterior,
        black where a view is missing. A view of unknown name takes the free place.
    """
    height, width = with_margin(size, margin)
    crops = [image.resize(view.crop(margin), height, width) for view in found]
    if not pair:
        return [crop[None] for crop in crops]
    both = torch.zeros(2, height, width, device=crops[0].device)
    free = [0, 1]
    for view, crop in sorted(zip(found, crops, strict=True), key=lambda v: v[0].view == "unknown"):
        place = {"anterior": 0, "posterior": 1}.get(view.view, free[0])
        both[place] = crop
        free = [i for i in free if i != place] or free
    return [both]


class Predictor:
    """One model, ready on one device: here its two networks."""

    def __init__(
        self,
        localizer: Localizer | None,
        regressor: Regressor,
        card: model.Card,
        device: str = "cpu",
        precision: str | None = None,
    ) -> None:
        """Move the networks to the device; a recipe of whole views has no localizer.

        ``localizer`` and ``regressor`` stay as they are, to look into; predictions come
        from ``fast_localizer`` and ``fast_regressor``, see ``fused.fast`` for these and
        for ``precision``.
        """
        self.card = card
        self.recipe = card.recipe
        self.device = device
        self.localizer = None if localizer is None else hardware.onto(localizer, device).eval()
        self.regressor = hardware.onto(regressor, device).eval()
        self.fast_localizer = self.localizer and fused.fast(self.localizer, precision)
        self.fast_regressor = fused.fast(self.regressor, precision)

    @classmethod
    def load(cls, uri: str, device: str | None = None) -> Predictor:
        """Load a model folder.

        Args:
            uri: a path, ``file://`` or ``s3://`` URI of the folder.
            device: ``cpu`` or ``cuda``; by default the GPU where there is one.

        Raises:
            ModelError: a part is missing or does not match the card.
        """
        card = model.load_card(uri)
        if card.recipe.method == "svr":
            from bae.method.baselines.svr import SupportVectors  # which is a Predictor itself

            parts = (model.load_localizer(uri, card), model.load_svr(uri, card))
            return SupportVectors(*parts, card, device or hardware.best_device())
        if card.recipe.method == "nearest":
            return Regional(model.load_nearest(uri, card), card)
        if card.recipe.method != "networks":
            return Regional(model.load_regional(uri, card), card, model.load_regions(uri, card))
        return cls(
            None if card.recipe.region.whole else model.load_localizer(uri, card),
            model.load_regressor(uri, card),
            card,
            device or hardware.best_device(),
        )

    def predict(self, scans: Sequence[Scan]) -> list[Prediction]:
        """Estimate the age of each scan.

        Each view goes through both networks by itself; the scan's age is the mean of
        its views' ages (our reading: the paper does not say which views it used).
        """
        if not scans:
            return []
        per_scan = [chosen_views(scan, self.recipe) for scan in scans]
        every = [view for views in per_scan for view in views]
        localized = iter(localize(self.fast_localizer, self.recipe, every, self.device))
        found = [[next(localized) for _ in views] for views in per_scan]
        inputs = [regressor_inputs(self.recipe, views) for views in found]
        male_N = torch.tensor(
            [SEX_CODE[s.sex] for s, own in zip(scans, inputs, strict=True) for _ in own],
            device=self.device,
        )
        with hardware.inference(self.device):
            stacked = torch.stack([picture for own in inputs for picture in own])
            seen = self.fast_regressor.look(stacked)
            ages = self.fast_regressor.answer(seen.pooled_NF, male_N).tolist()
            ensemble = self.fast_regressor.ensemble(seen.pooled_NF, male_N).T.cpu().numpy()
        each = iter(zip(ages, ensemble, strict=True))
        if seen.heat_NVU is not None:
            nth = iter(range(len(stacked)))
            found = [[looked(view, seen, next(nth)) for view in views] for views in found]
        return [
            self._combine(scan, views, [next(each) for _ in own])
            for scan, views, own in zip(scans, found, inputs, strict=True)
        ]

    def fast_trunks(self) -> list[fused.FusedTrunk]:
        """Return what reads pictures, as it runs."""
        networks = [n for n in (self.fast_localizer, self.fast_regressor) if n is not None]
        return [m for n in networks for m in n.modules() if isinstance(m, fused.FusedTrunk)]

    def _combine(
        self,
        scan: Scan,
        found: list[LocalizedView],
        answers: list[tuple[float, NDArray[np.float32]]],
    ) -> Prediction:
        """Make one prediction of the views' answers: each an age, and those of the ensemble."""
        spread = float(np.std(np.mean([ensemble for _, ensemble in answers], axis=0), ddof=1))
        return self._prediction(scan, found, [age for age, _ in answers], spread)

    def _prediction(
        self, scan: Scan, found: Sequence[LocalizedView], ages: Sequence[float], spread: float
    ) -> Prediction:
        """Make one prediction of the views' ages."""
        age = float(np.mean(ages))
        low, high = self._interval(age, spread, scan)
        flags = self._flags(scan, found)
        probabilities = np.mean([f.probabilities for f in found], axis=0)
        if self.card.calibration is not None and probabilities.size:
            probabilities = self.card.calibration.probabilities(probabilities)
        edges = self.recipe.localizer.group_edges_years
        group = probabilities.argmax() if probabilities.size else np.digitize(age, edges[1:-1])
        return Prediction(
            age_years=age,
            spread_years=spread,
            low_years=low,
            high_years=high,
            view_ages_years=tuple(ages),
            group=int(group),
            probabilities=probabilities,
            views=tuple(found),
            flags=flags,
        )

    def _flags(self, scan: Scan, found: Sequence[LocalizedView]) -> tuple[str, ...]:
        flat = any(f.heat.size and f.heat_max == f.heat_min for f in found)
        no_sex = scan.sex is None and self.recipe.regressor.use_sex
        return ("heatmap_flat",) * flat + ("sex_unknown",) * no_sex

    def _interval(
        self, age: float, spread: float, scan: Scan
    ) -> tuple[float, float] | tuple[None, None]:
        """Return lowest and highest age; a card without calibration has one width for all scans."""
        if self.card.calibration is not None:
            found = self.card.calibration.interval([age], [spread], [SEX_CODE[scan.sex]])
            return (None, None) if found is None else (float(found[0][0]), float(found[1][0]))
        regressor = self.card.parts.get("regressor")
        half = None if regressor is None else regressor.metrics.get("validation_error_90_years")
        return (None, None) if half is None else (age - half, age + half)


class Regional(Predictor):
    """The linear model on registered uptake, and the network that reads the squares it chooses.

    See ``bae.method.regional``. Recipe ``regional`` has no network, nor has an atlas of people.
    """

    def __init__(
        self,
        reader: Bodies[Any],
        card: model.Card,
        network: Attention | None = None,
        precision: str | None = None,
    ) -> None:
        """Take a reader, and a network; a CPU is quick enough for both, so no GPU is asked for."""
        self.reader, self.network = reader, None if network is None else network.eval()
        self.card = card
        self.recipe = card.recipe
        self.device = "cpu"
        self.localizer = self.fast_localizer = None
        self.fast_network = self.network and fused.fast(self.network, precision)

    def predict(self, scans: Sequence[Scan]) -> list[Prediction]:
        """Estimate the age of each scan, both views together."""
        if not scans:
            return []
        with torch.inference_mode():
            views = [chosen_views(scan, self.recipe) for scan in scans]
            region = self.recipe.region
            seen = [
                self.reader.read(scan, own, region) for scan, own in zip(scans, views, strict=True)
            ]
            if self.fast_network is not None:
                seen = weigh(self.fast_network, self.recipe, scans, views, seen)
            return [self._said(scan, one) for scan, one in zip(scans, seen, strict=True)]

    def fast_trunks(self) -> list[fused.FusedTrunk]:
        """Return what reads pictures, as it runs; none in the linear model."""
        modules = [] if self.fast_network is None else self.fast_network.modules()
        return [module for module in modules if isinstance(module, fused.FusedTrunk)]

    def randomised(self, seed: int) -> Iterator[tuple[str, Regional]]:
        """Yield a model of the same templates whose slopes are random: it has learned nothing."""
        assert isinstance(self.reader, Reader)
        yield "slopes", Regional(self.reader.randomised(seed), self.card, self.network)

    def _said(self, scan: Scan, seen: Seen) -> Prediction:
        low, high = self._interval(seen.years, seen.spread, scan)
        edges = self.recipe.localizer.group_edges_years
        return Prediction(
            age_years=seen.years,
            spread_years=seen.spread,
            low_years=low,
            high_years=high,
            view_ages_years=seen.view_years,
            group=int(np.digitize(seen.years, edges[1:-1])),
            probabilities=np.empty(0, np.float32),
            views=seen.views,
            flags=self._flags(scan, seen.views),
        )
