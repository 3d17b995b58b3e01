"""Logs on stderr: a line of text for people, a line of JSON for machines.

``BAE_LOG=json`` or ``BAE_LOG=text`` decides; without it a job on a cluster whose
output no terminal shows writes JSON. Each JSON line has time, level, logger and
message, what ``bind`` was told (job, run), and the ``extra`` of the call. Neither
message nor fields may hold what identifies a person (see ``bae.archive.privacy``).
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

from bae.errors import UseError

VARIABLE = "BAE_LOG"

_PLAIN = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}
_bound: dict[str, object] = {}


def as_json() -> bool:
    """Say whether lines are JSON."""
    asked = os.environ.get(VARIABLE)
    on_cluster = os.environ.get("RAY_ADDRESS", "").strip() != "" and not sys.stderr.isatty()
    return asked == "json" or (asked is None and on_cluster)


def setup() -> None:
    """Send this process's log to stderr: warnings as text, or all of bae's steps as JSON.

    Raises:
        UseError: ``BAE_LOG`` is neither ``json`` nor ``text``.
    """
    asked = os.environ.get(VARIABLE)
    if asked not in (None, "json", "text"):
        raise UseError(f"{VARIABLE} is {asked!r}; expected json or text")
    handler = _Stderr()
    json_lines = as_json()
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_Json() if json_lines else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in ("bae", "jobs"):
        logging.getLogger(ours).setLevel(logging.INFO if json_lines else logging.WARNING)


def bind(**fields: object) -> None:
    """Put fields into every JSON line of this process from now on; None removes one."""
    _bound.update(fields)
    for name in [name for name, value in _bound.items() if value is None]:
        del _bound[name]


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at the time: Ray's session puts another there."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _bound
        extra = {key: value for key, value in vars(record).items() if key not in _PLAIN}
        line |= {key: value for key, value in extra.items() if not key.startswith("_")}  # Ray's
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
