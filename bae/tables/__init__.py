"""Rows to Delta tables, each exactly once, and back to whoever asks.

Analysts need ``connect`` alone (DuckDB, neither Ray nor torch; ``analyst.md``); ``read``
returns a whole table, ``heat_array`` heat maps as one array. For jobs: ``contract`` is every
column and every folder's name, ``runs`` what is left to do, ``compare`` which rows are new,
``splits`` who trains and who tests, ``publish`` the commits, ``lease`` one writer at a time,
``maintain`` and ``erase`` the upkeep, ``nights`` how the last runs ended.

>>> from tempfile import TemporaryDirectory
>>> from bae.tables import connect, read
>>> folder = TemporaryDirectory()
>>> place = folder.name  # any place where jobs write tables, an S3 one too
>>> connect(place).sql("SELECT count(*) FROM latest_ages").fetchall()
[(0,)]
>>> read(place, "cohort/ages").num_rows
0
"""

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
