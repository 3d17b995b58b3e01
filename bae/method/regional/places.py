"""What lies at a place of the body: plain region names from two coordinates.

A name says where the middle of a box lies, by the proportions of an adult who lies
straight with the arms at the sides. Nobody has looked at the bones there: an elbow on
the head is called by the place that it lies at. Whether the soles or the stretched toes
count as the end of the body moves a place by up to 0.06; the bands hold for both.
"""

from dataclasses import dataclass

BOTH_SIDES = 0.015
"""Distance from the midline in body lengths below which a pair is named as a pair."""


@dataclass(frozen=True)
class Place:
    """One row of the table: bounds in body lengths, each from, up to and without.

    Attributes:
        name: of one of a pair, or of what lies in the middle.
        pair: name of both together; empty for what there is one of.
        top, bottom: along the body, 0 at the crown, 1 at the soles.
        inner, outer: distance from the midline, whichever side.
    """

    name: str
    pair: str
    top: float
    bottom: float
    inner: float
    outer: float


_ALL = 1.0
PLACES = (
    Place("skull", "", -_ALL, 0.11, 0.0, _ALL),
    Place("neck", "", 0.11, 0.157, 0.0, 0.05),
    Place("shoulder", "shoulders", 0.11, 0.20, 0.05, _ALL),
    Place("sternum and thoracic spine", "", 0.157, 0.31, 0.0, 0.03),
    Place("ribs", "ribs", 0.157, 0.20, 0.03, 0.05),
    Place("ribs", "ribs", 0.20, 0.31, 0.03, 0.08),
    Place("ribs", "ribs", 0.31, 0.37, 0.04, 0.08),
    Place("lumbar spine", "", 0.31, 0.405, 0.0, 0.04),
    Place("upper arm", "upper arms", 0.20, 0.29, 0.08, _ALL),
    Place("elbow", "elbows", 0.29, 0.37, 0.08, _ALL),
    Place("forearm", "forearms", 0.37, 0.445, 0.088, _ALL),
    Place("hand", "hands", 0.445, 0.58, 0.088, _ALL),
    Place("pelvis", "", 0.37, 0.405, 0.04, 0.088),
    Place("pelvis", "", 0.405, 0.425, 0.0, 0.088),
    Place("pelvis", "", 0.425, 0.52, 0.0, 0.035),
    Place("hip", "hips", 0.425, 0.52, 0.035, 0.088),
    Place("thigh", "thighs", 0.52, 0.58, 0.0, 0.088),
    Place("thigh", "thighs", 0.58, 0.62, 0.0, _ALL),
    Place("knee", "knees", 0.62, 0.745, 0.0, _ALL),
    Place("lower leg", "lower legs", 0.745, 0.88, 0.0, _ALL),
    Place("foot", "feet", 0.88, 1 + _ALL, 0.0, _ALL),
)
"""Heights of joints after Drillis and Contini 1966, widths from anatomy atlases. Every place
within a body length of the body lies in exactly one row."""


def place_name(crown_sole: float, midline: float) -> str:
    """Name the region of the body at a place.

    Args:
        crown_sole: 0 at the crown, 1 at the soles; a little beyond either is still named.
        midline: signed distance from the midline in body lengths, positive to the
            patient's left.

    Returns:
        Such as ``left knee``, ``knees`` (on the midline, between both) or ``lumbar spine``.

    Raises:
        ValueError: the place is over a body length away from the body.
    """
    for place in PLACES:
        across = place.inner <= abs(midline) < place.outer
        if across and place.top <= crown_sole < place.bottom:
            if not place.pair:
                return place.name
            if abs(midline) < BOTH_SIDES:
                return place.pair
            return f"{'left' if midline > 0 else 'right'} {place.name}"
    raise ValueError(f"nothing of a body lies at ({crown_sole}, {midline}); expected 0 to 1, ±0.5")


def both_sides(name: str) -> str:
    """Return the name of a pair for either of its sides, any other name as it is."""
    side, _, rest = name.partition(" ")
    pairs = {place.name: place.pair for place in PLACES}
    return pairs.get(rest, name) if side in ("left", "right") else name
