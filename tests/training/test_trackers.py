"""Training curves for TensorBoard and MLflow."""

import builtins
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from bae.errors import UseError
from bae.training import trackers

EPOCHS = [{"epoch": 1.0, "epochs": 2.0, "mae_years": 9.0}, {"epoch": 2.0, "mae_years": 7.5}]


def _scalars(folder: Path) -> list[tuple[int, str, float]]:
    """Read an event file's records: length, its checksum, the event, its checksum."""
    found = []
    for file in sorted(folder.rglob("events.*")):
        data = file.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[16 + size :]
    return found


def test_tensorboard_gets_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are whole after every epoch, also if the training then dies."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with trackers.tracked(str(tmp_path), "run", {}) as track:
        track(EPOCHS[0])
        assert _scalars(tmp_path / "tensorboard" / "run") == [(1, "mae_years", 9.0)]
        track(EPOCHS[1])
    assert _scalars(tmp_path)[1] == (2, "mae_years", 7.5)


def test_mlflow_gets_recipe_and_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a tracking URI is set; read back through MLflow's own client."""
    mlflow = pytest.importorskip("mlflow")
    place = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(place)
    with trackers.tracked(str(tmp_path / "m"), "run", {"region": {"gamma": 150.0}}) as track:
        for metrics in EPOCHS:
            track(metrics)
    client = mlflow.MlflowClient(tracking_uri=place)
    (experiment,) = (e for e in client.search_experiments() if e.name == "bae")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"region.gamma": "150.0"}
    history = client.get_metric_history(run.info.run_id, "mae_years")
    assert [(m.step, m.value) for m in history] == [(1, 9.0), (2, 7.5)]


def test_mlflow_that_is_not_installed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for by the variable, absent from the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "mlflow":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(UseError, match="MLflow is not installed"),
        trackers.tracked(str(tmp_path), "run", {}),
    ):
        pass
