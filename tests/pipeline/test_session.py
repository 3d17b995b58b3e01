"""What a job takes of a cluster, and when it gives up waiting."""

import logging
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import ray
import ray.data

from bae.errors import RunError, UseError
from bae.pipeline.cluster import resources, session
from bae.pipeline.step import Resources


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, float]]]:
    """A made-up cluster: what is there now, what it is known to get, whether it grows."""
    made_up: dict[str, dict[str, float]] = {"now": {"CPU": 4.0}, "most": {}, "grows": {}}
    monkeypatch.setattr(resources, "grows", lambda: bool(made_up["grows"]))
    monkeypatch.setattr(ray, "cluster_resources", lambda: made_up["now"])
    state = ray._private.state.state
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: made_up["most"])
    yield made_up


def _shared_out(wanted: Resources) -> tuple[int | None, float | None]:
    found = resources.fitted(wanted)
    return found.actors, found.gpus


def test_one_process_on_the_cpu_where_there_is_no_gpu(has: dict[str, dict[str, float]]) -> None:
    """The default on a laptop."""
    assert _shared_out(Resources()) == (1, 0.0)


def test_one_process_for_each_gpu(has: dict[str, dict[str, float]]) -> None:
    """Shares of a GPU put several on one."""
    has["now"] = {"CPU": 16.0, "GPU": 4.0}
    assert _shared_out(Resources()) == (4, 1.0)
    assert _shared_out(Resources(gpus=0.5)) == (8, 0.5)
    assert _shared_out(Resources(actors=2)) == (2, 1.0)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Resources(gpus=1), "1 GPU asked for, the cluster can give 0; use --gpus 0"),
        (Resources(gpus=0.5, actors=4), "2 GPU asked for"),
        (Resources(decode_cpus=5), "5 CPU asked for, the cluster can give 4"),
    ],
)
def test_what_can_never_come_is_refused(
    wanted: Resources, words: str, has: dict[str, dict[str, float]]
) -> None:
    """One sentence instead of a hang."""
    with pytest.raises(UseError, match=words):
        resources.fitted(wanted)


def test_gpus_that_an_autoscaler_can_bring_count(has: dict[str, dict[str, float]]) -> None:
    """No GPU is there yet: one process waits for the first, and asking for one is no error."""
    has["now"], has["most"] = {}, {"CPU": 64.0, "GPU": 8.0}
    assert _shared_out(Resources()) == (1, 1.0)
    assert resources.fitted(Resources(actors=8)).actors == 8
    with pytest.raises(UseError, match="9 GPU asked for, the cluster can give 8"):
        resources.fitted(Resources(actors=9))
    assert resources.gpus_for_training((2, 8), None)
    assert resources.fitted_workers((2, 8)) == ((2, 8), 1.0)


def test_what_a_growing_cluster_is_asked_for_is_believed(has: dict[str, dict[str, float]]) -> None:
    """KubeRay's autoscaler does not say how far it goes; unasked, only what is there counts."""
    has["now"], has["grows"] = {}, {"yes": 1.0}
    assert _shared_out(Resources(gpus=1, actors=4)) == (4, 1)
    assert _shared_out(Resources(gpus=1)) == (1, 1)
    assert _shared_out(Resources()) == (1, 0.0)
    assert resources.gpus_for_training(2, 1)
    assert not resources.gpus_for_training(2, None)
    assert resources.fitted_workers((1, 4)) == ((1, 4), 1.0)


def test_training_leaves_a_cpu_to_ray_data(has: dict[str, dict[str, float]]) -> None:
    """However many workers: the sum of what they hold is one below what there is."""
    for there in (2, 3, 8):
        has["now"] = {"CPU": float(there)}
        for workers in (1, 2, 4, 16, (1, 4), (2, 16)):
            taken, each = resources.fitted_workers(workers)
            most = taken if isinstance(taken, int) else taken[1]
            assert most * each <= there - 1
    has["now"] = {"CPU": 3.0}
    assert resources.fitted_workers((1, 4)) == ((1, 2), 1.0)
    assert resources.fitted_workers((4, 8)) == (4, 0.5)


def test_training_without_a_spare_cpu_is_refused(has: dict[str, dict[str, float]]) -> None:
    """One CPU would be the worker's, and nobody would feed it."""
    has["now"] = {"CPU": 1.0}
    with pytest.raises(UseError, match="training needs two CPUs"):
        resources.gpus_for_training(1, None)
    has["now"] = {"CPU": 2.0}
    assert not resources.gpus_for_training(1, None)
    with pytest.raises(UseError, match="2 GPU asked for"):
        resources.gpus_for_training(2, 1)


