"""The whole job over planted objects: nothing planted gets out of restricted/."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pyarrow.parquet
import pytest

from bae import recipes
from tests.archive.test_objects import EIGHT, picture, zipped
from tests.fakes import dicoms, planted, tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets live in it."""
    folder = Path(tempfile.mkdtemp(prefix="leak-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _model(folder: Path) -> None:
    changes = ["localizer.width=48", "localizer.height=96", "regressor.width=48"]
    tiny.write_model(folder, recipes.recipe("small", [*changes, "regressor.height=64"]))


def _archive(folder: Path) -> list[str]:
    """Write planted objects, good and bad, under planted names; return all secrets."""
    words = planted.words()
    good, secrets = planted.plant(words)
    names = [next(words) for _ in range(8)]
    bad, more = planted.plant(words)
    (folder / names[0]).mkdir(parents=True)
    (folder / names[0] / f"{names[1]}.dcm").write_bytes(good)
    (folder / names[0] / f"{names[2]}.dcm").write_bytes(bad[: len(bad) // 2])
    (folder / f"{names[3]}.zip").write_bytes(
        zipped(
            (f"{names[4]}/ok.dcm", dicoms.scan(SOPInstanceUID="1.2.826.0.1.777002.1")),
            (f"{names[5]}.txt", names[5].encode()),
            (f"{names[6]}.dcm", dicoms.scan(Modality=names[6])),
        )
    )
    (folder / f"{names[7]}.png").write_bytes(picture(EIGHT))
    (folder / "labels").mkdir()
    keys = [next(words) for _ in range(3)]
    (folder / "labels" / "labels.csv").write_text(
        "key,birth_date,scan_date,sex,patient\n"
        f"{names[7]},1950-06-01,2011-01-15,F,{keys[0]}\n"
        f"{keys[1]},1949-07-02,2012-02-16,M,{keys[2]}\n"
    )
    return [*secrets, *more, *names, *keys, "1.2.826.0.1.777002.1", "1949-07-02", "19490702"]


def _written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file's bytes; of Parquet also what is inside the compressed pages."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if path.suffix == ".parquet":
                data += str(pyarrow.parquet.read_table(path).to_pydict()).encode()
                data += str(pyarrow.parquet.read_metadata(path)).encode()
            yield path, data


@pytest.mark.ray
@pytest.mark.slow
def test_nothing_planted_leaves_the_restricted_folder(room: Path) -> None:
    """Tables, the job's output and all of Ray's own logs, byte by byte."""
    _model(room / "model")
    secrets = _archive(room / "archive")
    labels_file = room / "labels.csv"
    shutil.move(room / "archive" / "labels" / "labels.csv", labels_file)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BAE_", "RAY_"))}
    key = token_hex(32)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "jobs.predict",
            "--archive",
            str(room / "archive"),
            "--tables",
            str(room / "tables"),
            "--model",
            str(room / "model"),
            "--labels",
            str(labels_file),
            "--max-rejected",
            "1",
        ],
        capture_output=True,
        cwd=ROOT,
        env=environment
        | {"RAY_TMPDIR": str(room / "ray"), "BAE_LOG": "json", "BAE_PSEUDONYM_KEY": key},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    summary = done.stdout.decode()
    assert re.search(r"scored +3 scans", summary), summary
    assert re.search(r"refused +3", summary), summary

    restricted = room / "tables" / "restricted"
    inside = b"".join(data for _, data in _written(restricted))
    # a check of the search itself: the object's name is where it may be
    assert any(secret.encode() in inside for secret in secrets)
    patterns = [secret.encode() for secret in secrets] + [key.encode(), key.upper().encode()]
    outside = [("stdout", done.stdout), ("stderr", done.stderr)]
    outside += [
        (str(path.relative_to(room)), data)
        for folder in ("tables", "ray", "model")
        for path, data in _written(room / folder)
        if restricted not in path.parents
    ]
    assert any(name.startswith("ray/") for name, _ in outside), "Ray's logs were searched too"
    assert any(name.startswith("tables/cohort/ages") for name, _ in outside)
    searched = re.compile(b"|".join(re.escape(pattern) for pattern in patterns))
    leaks = {name: set(searched.findall(data)) for name, data in outside if searched.search(data)}
    assert leaks == {}
