"""Everything that can go wrong, as one tree.

::

    BaeError
    ├── UseError            asked for something that cannot be: exit code 2, nothing written
    │   ├── RecipeError         unknown recipe, unknown field, value of the wrong type or range
    │   ├── StorageError        a place is missing, empty, unreadable or not writable
    │   ├── LabelsError         a labels file cannot be understood
    │   ├── ModelError          a model folder is missing a part or does not match its card
    │   └── TablesError         tables on disk do not fit the contract
    ├── RunError            a run could not finish as asked: exit code 1, safe to repeat
    │   ├── LockedError         another run holds these tables
    │   └── TooManyRejectedError
    └── ScanError           one object is refused, with a stable code; the run goes on

A message says what was found, what was expected, and what to do. Messages never
hold names, identifiers, UIDs, dates or free text from a header, since they are
shown in logs (see ``bae.archive.privacy``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class BaeError(Exception):
    """Root of the tree: catch this to catch all that bae raises on purpose."""


class UseError(BaeError):
    """The caller asked for something that cannot be done; nothing was written."""


class RecipeError(UseError):
    """An unknown recipe or field, or a value of the wrong type or range."""


class StorageError(UseError):
    """A place (URI) is missing, empty, unreadable or not writable."""


class LabelsError(UseError):
    """A labels file cannot be understood."""


class ModelError(UseError):
    """A model folder is missing a part or does not match its card."""


class TablesError(UseError):
    """Tables on disk do not fit the contract."""


class RunError(BaeError):
    """A run could not finish as asked; it may be repeated."""


class LockedError(RunError):
    """Another run holds these tables."""


class TooManyRejectedError(RunError):
    """More objects were refused than ``--max-rejected`` allows."""


class ScanError(BaeError):
    """One object is refused.

    Args:
        code: a key of ``bae.archive.refusals.REJECT_CODES``; stable, analysts filter on it.
        message: what was found, free of anything that identifies a person.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep the code beside the message."""
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """Return ``code: message``."""
        return f"{self.code}: {self.message}"


@contextmanager
def after_writing() -> Iterator[None]:
    """Make a ``UseError`` inside a ``RunError``: exit code 2 promises that nothing was written."""
    try:
        yield
    except UseError as error:
        raise RunError(f"{error} (something was written before; run again)") from error
