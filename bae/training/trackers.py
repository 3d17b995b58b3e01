"""Training curves for the tools that people watch them with: TensorBoard and MLflow."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from bae import storage
from bae.errors import UseError

Track = Callable[[dict[str, float]], None]

_COUNTERS = {"epoch", "epochs"}


@contextmanager
def tracked(model_uri: str, run_name: str, parameters: dict[str, Any]) -> Iterator[Track]:
    """Give a function to call with each epoch's metrics.

    TensorBoard's event files appear in ``<model>/tensorboard/<run>/``, one whole file for
    each epoch (``tensorboard --logdir <model>/tensorboard``), so an epoch repeated after
    a fault replaces its own. Where ``MLFLOW_TRACKING_URI`` is set, a run of that name
    goes there, too. Neither gets a scan id or a path of the archive.

    Args:
        parameters: the recipe, section by section.

    Raises:
        UseError: MLflow is asked for and not installed.
    """
    place = storage.join(model_uri, "tensorboard", run_name)
    with _mlflow(run_name, parameters) as to_mlflow:

        def track(metrics: dict[str, float]) -> None:
            step = int(metrics["epoch"])
            shown = {name: value for name, value in metrics.items() if name not in _COUNTERS}
            # TensorBoard reads a run's files in the order of their names
            file = f"events.out.tfevents.{step:010d}"
            storage.write_bytes(storage.join(place, file), _events(shown, step))
            to_mlflow(shown, step)

        yield track


def _events(metrics: dict[str, float], step: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        # only close() waits until all is in the file; flush() does not
        with SummaryWriter(folder) as writer:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
        (file,) = Path(folder).iterdir()
        return file.read_bytes()


@contextmanager
def _mlflow(
    run_name: str, parameters: dict[str, Any]
) -> Iterator[Callable[[dict[str, float], int], None]]:
    if "MLFLOW_TRACKING_URI" not in os.environ:
        yield lambda metrics, step: None
        return
    try:
        import mlflow
    except ImportError as error:
        raise UseError(
            "MLFLOW_TRACKING_URI is set but MLflow is not installed; "
            "pip install 'bae[mlflow]', or unset it"
        ) from error
    mlflow.set_experiment("bae")
    with mlflow.start_run(run_name=run_name):
        mlflow.log_params(
            {
                f"{section}.{name}": value
                for section, fields in parameters.items()
                if isinstance(fields, dict)
                for name, value in fields.items()
            }
        )
        yield lambda metrics, step: mlflow.log_metrics(metrics, step=step)
