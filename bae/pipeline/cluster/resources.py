"""What to take of a cluster: CPUs, GPUs and room for scans on their way."""

from dataclasses import replace

import ray
from ray.autoscaler.v2.utils import is_autoscaler_v2

from bae.errors import UseError
from bae.pipeline.step import PART_GB, Resources


def fitted(wanted: Resources) -> Resources:
    """Fill in what was left open, and refuse what this cluster can never give.

    By default a cluster with GPUs gets one model process for each GPU that is there, and
    one that has none a single process on the CPU: on a cluster that starts GPU nodes when
    they are asked for, ask (``gpus=1``). ``decode_cpus`` stays None: Ray Data then takes
    what is free.

    Raises:
        UseError: more is asked for than there is, and no autoscaler could add it; without
            this check Ray would wait for it for ever.
    """
    gpus = wanted.gpus
    if gpus is None:
        gpus = 1.0 if reachable("GPU") >= 1 else 0.0
    fitting = int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else 1
    actors = wanted.actors or max(1, fitting)
    _require("GPU", gpus * actors, "--gpus 0, fewer --actors, or start GPU nodes")
    cpus_needed = (actors if gpus else 0) + (wanted.decode_cpus or 1)
    _require("CPU", cpus_needed, "fewer --actors or --decode-cpus, or start more nodes")
    ahead = wanted.object_store_gb or _decoded_ahead_gb(actors, wanted.decode_cpus)
    return replace(wanted, actors=actors, gpus=gpus, object_store_gb=ahead)


def _decoded_ahead_gb(actors: int, decode_cpus: int | None) -> float | None:
    """Return the room that keeps model processes fed; decoding further ahead gains nothing.

    That is four parts for each of them and one for each CPU that decodes, in half of the
    store at most. None, Ray's own half, where nobody knows how many CPUs there will be.
    """
    if grows() and decode_cpus is None:
        return None
    parts = 4 * actors + (decode_cpus or cpus())
    store = float(ray.cluster_resources().get("object_store_memory", 0.0))
    return min(PART_GB * parts, store / 2**31)


def reachable(resource: str) -> float:
    """Return how much of a resource the cluster has, or is known to be able to get."""
    # what Ray Train itself asks; there is no public way yet
    most = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return max(float(most.get(resource, 0.0)), float(ray.cluster_resources().get(resource, 0.0)))


def grows() -> bool:
    """Say whether an autoscaler (KubeRay's, ``ray up``'s) adds nodes when work waits.

    Open source autoscalers do not tell how far. So what is asked for is then believed;
    ``watched`` gives up if it does not come.
    """
    return bool(is_autoscaler_v2(fetch_from_server=True))


def _require(resource: str, needed: float, remedy: str) -> None:
    there = reachable(resource)
    if needed > there and not grows():
        raise UseError(
            f"{needed:g} {resource} asked for, the cluster can give {there:g}; use {remedy}"
        )


def cpus() -> int:
    """Return the CPUs that are there, at least one: a growing cluster may have none yet."""
    return max(1, int(reachable("CPU")))


def gpus_for_training(workers: int | tuple[int, int], wanted: int | None) -> bool:
    """Say whether training runs on GPUs, one for each worker.

    Args:
        workers: number of workers, or the least and the most.
        wanted: 0 or 1; None: GPUs where the cluster has enough for the least number.

    Raises:
        UseError: more GPUs are asked for than the cluster has, or there is no CPU to
            spare for Ray Data, without which training would wait for ever.
    """
    least = workers if isinstance(workers, int) else workers[0]
    if wanted:
        _require("GPU", least, "--gpus 0, fewer --workers, or start GPU nodes")
    if cpus() < 2 and not grows():
        raise UseError("training needs two CPUs, one to feed the other; the cluster has one")
    return reachable("GPU") >= least if wanted is None else wanted > 0


def fitted_workers(workers: int | tuple[int, int]) -> tuple[int | tuple[int, int], float]:
    """Return training workers that leave a CPU to Ray Data, and the CPUs for each.

    An elastic training takes at most what fits beside that CPU; its workers share what
    there is only where not even the least number would get a CPU each. Where nodes can be
    added, each has one.
    """
    least, most = (workers, workers) if isinstance(workers, int) else workers
    if grows():
        return workers, 1.0
    spare = max(1, cpus() - 1)
    each = min(1.0, spare / least)
    most = max(least, min(most, int(spare / each)))
    return least if least == most else (least, most), each
