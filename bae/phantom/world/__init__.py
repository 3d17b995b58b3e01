"""What the simulation assumes and nobody knows, as a value: ``world(number)``.

World 0 is the simulation as it was first made. Every other number draws anew which
bones age, in which direction and how strongly, in women and men; how far persons differ;
who comes; camera, field of view, poses; lesions; and how a hospital stores scans. What
is measured in one world alone may be true of that world alone.

The modules: ``assumed`` has the values' names, units and world 0; ``parts`` which bones
age together; ``draw`` the ranges of the other worlds and the drawing; ``words`` what an
archive says of its world.
"""

from bae.phantom.world.assumed import World
from bae.phantom.world.draw import world
from bae.phantom.world.parts import Clock, Effect

__all__ = ["Clock", "Effect", "World", "world"]
