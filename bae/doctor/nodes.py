"""A cluster: does it answer, what does it have, is every node fit? The only part that asks Ray."""

from collections.abc import Sequence

from bae.doctor import machine
from bae.doctor.finding import OK, Finding, fail, ok, warn

ANSWER_S = 30.0
"""Seconds in which a node must start a process and say what it has."""
_SAME = ("python", "ray")
"""Packages of which every node must have the job's version."""


def cluster() -> list[Finding]:
    """Ask every node of the cluster that ``RAY_ADDRESS`` names what it has.

    Raises:
        RunError: nothing answers there.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from bae.pipeline.cluster import resources, session

    with session.session():
        alive = [node for node in ray.nodes() if node["Alive"]]
        ask = ray.remote(num_cpus=0, max_retries=0)(machine.here)
        asked = {
            ask.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(): str(node["NodeManagerHostname"])
            for node in alive
        }
        done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
        answers, broken = [], [asked[one] for one in silent]
        for one in done:
            try:
                answers.append(ray.get(one))
            except ray.exceptions.RayError as error:
                broken.append(f"{asked[one]} ({session.root_cause(error)})")
        whole = ray.cluster_resources()
        found = [power(whole.get("CPU", 0.0), whole.get("GPU", 0.0), resources.grows())]
    if broken:
        remedy = "look at its Ray's log; the job's code and packages must be there"
        found.append(fail("nodes", f"no answer from {', '.join(broken)}", remedy))
    return found + judged(answers, machine.here())


def power(cpus: float, gpus: float, grows: bool) -> Finding:
    """Judge what a cluster has."""
    said = f"{cpus:g} CPUs and {gpus:g} GPUs" + (", more on demand" if grows else "")
    if cpus < 1 and not grows:
        return fail("cluster", f"{said}: nothing could be decoded", "start a worker")
    return ok("cluster", said)


def judged(nodes: Sequence[machine.Machine], driver: machine.Machine) -> list[Finding]:
    """Judge a cluster's nodes beside the machine that asks: one line for each thing amiss."""
    found: list[Finding] = []
    for node in nodes:
        about = f"node {node.host}"
        amiss = [one for one in machine.judged(node) if one.state != OK]
        if not node.fingerprint:
            amiss.append(fail("", "it has no pseudonym key", "give it the same as to the driver"))
        elif node.fingerprint != driver.fingerprint:
            amiss.append(fail("", "it has another pseudonym key", "give it the driver's"))
        for name in sorted(node.versions.keys() | driver.versions.keys()):
            mine, its = driver.versions.get(name), node.versions.get(name)
            if mine != its:
                said = f"{name} {its or 'is missing'}, here {mine or 'missing'}"
                judge = fail if name in _SAME else warn
                amiss.append(judge("", said, "run the same image on every node"))
        found += [
            Finding(about=about, state=one.state, found=f"{one.about} {one.found}".strip(),
                    remedy=one.remedy)
            for one in amiss
        ]  # fmt: skip
        if not amiss:
            found.append(ok(about, "fit, with the same key and versions"))
    return found
