"""An archive, a model and tables on this machine, and the jobs over them."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from bae.tables import connect
from tests.fakes import dicoms


class Place:
    """Where jobs are run as a user would, and the tables asked."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.archive, self.model = folder / "archive", str(folder / "model")
        self.tables, self.labels = str(folder / "tables"), folder / "labels.csv"
        self.capsys = capsys
        self.archive.mkdir()

    def scan(self, name: str, patient: str, uid: int, **elements: Any) -> None:
        """Write an object; the same name again replaces it."""
        path = self.archive / name
        path.parent.mkdir(parents=True, exist_ok=True)
        uid_text = f"1.2.826.0.1.3680043.{uid}"
        path.write_bytes(dicoms.scan(PatientID=patient, SOPInstanceUID=uid_text, **elements))

    def job(self, name: str, *flags: str) -> tuple[int, str]:
        """Run a job; return its exit code and all that it printed."""
        self.capsys.readouterr()
        try:
            code = int(importlib.import_module(f"jobs.{name}").main(list(flags)))
        except SystemExit as stop:
            code = int(str(stop.code))
        return code, "".join(self.capsys.readouterr())

    def night(self, name: str = "predict", *flags: str) -> str:
        """Index or predict, which must succeed; return what it printed."""
        places = ["--archive", str(self.archive), "--tables", self.tables]
        scoring = ["--model", self.model] if name == "predict" else []
        code, said = self.job(name, *places, *scoring, *flags)
        assert code == 0, said
        return said

    def labelled(self, text: str) -> tuple[str, str]:
        """Write a labels file and return the flag for it."""
        self.labels.write_text(text)
        return "--labels", str(self.labels)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the tables as an analyst who may read restricted/."""
        return connect(self.tables, restricted=True).sql(query).fetchall()
