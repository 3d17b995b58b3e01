"""Erasure as operations meet it: by the job, again and again, on tables in any state."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bae import s3, storage
from bae.errors import LockedError, RunError
from bae.tables import contract, current, delta, erase, maintain, publish, runs
from jobs import erase as erase_job
from jobs import maintain as maintain_job
from tests.fakes import rows

ARCHIVE = "/an/archive/that/was/emptied"
OBJECTS = rows.listing(range(1, 60), ARCHIVE)


def _erase(root: str, person: int) -> None:
    """Erase by the job, and look for the person with other means than the job's."""
    secrets = [rows.key("patient", person)]
    secrets += [rows.key("scan", 2 * person), rows.key("scan", 2 * person + 1)]
    before = rows.content(root)
    assert erase_job.main(["--tables", root, "--patient", secrets[0]]) == 0
    for path in Path(root).rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            if path.suffix == ".parquet":
                text += repr(pq.read_table(path).to_pylist()).encode()
            for secret in secrets:
                assert secret.encode() not in text, path
    kept = {
        name: [
            row for row in found if not {row.get("scan_id"), row.get("patient_key")} & {*secrets}
        ]
        for name, found in before.items()
    }
    assert rows.content(root) == kept, "and nobody else is gone"


def _after_removal(root: str) -> None:
    assert current.mark(root, ARCHIVE, OBJECTS.slice(0, 30)) > 0


def _after_maintain(root: str) -> None:
    for start in range(60, 160, 10):
        rows.night(root, rows.listing(range(start, start + 10), ARCHIVE), "m1", ARCHIVE)
    assert maintain_job.main(["--tables", root, "--keep-days", "1"]) == 0


def _after_new_model(root: str) -> None:
    rows.night(root, OBJECTS, "m22", ARCHIVE)


def _unfinished(root: str, archive: str, model_id: str | None) -> runs.Run:
    run = runs.open_run(root, archive, model_id, OBJECTS, part_objects=16)
    for number, part in list(run.remaining().items())[:2]:
        run.store(number, rows.staged(part, model_id))
    return run


def _broken_night(root: str) -> None:
    _unfinished(root, ARCHIVE, "m22")


def _stale_run_elsewhere(root: str) -> None:
    _unfinished(root, "s3://another/archive", None)


def _staging_without_run(root: str) -> None:
    run = _unfinished(root, ARCHIVE, "m22")
    storage.delete(storage.join(run.uri, "run.json"))


def _orphan_file(root: str) -> None:
    table = delta.delta(root, "cohort/ages")
    assert table is not None
    shutil.copy(delta.files(table)[0], Path(root, "cohort/ages/part-00000-orphan.zstd.parquet"))


def _half_published(root: str) -> None:
    run = runs.open_run(root, ARCHIVE, "m22", OBJECTS)
    for number, part in run.remaining().items():
        run.store(number, rows.staged(part, "m22"))
    left = [3]

    def die() -> None:
        left[0] -= 1
        if not left[0]:
            raise LockedError("killed")

    with pytest.raises(LockedError):
        publish.publish(run, die)


def _half_published_and_staging_gone(root: str) -> None:
    _half_published(root)
    shutil.rmtree(Path(root, contract.STAGING))


STATES: list[Callable[[str], None]] = [
    _after_removal, _after_maintain, _after_new_model, _broken_night, _stale_run_elsewhere,
    _staging_without_run, _orphan_file, _half_published, _half_published_and_staging_gone,
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__.strip("_"))
def test_erasure_works_twice_in_any_state_of_the_tables(
    tmp_path: Path, state: Callable[[str], None]
) -> None:
    """Two patients one after the other; only theirs is gone."""
    root = str(tmp_path)
    rows.night(root, OBJECTS, "m1", ARCHIVE)
    state(root)
    if state is _half_published:
        publish.finish_halves(root, lambda: None)  # which erasure does first, too
    _erase(root, 3)
    _erase(root, 7)


def test_an_unfinished_run_goes_on_after_an_erasure(tmp_path: Path) -> None:
    """Only the parts that held the patient are read again."""
    root = str(tmp_path)
    rows.night(root, OBJECTS, "m1", ARCHIVE)
    run = _unfinished(root, ARCHIVE, "m22")
    assert len(run.remaining()) == 2
    _erase(root, 3)
    assert len(run.remaining()) == 3
    for number, part in run.remaining().items():
        run.store(number, rows.staged(part, "m22"))
    publish.finish(run)
    assert delta.read(root, "cohort/ages").num_rows == 2 * 57 - 2


