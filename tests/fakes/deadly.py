"""Stand-ins for the decode task and a step: some objects kill the worker that has them.

The decode task kills itself over an object with ``DEADLY`` in its bytes, and finds the archive
out of reach over one with ``OUTAGE``; the step over an object whose name begins with "deadly".
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bae.archive import intake
from bae.archive.intake import Decoded
from bae.errors import StorageError
from bae.pipeline import parts
from bae.pipeline.rows import Index

DEADLY, OUTAGE = b"kills whoever decodes it", b"its storage does not answer"

_decode_part = parts._decode_part


def decode_part(objects: pa.Table, **given: Any) -> pa.Table:
    """Be ``parts._decode_part``, in a worker whose decoder obeys the bytes."""
    parts.decode = _obey
    return _decode_part(objects, **given)


def _obey(entry: dict[str, Any], content: Any, *rest: Any, **named: Any) -> Iterator[Decoded]:
    if isinstance(content, bytes) and DEADLY in content:
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(content, bytes) and OUTAGE in content:
        raise StorageError("the archive is out of reach")
    return intake.decode(entry, content, *rest, **named)


@dataclass(kw_only=True, eq=False)
class DeadlyStep(Index):
    """Index, but for objects whose name begins with "deadly"."""

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Die of some."""
        if any("/deadly" in item.object_uri for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().rows(items)
