"""What people write into labels, model folders and tables is data, never SQL and never code."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import deltalake
import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch

from bae import recipes
from bae.archive import labels, privacy
from bae.errors import ModelError
from bae.method import model, networks, trunks
from bae.method.trunks import weights
from bae.scan import Identity, Scan, View
from bae.tables import delta, query
from tests.fakes import rows

EVIL = "x'; DROP VIEW ages; --"
TRUE = "x' OR '1' = '1"


def _latest(ages: list[dict[str, object]]) -> dict[object, object]:
    """Find each scan's newest model by plain comparison: the oracle for latest_ages."""
    first: dict[object, object] = {}
    for row in ages:
        first[row["model_id"]] = min(
            first.get(row["model_id"], row["predicted_at"]), row["predicted_at"]
        )
    best: dict[object, tuple[object, object]] = {}
    for row in ages:
        rank = (row["object_version"], first[row["model_id"]], row["model_id"])
        if row["scan_id"] not in best or rank > best[row["scan_id"]][0]:
            best[row["scan_id"]] = (rank, row["model_id"])
    return {scan: model_id for scan, (_, model_id) in best.items()}


def test_a_model_id_cannot_say_sql(tmp_path: Path) -> None:
    """Quotes in it are quotes, in every view."""
    root = str(tmp_path)
    for number, model_id in enumerate(("plain", EVIL, TRUE)):
        rows.night(root, rows.listing(range(1, 9 - 2 * number)), model_id)
    connection = query.connect(root)
    shown = connection.sql("SELECT scan_id, model_id FROM latest_ages").fetchall()
    assert dict(shown) == _latest(delta.read(root, "cohort/ages").to_pylist())
    assert {model_id for _, model_id in shown} == {"plain", EVIL, TRUE}
    asked = connection.execute("SELECT count(*) FROM ages WHERE model_id = $1", [EVIL]).fetchall()
    assert asked == [(6,)]


def test_a_run_id_cannot_say_sql(tmp_path: Path) -> None:
    """A writer's forged run is hidden as half published, whatever it is called."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 6)), "m")
    boxes = delta.read(root, "cohort/boxes")
    column = boxes.schema.get_field_index("run_id")
    for run_id in (TRUE, EVIL):
        forged = boxes.slice(0, 1).set_column(
            column, boxes.schema.field(column), pa.array([run_id])
        )
        deltalake.write_deltalake(
            delta.uri(root, "cohort/boxes"),
            forged,
            mode="append",
            commit_properties=deltalake.CommitProperties(custom_metadata={"run_id": run_id}),
        )
        seen = query.connect(root).sql("SELECT run_id FROM boxes").fetchall()
        assert seen and (run_id,) not in seen
        assert query.connect(root).sql("SELECT count(*) FROM ages").fetchall() == [(5,)]
    old = query.connect(root, version=1)
    assert old.sql("SELECT count(*) FROM boxes").fetchall() == [(boxes.num_rows,)]


def test_a_column_name_cannot_say_sql(tmp_path: Path) -> None:
    """A table with a column of somebody else's still opens."""
    root, name = str(tmp_path), 'a"; DROP VIEW ages; --'
    rows.night(root, rows.listing(range(1, 4)), "m")
    ages = delta.read(root, "cohort/ages").append_column(name, pa.array(["x"] * 3))
    deltalake.write_deltalake(
        delta.uri(root, "cohort/ages"), ages, mode="overwrite", schema_mode="overwrite"
    )
    connection = query.connect(root)
    assert name in connection.sql("FROM ages").columns
    assert connection.sql("SELECT count(*) FROM latest_ages").fetchall() == [(3,)]


@pytest.mark.parametrize("place", ["it's", "a'); DROP VIEW ages; --", 'say "sql"'])
def test_a_place_cannot_say_sql(tmp_path: Path, place: str) -> None:
    """Tables may lie in any folder whose name Delta can spell."""
    root = str(tmp_path / place)
    rows.night(root, rows.listing(range(1, 4)), "m")
    assert query.connect(root).sql("SELECT count(*) FROM ages").fetchall() == [(3,)]


@pytest.mark.parametrize("value", [EVIL, TRUE, "../../etc/passwd", "=cmd|' /C calc'!A0", "$(id)"])
def test_labels_are_compared_and_hashed_never_run(tmp_path: Path, value: str) -> None:
    """A key matches what equals it; a patient becomes 32 hex digits."""
    file = tmp_path / "labels.csv"
    quoted = value.replace('"', '""')
    file.write_text(f'key,age_years,patient\n"{quoted}",63.5,"{quoted}"\n')
    key = b"0123456789abcdef"
    known = labels.load(str(file), key)

    def labelled_as(scan: Scan) -> Scan:
        person = privacy.person_key(key, scan.identity.patient)
        match = known.match("s3://bucket/other.dcm", "", person)
        return labels.apply(known.label(match), scan) if match else scan

    scan = Scan(
        views=(View(name="anterior", counts=np.ones((2, 2), np.uint16)),),
        identity=Identity(patient=value, study="1", instance="1"),
    )
    labelled = labelled_as(scan)
    assert (labelled.age_years, labelled.identity.patient) == (63.5, value)
    stranger = replace(scan, identity=Identity(patient="y", study="1", instance="1"))
    assert labelled_as(stranger).age_years is None
    pseudonym = privacy.patient_key(key, labelled.identity)
    assert len(pseudonym) == 32 and int(pseudonym, 16) >= 0


def test_duckdb_takes_values_as_parameters() -> None:
    """What the cookbook and bae.tables.runs rely on: a bound value is never parsed."""
    connection = duckdb.connect()
    assert connection.execute("SELECT $model", {"model": EVIL}).fetchall() == [(EVIL,)]


class _Trap:
    """A pickle that would leave a file behind if anything unpickled it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path(self.mark),))  # type: ignore[return-value]


def test_a_pickle_offered_as_a_model_is_refused_unread(tmp_path: Path) -> None:
    """Even where the card names its hash: only safetensors are parsed, and they hold no code."""
    recipe = recipes.small()
    card = model.Card(recipe=recipe, parts={})
    folder, mark = tmp_path / "model", tmp_path / "sprung"
    card = model.save_part(
        str(folder), card, "localizer", networks.Localizer(recipe.localizer).state_dict(), {}
    )
    for data in (pickle.dumps(_Trap(mark)), pickle.dumps({"weight": _Trap(mark)}, protocol=0)):
        (folder / "localizer.safetensors").write_bytes(data)
        values = json.loads((folder / "card.json").read_text())
        values["parts"]["localizer"]["sha256"] = hashlib.sha256(data).hexdigest()
        (folder / "card.json").write_text(json.dumps(values))
        with pytest.raises(ModelError, match="localizer"):
            model.load_localizer(str(folder), model.load_card(str(folder)))
    assert not mark.exists()


def test_a_trap_among_imagenet_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror's file whose hash is right and whose pickle is not just tensors."""
    mark, plain = tmp_path / "sprung", tmp_path / "plain"
    torch.save({"conv1.weight": _Trap(mark)}, plain)
    name = f"resnet50-{hashlib.sha256(plain.read_bytes()).hexdigest()[:8]}.pth"
    plain.rename(tmp_path / name)
    trunk = replace(trunks.TRUNKS["resnet50"], weights_url=f"https://example.org/{name}")
    monkeypatch.setitem(trunks.TRUNKS, "resnet50", trunk)
    with pytest.raises(ModelError, match="not a plain file of weights"):
        weights.imagenet("resnet50", "imagenet", str(tmp_path))
    assert not mark.exists()
