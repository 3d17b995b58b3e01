"""Who died with which part in hand: counted in one small actor of the job.

Ray tries a part again when its worker has died, in a task or an actor, for ever: the run would
wait for its patience to end. So a worker says which part it takes up and when it lets go of it,
by success or error alike. One that took a part up and never let go has died of it, unless its
whole node went. What raises an error, such as a store that is out of reach, is no death.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

MOST_DEATHS = 2
"""Workers that may die with a part in hand before nobody takes it up again."""


class Ledger:
    """Parts in hand, and deaths of each part. Plain Python: ``open_ledger`` makes it an actor."""

    def __init__(self, alive: Callable[[], set[str]] | None = None) -> None:
        """Begin empty; ``alive`` returns the ids of the nodes that are there."""
        self._alive = alive or _nodes_alive
        self._in_hand: dict[tuple[int, str], str] = {}
        self._died_on: dict[int, list[str]] = {}

    def begin(self, part: int, stage: str, node_id: str) -> bool:
        """Note that a worker takes a part up; say whether it may."""
        left_by = self._in_hand.pop((part, stage), None)
        died_on = self._died_on.setdefault(part, [])
        if left_by is not None:
            died_on.append(left_by)
        # looked up late: that a node has gone is known seconds after its workers have
        if len(died_on) >= MOST_DEATHS:
            alive = self._alive()
            if sum(node in alive for node in died_on) >= MOST_DEATHS:
                return False
        self._in_hand[part, stage] = node_id
        return True

    def end(self, part: int, stage: str) -> None:
        """Note that the worker lives and has let go of the part."""
        self._in_hand.pop((part, stage), None)


def _nodes_alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def open_ledger() -> Any:
    """Start the ledger's actor beside the driver, so that it goes with the job and not before."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0)(Ledger)
    # should that node go all the same, it begins anew elsewhere: counts are lost, no part is
    again = {"max_restarts": -1, "max_task_retries": -1}
    return actor.options(scheduling_strategy=here, **again).remote()


@contextmanager
def in_hand(ledger: Any, part: int, stage: str) -> Iterator[bool]:
    """Say whether this worker may take a part up, and keep the ledger while it has it.

    Args:
        ledger: what ``open_ledger`` returned; None: any part may be taken up.
        stage: which of the part's workers this is; each lets go for itself.
    """
    if ledger is None:
        yield True
        return
    node_id = ray.get_runtime_context().get_node_id()
    if not ray.get(ledger.begin.remote(part, stage, node_id)):
        yield False
        return
    try:
        yield True
    finally:
        ray.get(ledger.end.remote(part, stage))
