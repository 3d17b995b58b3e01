"""Keep what a release writes: ``python make.py RELEASE.zip``, in a checkout of that release.

::

    git worktree add ../old b2d7d90          # 0.1.0
    cd ../old && PYTHONPATH=. python PATH_TO/tests/releases/make.py 0.1.0.zip

The zip holds a model, and the tables after two nights over copies of the real scan that
pydicom carries and one object that is no scan. Weights repeat one short row of random
numbers, so that they compress to nearly nothing and still give answers of their own.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import pydicom
import torch
from pydicom.data import get_testdata_file

KEY = "00" * 32
PLACE = Path(tempfile.gettempdir()) / "bae-release"
"""Where the archive lies when tables are written and read: they hold the objects' paths."""
MODIFIED_S = 1_767_225_600
"""Modification time of every object: part of a local object's etag."""
SETTINGS = [
    "localizer.width=48",
    "localizer.height=96",
    "regressor.width=48",
    "regressor.height=64",
]


def write_archive(folder: Path, numbers: range) -> None:
    """Write the scan under new identities, the same bytes and times whenever called."""
    source = pydicom.dcmread(str(get_testdata_file("JPEG2000.dcm")))
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        source.SOPInstanceUID = f"1.2.3.{number}"
        source.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
        source.PatientID = f"P{number // 2}"
        sink = io.BytesIO()
        source.save_as(sink)
        (folder / f"{number:03d}.dcm").write_bytes(sink.getvalue())
    (folder / "999.txt").write_text("no scan")
    for path in folder.iterdir():
        os.utime(path, (MODIFIED_S, MODIFIED_S))


def write_model(folder: Path) -> None:
    """Write a model whose weights compress."""
    from bae import recipes
    from bae.method import model
    from bae.method.networks import Localizer, Regressor

    recipe = recipes.recipe("small", SETTINGS)
    card = model.Card(recipe=recipe, parts={})
    for name, network in (
        ("localizer", Localizer(recipe.localizer)),
        ("regressor", Regressor(recipe.regressor)),
    ):
        short = torch.randn(64, generator=torch.Generator().manual_seed(len(name)))
        for parameter in network.parameters():
            row = short.repeat(parameter.numel() // 64 + 1)[: parameter.numel()]
            scale = max(parameter[0].numel(), 1) ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.data = row.reshape(parameter.shape) * scale + (parameter.dim() == 1)
        facts = {"metrics": {"validation_error_90_years": 9.5}, "data": {}, "fit": {"epochs": 1}}
        card = model.save_part(str(folder), card, name, network.state_dict(), facts)


def main(target: str) -> None:
    """Make everything, then zip it."""
    from jobs import predict

    os.environ["BAE_PSEUDONYM_KEY"] = KEY
    shutil.rmtree(PLACE, ignore_errors=True)
    write_model(PLACE / "model")
    flags = ["--archive", str(PLACE / "archive"), "--tables", str(PLACE / "tables")]
    for night in (range(3), range(3, 4)):
        write_archive(PLACE / "archive", night)
        assert predict.main([*flags, "--model", str(PLACE / "model")]) == 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for path in sorted(PLACE.rglob("*")):
            name = path.relative_to(PLACE)
            if path.is_file() and not {"archive", "lease"} & set(name.parts):
                out.write(path, name)
    shutil.rmtree(PLACE)


if __name__ == "__main__":
    main(sys.argv[1])
