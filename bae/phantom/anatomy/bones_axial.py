"""Skull, spine, ribs and sternum of the reference skeleton, and organs that show tracer."""

import numpy as np

from bae.phantom.anatomy.solids import Parts, disc, ellipsoid, tube

VERTEBRAE = tuple(f"{kind}{i + 1}" for kind, n in (("C", 7), ("T", 12), ("L", 5)) for i in range(n))


def spine_depth(z: float) -> float:
    """Return y of the vertebral bodies at height z: lordosis, kyphosis, lordosis."""
    heights = [850.0, 900.0, 955.0, 1040.0, 1140.0, 1280.0, 1380.0, 1440.0, 1530.0]
    depths = [-85.0, -88.0, -62.0, -40.0, -52.0, -72.0, -58.0, -35.0, -15.0]
    return float(np.interp(z, heights, depths))


def vertebra_heights() -> dict[str, tuple[float, float]]:
    """Return the middle and the height with disc, mm, of each vertebra."""
    neck = np.full(7, 115.0 / 7)
    chest = np.linspace(20.0, 27.0, 12) * (280.0 / np.linspace(20.0, 27.0, 12).sum())
    loins = np.linspace(33.0, 37.0, 5) * (185.0 / np.linspace(33.0, 37.0, 5).sum())
    sizes = np.concatenate([neck, chest, loins])
    tops = 1535.0 - np.concatenate([[0.0], np.cumsum(sizes)[:-1]])
    return {
        name: (float(top - size / 2.0), float(size))
        for name, top, size in zip(VERTEBRAE, tops, sizes, strict=True)
    }


def spine() -> Parts:
    """Build vertebrae one by one, each with two end-plates, facets and processes; sacrum."""
    parts: Parts = {}
    for name, (z, size) in vertebra_heights().items():
        kind, number = name[0], int(name[1:])
        wide = {"C": 12.0, "T": 13.0 + 0.6 * number, "L": 22.0 + 0.8 * number}[kind]
        deep = {"C": 8.0, "T": 12.0 + 0.4 * number, "L": 16.5}[kind]
        y, half = spine_depth(z), size * 0.40
        density = {"C": 12.0, "T": 9.5, "L": 12.5}[kind]
        parts[f"{name} body"] = ("trunk", disc((0, y, z), (wide, deep, half - 1.5)), density)
        for place, sign in (("upper", 1.0), ("lower", -1.0)):
            plate = disc((0, y, z + sign * half), (wide * 1.06, deep * 1.06, 1.8), hollow=0.3)
            parts[f"{name} {place} plate"] = ("trunk", plate, density * 1.7)
        reach = {"C": 14.0, "T": 17.0, "L": 20.0}[kind]
        back = y - deep
        facet = ellipsoid((reach, back - 9.0, z - half), (5.5, 6.0, 7.0))
        parts[f"left {name} facet"] = ("trunk", facet, density * 1.1)
        if kind != "C":
            wing = tube([(8, back - 8, z), (reach + 14, back - 14, z + 2)], [4.5, 3.5])
            parts[f"left {name} process"] = ("trunk", wing, density * 0.6)
        spinous = tube([(0, back - 10, z), (0, back - 34, z - 12)], [5.0, 4.0])
        parts[f"{name} spinous"] = ("trunk", spinous, density * 0.7)
    rows = [(940, -66, 46), (916, -78, 40), (894, -86, 29), (876, -88, 20), (860, -86, 14)]
    for i, (height, depth, breadth) in enumerate(rows, 1):
        parts[f"S{i} body"] = ("trunk", ellipsoid((0, depth, height), (breadth, 14, 14)), 10.5)
    parts["coccyx"] = ("trunk", ellipsoid((0, -78, 840), (6, 6, 12)), 6.0)
    return parts


