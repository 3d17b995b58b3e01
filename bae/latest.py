"""The view of each scan's newest age, written for the models that there are.

``infra/views.sql`` says it in general: of all rows of a scan the newest object counts,
and of that the newest model that scored it. That groups all rows by scan, which takes
seconds on millions. Here the few facts that decide are looked up first (which models
there are, whether any scan has a second object), and only what they ask for is joined.
"""

from __future__ import annotations

import duckdb


def latest_ages(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the query for a connection that has the view ``ages``."""
    facts = connection.sql("""
        SELECT model_id, max(object_version) FROM ages
        GROUP BY model_id ORDER BY min(predicted_at), model_id""").fetchall()
    models = [str(model_id).replace("'", "''") for model_id, _ in facts]
    current = "ages"
    if any(version > 1 for _, version in facts):
        # Few scans have a second object: a small table, so a quick join.
        current = """(
            SELECT ages.* FROM ages LEFT JOIN (
                SELECT scan_id, max(object_version) AS last FROM ages
                WHERE object_version > 1 GROUP BY scan_id) AS changed USING (scan_id)
            WHERE object_version = coalesce(last, 1))"""
    if len(models) < 2:
        return f"SELECT * FROM {current}"
    parts = []
    for number, model in enumerate(models):
        newer = ", ".join(f"'{name}'" for name in models[number + 1 :])
        rows = f"SELECT * FROM {current} WHERE model_id = '{model}'"
        if newer:
            seen = f"SELECT scan_id FROM {current} WHERE model_id IN ({newer})"
            rows = f"SELECT * FROM ({rows}) ANTI JOIN ({seen}) USING (scan_id)"
        parts.append(rows)
    return " UNION ALL ".join(parts)
