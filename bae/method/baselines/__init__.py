"""The methods that the paper names beside its own: each is another way to see a picture.

Each is a ``Regressor`` with its own ``look`` (picture to features) and, where it teaches more
than one answer, its own ``lessons``; head, sex branch, training, intervals and jobs are the
proposed method's. Which line stands for which publication, and where we depart from it:
``bae/method/PAPER.md``. Start at ``build``.
"""

from collections.abc import Callable

from bae import recipes
from bae.method.baselines.auxiliary import Auxiliary
from bae.method.baselines.by_region import ByRegion
from bae.method.baselines.instances import Instances
from bae.method.baselines.iterated import Iterated
from bae.method.baselines.zooming import Zooming
from bae.method.networks import Regressor

NETWORKS: dict[str, Callable[[recipes.Regressor], Regressor]] = {
    "plain": Regressor,
    "auxiliary": Auxiliary,
    "by_region": ByRegion,
    "instances": Instances,
    "zooming": Zooming,
    "iterated": Iterated,
}
"""What ``regressor.network`` may name."""


def build(config: recipes.Regressor) -> Regressor:
    """Return the network that a recipe names, with random weights."""
    return NETWORKS[config.network](config)