@pytest.mark.parametrize("checks", range(1, 7))
def test_an_erasure_that_was_killed_goes_on(tmp_path: Path, checks: int) -> None:
    """Also where no table has the patient any more, but replaced files do."""
    root, patient = str(tmp_path), rows.key("patient", 3)
    rows.night(root, OBJECTS, "m1", ARCHIVE)
    left = [checks]

    def die() -> None:
        left[0] -= 1
        if not left[0]:
            raise LockedError("killed")

    with pytest.raises(LockedError):
        erase.erase(root, patient, die)
    _erase(root, 3)
    assert not list(Path(root, contract.ERASING).iterdir())
    assert erase_job.main(["--tables", root, "--patient", patient]) == 2


def test_a_patient_of_a_broken_first_night_is_erased(tmp_path: Path) -> None:
    """No table has the patient yet, but the staged rows do."""
    run = _unfinished(str(tmp_path), ARCHIVE, "m1")
    _erase(str(tmp_path), 3)
    assert len(run.remaining()) == 3


def test_an_archive_out_of_reach_does_not_stop_an_erasure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, and a sentence on what could not be looked up."""
    monkeypatch.setattr(s3, "PATIENCE_S", 0.1)
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a",
                        "AWS_SECRET_ACCESS_KEY": "b"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    rows.night(str(tmp_path), rows.listing(range(1, 30)), "m1")
    _erase(str(tmp_path), 3)
    assert "the archive is out of reach" in capsys.readouterr().out


def test_a_fault_after_the_first_deletion_is_not_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Something was written: 1, and the same command goes on."""
    root, patient = str(tmp_path), rows.key("patient", 3)
    rows.night(root, OBJECTS, "m1", ARCHIVE)

    def full(uri: str) -> None:
        raise storage.StorageError("cannot delete an object: permission denied")

    run = _unfinished(root, ARCHIVE, "m22")
    with monkeypatch.context() as fault:
        fault.setattr(storage, "delete", full)
        assert erase_job.main(["--tables", root, "--patient", patient]) == 1
    assert "permission denied" in capsys.readouterr().err
    assert run.remaining()
    assert erase_job.main(["--tables", root, "--patient", patient]) == 0


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["KEY"], pa.string_view()),
        pa.array(["KEY"], pa.large_string()),
        pa.array([b"xKEYx"], pa.binary()),
        pa.array([b"KEYx"], pa.binary(4)),
        pa.array(["KEY"]).dictionary_encode(),
        pa.array([[{"a": ["KEY"]}]], pa.large_list(pa.struct([("a", pa.list_(pa.string()))]))),
        pa.array([[("KEY", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([["KEY", "b"]], pa.list_(pa.string(), 2)),
    ],
    ids=lambda column: str(column.type),
)
def test_the_proof_reads_every_kind_of_text(column: pa.Array) -> None:
    """Whatever type a writer chose."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"number": [1], "text": column}), sink)
    data = sink.getvalue().to_pybytes()
    assert erase._holds(data, ["other", "KEY"])
    assert not erase._holds(data, ["other"])


def test_the_proof_names_what_it_does_not_know() -> None:
    """A type that may hold text must not be passed over."""
    nested = pa.chunked_array([pa.array([1.0]).cast(pa.float64())])
    assert not list(erase._texts(nested))
    union = pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()),
                                     [pa.array(["KEY"])])  # fmt: skip
    with pytest.raises(RunError, match="cannot be proved"):
        list(erase._texts(pa.chunked_array([union])))


def test_a_run_can_be_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The unfinished runs are listed; a wrong name changes nothing."""
    root = str(tmp_path)
    rows.night(root, OBJECTS, "m1", ARCHIVE)
    run = _unfinished(root, ARCHIVE, "m22")
    assert maintain_job.main(["--tables", root]) == 0
    assert (
        f"unfinished run {run.run_id} for model m22: 2 of 4 parts left" in capsys.readouterr().out
    )
    assert maintain_job.main(["--tables", root, "--give-up", "other"]) == 2
    assert run.run_id in capsys.readouterr().err
    assert maintain_job.main(["--tables", root, "--give-up", run.run_id]) == 0
    assert not runs.unfinished(root) and not Path(run.uri).exists()
    assert maintain.drop_abandoned(root, 0) == 0
