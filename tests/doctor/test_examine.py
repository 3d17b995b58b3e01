"""What would make tonight's run fail is found, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from bae import recipes, storage
from bae.doctor import examine, finding, places
from bae.doctor.finding import FAIL, OK, WARN, Finding
from bae.errors import RunError
from bae.method import model
from bae.tables import contract, lease, nights, runs
from jobs import doctor
from tests.fakes import rows, s3_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of one object, tables of a night, a model of two files."""
    root = tmp_path_factory.mktemp("site")
    storage.write_bytes(f"{root}/archive/a.dcm", b"scan")
    tables = f"{root}/tables"
    rows.night(tables, rows.listing(range(1, 5)), "m1")
    with lease.hold(tables, "predict"), nights.kept(tables, "predict", "m1"):
        pass
    card = model.Card(recipe=recipes.small(), parts={})
    for name in ("localizer", "regressor"):
        card = model.save_part(f"{root}/model", card, name, {"x": torch.zeros(1)}, {})
    return root


@pytest.fixture
def site(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, for a test to change; no cluster."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return shutil.copytree(made, tmp_path / "site")


def _examined(site: Path) -> dict[str, Finding]:
    """Return the findings by what they are about; those of one name the last."""
    found = examine.examine(f"{site}/archive", f"{site}/tables", f"{site}/model")
    return {one.about: one for one in found}


def _tree(site: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in site.rglob("*")}


def test_all_is_well_and_nothing_stays(site: Path) -> None:
    """Every line but those of this machine is ok; not a file or folder more or less."""
    before = _tree(site)
    found = _examined(site)
    assert _tree(site) == before
    here = {"memory", "shared memory", "Ray's disk", "DuckDB's disk"}
    assert {about for about, one in found.items() if one.state != OK} <= here
    assert "predict ended" in found["last night"].found and "well" in found["last night"].found


def test_a_first_night_needs_no_tables_and_makes_no_folder(tmp_path: Path) -> None:
    """The probe lies in the nearest folder that is there."""
    storage.write_bytes(f"{tmp_path}/archive/a.dcm", b"scan")
    found = {one.about: one for one in examine.examine(f"{tmp_path}/archive", f"{tmp_path}/t/x")}
    assert found["restricted/ written"].state == OK
    assert "the first run makes them" in found["tables"].found
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def _no_archive(site: Path, patch: pytest.MonkeyPatch) -> None:
    (site / "archive" / "a.dcm").unlink()
    (site / "archive").rmdir()


def _empty_archive(site: Path, patch: pytest.MonkeyPatch) -> None:
    (site / "archive" / "a.dcm").unlink()


def _unreadable_archive(site: Path, patch: pytest.MonkeyPatch) -> None:
    (site / "archive" / "a.dcm").unlink()
    os.mkfifo(site / "archive" / "b.dcm")
    patch.setattr(storage, "some", lambda uri, count: [f"{uri}/b.dcm"])


def _tables_behind_a_file(site: Path, patch: pytest.MonkeyPatch) -> None:
    (site / "tables").rename(site / "moved")
    (site / "tables").write_text("")


def _created_twice(site: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(storage, "create", lambda uri, data: storage.write_bytes(uri, data) or True)


def _no_key(site: Path, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("BAE_PSEUDONYM_KEY")


def _other_key(site: Path, patch: pytest.MonkeyPatch) -> None:
    kept = {"key_fingerprint": "f" * 32, "issuers": False, "age_decimals": 1}
    storage.write_bytes(f"{site}/tables/{contract.SETTINGS}", json.dumps(kept).encode())


def _damaged_settings(site: Path, patch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(f"{site}/tables/{contract.SETTINGS}", b"{")


def _no_model(site: Path, patch: pytest.MonkeyPatch) -> None:
    (site / "model" / "card.json").unlink()


def _no_weights(site: Path, patch: pytest.MonkeyPatch) -> None:
    (site / "model" / "regressor.safetensors").unlink()


def _other_weights(site: Path, patch: pytest.MonkeyPatch) -> None:
    with (site / "model" / "localizer.safetensors").open("ab") as file:
        file.write(b"x")


def _other_columns(site: Path, patch: pytest.MonkeyPatch) -> None:
    path = next((site / "tables" / "cohort" / "ages" / "_delta_log").glob("*0.json"))
    path.write_text(path.read_text().replace('\\"double\\"', '\\"string\\"'))


def _no_address(site: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("RAY_ADDRESS", "nowhere at all")


def _long_sockets(site: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 90)


Broken = Callable[[Path, pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    ("broken", "about", "said"),
    [
        (_no_archive, "archive read", "there is no folder"),
        (_empty_archive, "archive read", "holds no objects"),
        (_unreadable_archive, "archive read", "gives none of its first 1 objects"),
        (_tables_behind_a_file, "tables written", "not a folder"),
        (_created_twice, "restricted/ written", "created twice"),
        (_no_key, "pseudonym key", "no pseudonym key on"),
        (_other_key, "pseudonym key", "another pseudonym key"),
        (_damaged_settings, "pseudonym key", "this check broke itself (JSONDecodeError)"),
        (_no_model, "model", "card.json is missing"),
        (_no_weights, "model", "regressor.safetensors is missing"),
        (_other_weights, "model", "localizer.safetensors is not the file its card names"),
        (_other_columns, "tables", "on disk, this version of bae writes"),
        (_no_address, "cluster", "expected host:port"),
        (_long_sockets, "Ray's disk", "too long for the sockets"),
    ],
)
def test_what_would_fail_tonight_says_so_with_a_remedy(
    site: Path, monkeypatch: pytest.MonkeyPatch, broken: Broken, about: str, said: str
) -> None:
    """One line, no traceback, nothing left; the other checks go on."""
    broken(site, monkeypatch)
    before = _tree(site) if broken is not _unreadable_archive else None
    found = _examined(site)
    assert found[about].state == FAIL
    assert said in f"{found[about].found}; {found[about].remedy}"
    assert found[about].remedy and "\n" not in found[about].found
    assert "processors" in found
    assert before is None or _tree(site) == before


def _begun(site: Path) -> None:
    runs.open_run(f"{site}/tables", f"{site}/archive", "m0", rows.listing(range(9, 12)))


def _killed(site: Path) -> None:
    code = (
        "import os; from bae.tables import lease\n"
        f"with lease.hold({str(site / 'tables')!r}, 'predict'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)


def _folder_of_no_run(site: Path) -> None:
    path = site / "tables" / contract.STAGING / "2026-01-00000000" / "todo-000.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    os.utime(path, (time.time() - 86400 * 3,) * 2)


def _file_of_no_version(site: Path) -> None:
    path = site / "tables" / "cohort" / "ages" / "part-00000-left.parquet"
    path.write_bytes(b"")
    os.utime(path, (time.time() - 86400 * 40,) * 2)


def _erasing(site: Path) -> None:
    storage.write_bytes(f"{site}/tables/{contract.ERASING}/{'0' * 32}.json", b"{}")


def _bad_night(site: Path) -> None:
    with pytest.raises(RunError), nights.kept(f"{site}/tables", "predict", "m1"):
        raise RunError("the disk is full")


def _other_versions(site: Path) -> None:
    card = json.loads((site / "model" / "card.json").read_text())
    card["versions"]["torch"] = "1.0"
    (site / "model" / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("odd", "about", "said", "remedy"),
    [
        (_begun, "unfinished runs", "1 of 1 parts left", "--give-up 20"),
        (_killed, "lease", "ended without letting go", "takes over by itself"),
        (_folder_of_no_run, "staging", "1 abandoned", "jobs.maintain"),
        (_file_of_no_version, "old files", "1 that no version", "jobs.maintain"),
        (_erasing, "erasures", "1 not finished", "jobs.erase"),
        (_bad_night, "last night", "badly: the disk is full", "goes on"),
        (_other_versions, "model's versions", "the model's 1.0", "evaluate it"),
    ],
)
def test_what_somebody_should_look_at_fails_nothing(
    site: Path, odd: Callable[[Path], None], about: str, said: str, remedy: str
) -> None:
    """A warning, with what to do."""
    odd(site)
    before = _tree(site)
    found = _examined(site)
    assert _tree(site) == before, "it only looks"
    assert found[about].state == WARN, found[about]
    assert said in found[about].found and remedy in found[about].remedy
    assert not [one for one in found.values() if one.state == FAIL]


def test_the_run_that_goes_on_tonight_is_no_warning(site: Path) -> None:
    """It is this archive's and this model's; a live holder is one."""
    archive, tables = f"{site}/archive", f"{site}/tables"
    runs.open_run(tables, archive, None, storage.list_objects(archive))
    with lease.hold(tables, "index"):
        found = {one.about: one for one in examine.examine(archive, tables)}
    assert found["unfinished runs"].state == OK
    assert found["lease"].state == WARN and "is at work" in found["lease"].found


def test_a_probe_that_stays_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write but not delete is told, since a night deletes, too."""

    def refused(uri: str) -> None:
        raise storage.StorageError("cannot delete an object: permission denied")

    monkeypatch.setattr(storage, "delete", refused)
    [found] = finding.findings("x", "y", lambda: places.tables(f"{site}/tables"))
    assert found.state == FAIL and places.PROBE in found.remedy and "stays" in found.remedy


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("skew_s", "noted", "state", "said"),
    [
        (0.4, None, OK, "2026-11-24 12:00 UTC"),
        (-1.0, -3600.0, OK, "within 1 s"),
        (120.0, None, WARN, "120 s ahead of this machine's"),
        (-120.0, None, WARN, "120 s behind this machine's"),
        (0.0, 600.0, WARN, "600 s behind what the last run has noted"),
    ],
)
def test_a_clock_that_is_off_is_a_warning(
    skew_s: float, noted: float | None, state: str, said: str
) -> None:
    """Of this machine beside the storage, and beside what was noted before."""
    latest = None if noted is None else NOW + timedelta(seconds=noted)
    found = places.clock(skew_s, latest, NOW)
    assert found.state == state and said in found.found


# ---- the job --------------------------------------------------------------------------------


def test_the_job_ends_with_0_or_1_and_one_line_each(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aligned; the last word of a bad one is how many lines say FAIL."""
    flags = ["--archive", f"{site}/archive", "--tables", f"{site}/tables"]
    assert doctor.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line[:4].strip() in (OK, WARN, FAIL) for line in lines)
    assert len({len(line[6:]) - len(line[6:].split("  ", 1)[1].lstrip()) for line in lines}) == 1
    monkeypatch.delenv("BAE_PSEUDONYM_KEY")
    assert doctor.main(flags) == 1
    printed = capsys.readouterr()
    assert f"1 of {len(lines)} lines say FAIL" in printed.err
    assert "FAIL  pseudonym key" in printed.out


@pytest.mark.parametrize("tables", ["/tmp/a%b", "gs://bucket", ""])
def test_a_place_that_cannot_be_one_is_wrong_use(
    tables: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one sentence."""
    assert doctor.main(["--archive", "/tmp", "--tables", tables]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_it_needs_neither_ray_nor_torch(site: Path) -> None:
    """Without a cluster."""
    flags = ["--archive", f"{site}/archive", "--tables", f"{site}/tables"]
    code = (
        "import sys; from jobs import doctor;"
        f"rc = doctor.main({[*flags, '--model', f'{site}/model']!r});"
        "print('then', rc, {'ray', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode().splitlines()[-1] == "then 0 set()"


# ---- on S3 ----------------------------------------------------------------------------------


def _objects(place: str) -> list[str]:
    return storage.list_objects(place, hidden=True)["object_uri"].to_pylist()


def test_on_s3_all_is_well_and_nothing_stays(s3: s3_server.Server) -> None:
    """Conditional creation too, and the server's clock."""
    storage.write_bytes("s3://archive/doctor/a.dcm", b"scan")
    storage.write_bytes("s3://tables/doctor/x", b"")
    before = _objects("s3://tables")
    found = examine.examine("s3://archive/doctor", "s3://tables/doctor")
    about = {one.about: one.state for one in found}
    assert _objects("s3://tables") == before
    for one in ("archive read", "restricted/ written", "cohort/ written", "clock", "tables"):
        assert about[one] == OK, finding.text(found)


def test_on_s3_who_may_only_read_is_told(
    s3: s3_server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is well, the tables are not."""
    storage.write_bytes("s3://archive/doctor/a.dcm", b"scan")
    for name, value in s3_server.environment(s3.endpoint, s3_server.READER).items():
        monkeypatch.setenv(name, value)
    found = {one.about: one for one in examine.examine("s3://archive/doctor", "s3://tables/d")}
    assert found["archive read"].state == OK
    assert found["tables written"].state == FAIL
    assert "may not do this" in found["tables written"].found


def test_a_server_that_is_away_is_told_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after a night's patience, and not once for each place."""
    port = s3_server.free_port()
    for name, value in s3_server.environment(f"http://127.0.0.1:{port}").items():
        monkeypatch.setenv(name, value)
    start = time.monotonic()
    found = {one.about: one for one in examine.examine("s3://a/b", "s3://t/u", "s3://m/n")}
    assert time.monotonic() - start < 30
    for about in ("archive read", "tables written", "model"):
        assert found[about].state == FAIL and "no answer from" in found[about].found
    assert "lease" not in found