def head() -> Parts:
    """Build the vault as a shell, the base, the face and the jaw."""
    parts: Parts = {}
    vault, volume = ellipsoid((0, -4, 1612), (74, 94, 87), hollow=0.88)
    # the shell ends where the brow ridge in front and the occiput behind take over
    kept = vault[:, 2] > 1566 + 0.2 * vault[:, 1]
    parts["skull vault"] = ("head", (vault[kept], volume * float(kept.mean())), 6.0)
    brow = [(-62, 34, 1586), (-40, 70, 1590), (0, 86, 1595), (40, 70, 1590), (62, 34, 1586)]
    parts["skull brow"] = ("head", tube(brow, 8.0), 3.0)
    parts["skull base"] = ("head", ellipsoid((0, -4, 1562), (58, 66, 20)), 2.0)
    parts["occiput"] = ("head", ellipsoid((0, -72, 1572), (48, 18, 36), hollow=0.5), 2.4)
    parts["face"] = ("head", ellipsoid((0, 36, 1548), (50, 42, 44)), 1.5)
    parts["nose"] = ("head", ellipsoid((0, 62, 1558), (18, 24, 30)), 4.6)
    parts["maxilla"] = ("head", ellipsoid((0, 58, 1527), (25, 22, 15)), 6.6)
    socket = [(15, 76, 1590), (13, 76, 1574), (26, 72, 1556), (46, 60, 1558), (54, 50, 1578)]
    parts["left orbit"] = ("head", tube(socket, 7.0), 1.6)
    cheek = [(38, 62, 1548), (56, 46, 1552), (66, 8, 1558)]
    parts["left zygoma"] = ("head", tube(cheek, 8.5), 1.7)
    parts["left mastoid"] = ("head", ellipsoid((57, -14, 1546), (13, 17, 20)), 4.0)
    jaw = [(0, 80, 1484), (22, 73, 1486), (40, 48, 1493), (51, 18, 1508), (54, 8, 1548)]
    parts["left jaw"] = ("head", tube(jaw, [11, 11, 10, 10, 9]), 3.6)
    parts["left jaw joint"] = ("head", ellipsoid((56, 6, 1554), (9, 8, 7)), 5.0)
    return parts


def thorax() -> Parts:
    """Build twelve ribs as curves, their joints with spine and cartilage, and the sternum."""
    parts: Parts = {}
    widths = [62, 88, 104, 114, 122, 127, 130, 131, 128, 120, 108, 88]
    drops = [38, 58, 76, 94, 110, 124, 132, 132, 124, 110, 82, 50]
    fronts = [38, 62, 80, 90, 96, 100, 98, 84, 66, 44, 0, -40]
    ends = [0.90, 0.915, 0.92, 0.915, 0.91, 0.90, 0.87, 0.82, 0.76, 0.70, 0.54, 0.38]
    heights = vertebra_heights()
    for i in range(12):
        z0 = heights[f"T{i + 1}"][0] + 6.0
        y0 = spine_depth(z0) - 18.0
        turn = np.linspace(0.06, ends[i], 9) * np.pi
        x = 14.0 + (widths[i] - 14.0) * np.sin(turn) ** 0.75
        behind = (y0 - 12.0) * np.abs(np.cos(turn)) ** (0.7 if i else 1.0)
        y = np.where(turn > np.pi / 2, (fronts[i] + 20.0) * -np.cos(turn), behind)
        y[0] = y0
        z = z0 - drops[i] * (turn / np.pi) ** 1.25 / ends[i] ** 1.25
        course = np.stack([x, y, z], axis=1)
        parts[f"left rib {i + 1}"] = ("trunk", tube(course, 5.6, flat=0.8), 7.0)
        parts[f"left rib {i + 1} neck"] = ("trunk", ellipsoid(course[0], (8, 7, 6)), 7.0)
        if i < 10:
            parts[f"left rib {i + 1} end"] = ("trunk", ellipsoid(course[-1], (7, 6, 6)), 7.5)
    parts["manubrium"] = ("trunk", tube([(0, 64, 1385), (0, 78, 1340)], [26, 18], flat=0.3), 17.0)
    blade = tube([(0, 81, 1334), (0, 92, 1280), (0, 98, 1232)], [14, 17, 15], flat=0.35)
    parts["sternum body"] = ("trunk", blade, 13.0)
    parts["sternal angle"] = ("trunk", ellipsoid((0, 80, 1338), (20, 6, 4.5)), 19.0)
    parts["xiphoid"] = ("trunk", ellipsoid((0, 98, 1216), (6, 4, 12)), 8.0)
    return parts


def organs() -> Parts:
    """Add what takes up or excretes tracer but is no bone."""
    parts: Parts = {
        "larynx": ("trunk", ellipsoid((0, 22, 1430), (16, 12, 22)), 5.0),
        "genitals": ("trunk", ellipsoid((0, 74, 812), (18, 24, 36)), 1.5),
        "bladder": ("trunk", ellipsoid((0, 34, 886), (34, 28, 25)), 38.0),
    }
    parts["left kidney"] = ("trunk", ellipsoid((62, -58, 1088), (25, 19, 48), hollow=0.6), 6.5)
    parts["left injection"] = ("left forearm", ellipsoid((192, 20, 1068), (5, 4, 9)), 400.0)
    return parts
