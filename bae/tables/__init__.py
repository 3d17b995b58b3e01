"""Rows to Delta tables, each exactly once, and back to whoever asks.

Analysts need ``connect`` alone (DuckDB, neither Ray nor torch); ``read`` returns a whole
table, ``heat_array`` heat maps as one array. For jobs: ``contract`` is every column and
every folder's name, ``runs`` what is left to do, ``publish`` the commits (``compare`` which
rows are new, ``splits`` who is for training), ``lease`` one writer at a time, ``maintain``
and ``erase`` the upkeep.

>>> import tempfile
>>> place = tempfile.mkdtemp()
>>> connect(place).sql("SELECT count(*) FROM latest_ages").fetchall()
[(0,)]
>>> read(place, "cohort/ages").num_rows
0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bae.tables.delta import read as read
    from bae.tables.query import connect as connect
    from bae.tables.query import heat_array as heat_array

__all__ = ["connect", "heat_array", "read"]


def __getattr__(name: str) -> Any:
    """Import DuckDB and deltalake when a door is opened: decoding workers need neither."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bae.tables import delta, query

    return getattr(delta if name == "read" else query, name)