def test_waiting_in_vain_ends_with_a_sentence() -> None:
    """The first item comes, the second does not."""

    def stuck() -> Iterator[int]:
        yield 1
        time.sleep(60)

    items = session.watched(stuck(), patience_s=0.2)
    assert next(items) == 1
    with pytest.raises(RunError, match="no part was finished"):
        next(items)


def test_watching_changes_nothing_else() -> None:
    """All items in order; an error of the source is the caller's."""
    assert list(session.watched(iter(range(5)), 10)) == [0, 1, 2, 3, 4]

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("as it is")

    items = session.watched(broken(), 10)
    assert next(items) == 1
    with pytest.raises(ValueError, match="as it is"):
        next(items)


def test_a_workers_error_is_one_sentence(local_ray: None) -> None:
    """Of the pages that Ray prints, the innermost cause is left."""

    @ray.remote(max_retries=0)
    def fails() -> None:
        raise UseError("cannot read an object: the bucket is gone")

    def items() -> Iterator[int]:
        yield 1
        ray.get(fails.remote())

    with pytest.raises(RunError) as caught:
        list(session.watched(items(), 60))
    assert str(caught.value) == (
        "cannot read an object: the bucket is gone; the same command goes on with what is left"
    )


def test_the_root_cause_is_the_innermost_that_says_something() -> None:
    """Ray Data wraps the error of a worker round an exception without a message."""
    try:
        try:
            raise SystemError
        except SystemError as error:
            raise RuntimeError("The actor died:\nValueError: what happened") from error
    except RuntimeError as error:
        assert session.root_cause(error) == "ValueError: what happened"
    assert session.root_cause(SystemError()) == "SystemError"


def test_the_root_cause_is_found_in_the_text_of_a_traceback() -> None:
    """Ray Data's own error carries the worker's traceback and ends with advice."""
    error = ray.exceptions.UserCodeException(
        "ray::Map() (pid=1)\n  File 'a.py', line 4\nOSError: [Errno 28]\n\nThe above exception was "
        "the direct cause of the following:\nbae.errors.StorageError: the disk is full\n\n"
        "The above exception was the direct cause of the following:\nRayTaskError: UDF failed"
    )
    assert session.root_cause(error) == "the disk is full"
    other = ray.exceptions.UserCodeException("ray::Map()\n  File 'a.py'\nKeyError: 'x'\n\nadvice")
    assert session.root_cause(other) == "KeyError: 'x'"


def test_decoding_runs_ahead_by_a_few_parts(has: dict[str, dict[str, float]]) -> None:
    """Four for each model process, one for each decoding CPU; no more than half of the store."""
    has["now"] = {"CPU": 4.0, "object_store_memory": 16 * 2**30}
    assert resources.fitted(Resources()).object_store_gb == pytest.approx(0.64)
    assert resources.fitted(Resources(actors=3, decode_cpus=2)).object_store_gb == pytest.approx(
        1.12
    )
    assert resources.fitted(Resources(object_store_gb=5.0)).object_store_gb == 5.0
    has["now"]["object_store_memory"] = 2**30
    assert resources.fitted(Resources()).object_store_gb == 0.5
    has["grows"] = {"yes": 1.0}
    assert resources.fitted(Resources()).object_store_gb is None


def test_a_dead_address_is_one_sentence_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait for twelve minutes."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start = time.monotonic()
    with pytest.raises(RunError, match="no Ray answers at RAY_ADDRESS"), session.session():
        pass
    assert time.monotonic() - start < 40


def test_what_a_session_changes_in_the_process_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hook, loggers, Ray Data's settings and Python's stderr."""
    # another test's session may be open, which has them changed already
    monkeypatch.setattr(logging.getLogger("ray.data"), "level", logging.WARNING)
    monkeypatch.setattr(logging.getLogger("ray.data"), "propagate", True)
    monkeypatch.setattr(ray.data.DataContext.get_current(), "enable_progress_bars", True)

    def state() -> list[object]:
        logger = logging.getLogger("ray.data")
        context = ray.data.DataContext.get_current()
        return [threading.excepthook, (logger.level, logger.propagate), context, sys.stderr]

    before = state()
    with (
        session._native_stderr_logged(),
        session._quiet_ray_data(),
        session._threads_errors_logged(),
    ):
        inside = state()
    assert all(a is not b and a != b for a, b in zip(before, inside, strict=True))
    assert all(a is b or a == b for a, b in zip(before, state(), strict=True))
