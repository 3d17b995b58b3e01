"""What the machine, the flags and the places cannot give is said before anything is written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bae import environment, s3
from bae.errors import StorageError, UseError
from bae.phantom import write
from bae.tables import contract
from bae.training import loop
from tests.fakes import dicoms, tiny
from tests.fakes.place import Place

ROOT = Path(__file__).parents[2]


def _index(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "archive").mkdir(exist_ok=True)
    (folder / "archive" / "a.dcm").write_bytes(dicoms.scan())
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    command = [sys.executable, "-m", "jobs.index", "--archive", str(folder / "archive")]
    return subprocess.run(
        [*command, "--tables", str(folder / "tables")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=kept | {"BAE_LOG": "text"} | variables,
        timeout=240,
        check=False,
    )


@pytest.mark.ray
@pytest.mark.slow
def test_no_home_a_long_tmpdir_and_an_empty_address_simply_work(tmp_path: Path) -> None:
    """All three at once."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    done = _index(tmp_path, HOME="/proc/none", TMPDIR=str(long), RAY_ADDRESS="")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A checkout on a file system that nobody can write to, not even root."""
    place = tmp_path / "checkout"
    place.mkdir()
    mount = ["mount", "--bind", str(ROOT), str(place)]
    again = ["mount", "-o", "remount,ro,bind", str(place)]
    if any(
        subprocess.run(words, capture_output=True, check=False).returncode
        for words in (mount, again)
    ):
        pytest.skip("mounting read-only needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_read_only_checkout_is_enough(read_only: Path, tmp_path: Path, tiny_model: Path) -> None:
    """Every job says what it is for; phantoms are written, indexed and scored elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}

    def job(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"jobs.{name}", *flags],
            capture_output=True,
            text=True,
            cwd=read_only,
            env=kept | {"BAE_LOG": "text"},
            timeout=240,
            check=False,
        )

    with pytest.raises(OSError):
        (read_only / "x").write_text("")
    for path in sorted((ROOT / "jobs").glob("[a-z]*.py")):
        if "def main(argv" in path.read_text():
            done = job(path.stem, "--help")
            assert done.returncode == 0 and not done.stderr, (path.stem, done.stderr)
    places = ["--archive", str(tmp_path / "archive")]
    tables = ["--tables", str(tmp_path / "tables")]
    for words in (
        ["phantom", *places, "--scans", "2"],
        ["index", *places, *tables],
        ["predict", *places, *tables, "--model", str(tiny_model)],
    ):
        done = job(*words)
        assert done.returncode == 0, (words, done.stderr)
    done = job("demo")  # its folder would be in the checkout
    assert done.returncode == 2 and "cannot write at demo-data" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RAY_TMPDIR": "/tmp/" + "x" * 90}, "RAY_TMPDIR is too long"),
        ({"RAY_TMPDIR": "/proc/none"}, "RAY_TMPDIR cannot be written"),
        ({"RAY_TMPDIR": "/tmp/übrig"}, "RAY_TMPDIR has letters beyond ASCII"),
        ({"RAY_ADDRESS": "nowhere at all"}, "expected host:port"),
    ],
)
def test_what_ray_cannot_use_is_one_sentence(
    tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    """Exit code 2, one line, no tables folder."""
    done = _index(tmp_path, **variables)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "tables").exists()


def test_a_token_is_lent_only_where_the_home_holds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own stays where it can be kept."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.token() is None
    monkeypatch.setenv("HOME", "/proc/none")
    assert len(environment.token() or "") == 64


# ---- endpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["host:9000", "ftp://host", "https://", "//host/x", "https://h?x=1"]
)
def test_an_endpoint_that_is_no_url_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Of the job, with exit code 2."""
    from jobs import index

    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", text)
    with pytest.raises(StorageError, match="must be a URL"):
        s3.endpoint()
    code = index.main(["--archive", "s3://bucket/a", "--tables", "s3://bucket/t"])
    said = capsys.readouterr().err
    assert code == 2 and "AWS_ENDPOINT_URL must be a URL" in said and said.count("\n") == 1


def test_an_endpoint_below_a_path_reaches_every_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three asks below it, whatever it is told there."""
    import http.server
    import threading

    from deltalake import DeltaTable

    asked: list[str] = []

    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(s3, "PATIENCE_S", 1.0)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    url = f"http://127.0.0.1:{server.server_port}/storage/v1/s3/"
    for name, value in {
        "ENDPOINT_URL": url,
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(StorageError):
        s3.read("s3://bucket/one")
    s3.pyarrow_filesystem().get_file_info("bucket/two")
    with pytest.raises(OSError):
        DeltaTable("s3://bucket/three", storage_options=s3.delta_options())
    server.shutdown()
    assert asked and all(path.startswith("/storage/v1/s3/bucket") for path in asked)
    for client in ("one", "two", "three"):
        assert any(client in path for path in asked)


# ---- nothing is written before all of it is known -----------------------------------------


def test_a_refused_job_leaves_no_lease_and_no_folder(
    place: Place,
    tmp_path: Path,
) -> None:
    """A GPU that is not there, a model that is none, places that cannot be, nothing to erase."""
    place.scan("a.dcm", "ada", 1)
    scoring = ["--archive", str(place.archive), "--model", place.model]
    (tmp_path / "file").write_text("")
    refused = [
        ("predict", [*scoring, "--tables", place.tables, "--gpus", "1"], "GPU asked for"),
        ("predict", [*scoring, "--tables", place.tables, "--decode-cpus", "999"], "CPU asked for"),
        ("predict", [*scoring[:2], "--model", "nowhere", "--tables", place.tables], "no model at"),
        ("predict", [*scoring, "--tables", f"{tmp_path}/a%b"], "must not contain %"),
        ("predict", [*scoring, "--tables", f"{tmp_path}/file/t"], "not a folder"),
        (
            "predict",
            [*scoring, "--tables", place.tables, "--export-dicom", f"{tmp_path}/file/x"],
            "not a folder",
        ),
        (
            "predict",
            [*scoring, "--tables", place.tables, "--export-dicom", "dicomweb://me:secret@pacs"],
            "credentials do not belong in an address",
        ),
        ("maintain", ["--tables", place.tables], "no tables at"),
        ("erase", ["--tables", place.tables, "--patient", "0" * 32], "no table has this"),
    ]
    before = sorted(path for path in tmp_path.rglob("*"))
    for job, flags, said in refused:
        code, out = place.job(job, *flags)
        assert code == 2 and said in out, (job, flags, out)
        assert out.count("\n") == 1, out
        assert sorted(path for path in tmp_path.rglob("*")) == before, (job, flags)
    place.night()
    before = sorted(path for path in tmp_path.rglob("*"))
    for job, more in (("erase", ["--patient", "0" * 32]), ("maintain", ["--give-up", "x"])):
        assert place.job(job, "--tables", place.tables, *more)[0] == 2
    evaluated = ["--tables", place.tables, "--model", place.model]
    code, out = place.job("evaluate", *evaluated, "--out", f"{tmp_path}/file/out")
    assert code == 2 and "not a folder" in out
    assert sorted(path for path in tmp_path.rglob("*")) == before


def _full(*_: object, **__: object) -> None:
    raise StorageError("the disk is full")


def test_a_training_that_has_written_never_ends_with_2(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that is lost in the middle is a fault; what is asked for in vain is not."""
    for number in range(24):
        place.scan(f"{number}.dcm", f"p{number}", number + 1)
    place.night("index")
    made, samples = tmp_path / "made", Path(place.tables, contract.SAMPLES)
    flags = ["--tables", place.tables, "--model", str(made), *tiny.FLAGS]
    code, said = place.job("train_localizer", *flags, "--gpus", "1")
    assert code == 2 and "1 GPU asked for" in said
    assert not made.exists() and not samples.exists()
    monkeypatch.setattr(loop, "train", _full)
    code, said = place.job("train_localizer", *flags)
    assert samples.exists()
    assert code == 1 and "the disk is full (something was written before" in said


def test_an_archive_of_phantoms_that_fills_the_disk_is_a_fault(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first object was there."""
    monkeypatch.setattr(write, "_pieces", lambda *_: iter(_full, None))
    code, said = place.job("phantom", "--archive", str(tmp_path / "made"), "--scans", "8")
    assert code == 1 and "the disk is full (something was written before" in said


def test_a_demo_without_its_scan_says_so_first(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier demo's folder stays as it is."""
    monkeypatch.setattr("pydicom.data.get_testdata_file", lambda *_, **__: None)
    before = sorted(tmp_path.rglob("*"))
    code, said = place.job("demo", "--folder", str(tmp_path))
    assert code == 2 and "install the demo extra" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_an_address_is_one_of_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty is none."""
    for text in ("", " ", "local", "auto", "ray://head:10001", "10.0.0.1:6379", "[::1]:6379"):
        monkeypatch.setenv("RAY_ADDRESS", text)
        assert environment.address() == (text.strip() or None)
    monkeypatch.setenv("RAY_ADDRESS", "head")
    with pytest.raises(UseError, match="expected host:port"):
        environment.address()
