"""What a run over parts is told, and what each part comes to: plain values, without Ray.

A night that finds nothing new never starts Ray, so what it needs stands here and not in ``parts``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import pyarrow as pa

from bae.archive.intake import Decoded
from bae.archive.labels import Labels
from bae.tables.settings import Settings

PATIENCE_S = 1800.0
"""Seconds without a finished part before a run counts as stuck: a GPU node may take ten
minutes to come, and a part takes seconds."""


PART_GB = 0.08
"""About what a decoded part takes of the object store (``runs.PART_BYTES``)."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run over an archive takes of its cluster; None: found from the cluster.

    Attributes:
        gpus: GPUs for each of them, 0 for the CPU; a share such as 0.5 puts two on one.
        decode_cpus: parts decoded at once, each on one CPU.
        object_store_gb: how much of Ray's object store scans on their way may fill.
    """

    actors: int | None = None
    gpus: float | None = None
    decode_cpus: int | None = None
    object_store_gb: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a decode task needs to know.

    Attributes:
        settings: which key the pseudonyms are made with, and how patients are told apart.
        labels: the labels file's content, or None.
        limit_s: seconds after which a decoder that hangs is stopped.
    """

    settings: Settings
    labels: Labels | None = None
    limit_s: float = 30.0

    @classmethod
    def of(cls, tables_uri: str, age_decimals: int | None = None, key: bytes | None = None) -> Self:
        """Return it for some tables, by default with the key that this machine was given.

        Raises:
            UseError: there is no key, or the tables do not agree; see ``settings.agreed``.
        """
        from bae.pipeline import plan  # DuckDB with it, which decoding workers do without

        return cls(settings=plan.agreed(tables_uri, age_decimals, key))


@dataclass(frozen=True, kw_only=True)
class PartDone:
    """What one part came to: objects read and refused, and the time its step took.

    ``lost``: its workers died, nothing is stored, and nobody tried it once more.
    """

    number: int
    scans: int
    refused: int
    seconds: float
    lost: bool = False


OnPart = Callable[[int, PartDone], None]
"""Called with the number of parts to do and each that is done."""


class Step(ABC):
    """What is made of the decoded scans of a part, and where it is kept.

    The driver builds a step of plain values, and each actor gets a copy of its own. What is
    heavy or belongs to a process is left to ``load``: the driver needs no torch. Ray Data takes a
    step for a key, so dataclasses of it say ``eq=False``: they are equal by identity alone.
    """

    name: ClassVar[str]
    """Label of its metrics. Dashboards and alerts ask for it: it never changes."""

    def load(self) -> None:  # noqa: B027 - most steps have nothing to load
        """Load models and set up the process, which is this step's alone; once in an actor."""

    @abstractmethod
    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return what to store of one part; called in several threads."""

    @abstractmethod
    def store(self, number: int, rows: pa.Table) -> None:
        """Write one part's table as one whole object."""
