"""Everything that can go wrong, as one tree.

A ``UseError`` ends a job with exit code 2 before anything was written, a ``RunError`` with
exit code 1: it is safe to repeat. A ``ScanError`` costs one object; the run goes on.

A message says what was found, what was expected, and what to do. Messages never
hold names, identifiers, UIDs, dates or free text from a header, since they are
shown in logs (see ``bae.archive.privacy``).
"""

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


class ObjectError(StorageError):
    """One object cannot be read, while its place and its neighbours may well be.

    Args:
        code: ``object_unreadable`` or ``object_archived``, see ``bae.archive.refusals``.
        message: why, without the object's name.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


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
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@contextmanager
def after_writing() -> Iterator[None]:
    """Make a ``UseError`` inside a ``RunError``: exit code 2 promises that nothing was written."""
    try:
        yield
    except UseError as error:
        raise RunError(f"{error} (something was written before; run again)") from error
