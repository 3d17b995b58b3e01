"""One thread for all of it, as in ``tests/method/regional``."""

from tests.method.regional.conftest import one_thread

__all__ = ["one_thread"]
