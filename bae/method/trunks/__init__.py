"""Networks that turn grey pixels into feature maps, by the names that recipes have for them.

``Trunk(name)`` is one; ``kinds`` lists them all (torchvision's, timm's, and small ones for CPUs),
``named`` builds those that no package has, ``weights`` brings ImageNet's.
"""

from bae.method.trunks.kinds import TRUNKS, Trunk, TrunkKind, plain

__all__ = ["TRUNKS", "Trunk", "TrunkKind", "plain"]
