"""One colour for a cloud wherever it is drawn, in a chart or on a page."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

# The palette of Okabe and Ito (2008), which the colour-blind tell apart too. A cloud keeps its
# colour in every chart; names that are not here take the colours that are left.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY, GREY, YELLOW = "#E69F00", "#CC79A7", "#56B4E9", "#7F7F7F", "#F0E442"
# Grey first: it is no cloud's, so that a second run of one does not look like another cloud.
PALETTE = (GREY, BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, YELLOW)
CLOUD_COLOURS = {
    "GCP": BLUE,
    "AWS": VERMILLION,
    "AZURE": GREEN,
    "NEON": ORANGE,
    "NCP": YELLOW,
    "CONTAINER": SKY,
    "EMBEDDED": PURPLE,
}
# Parts of a whole are no clouds. Steps of viridis: in order of brightness, so that they are told
# apart in a print without colours as well.
PARTS = ("#440154", "#414487", "#2A788E", "#22A884", "#7AD151", "#FDE725")


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each side. The first side of a cloud (`GCP 0001`) has the cloud's colour."""
    names = list(names)
    given: dict[str, str] = {}
    for name in names:
        colour = CLOUD_COLOURS.get(name.split(" ")[0])
        if colour and colour not in given.values():
            given[name] = colour
    free = cycle([each for each in PALETTE if each not in given.values()] or PALETTE)
    return {name: given.get(name) or next(free) for name in names}
