"""All that can die does, in one run; a larger one: ``python -m tests.chaos --scans 3000``."""

import pytest

from tests import chaos

pytestmark = [pytest.mark.chaos, pytest.mark.cluster, pytest.mark.s3, pytest.mark.timeout(2400)]


def test_a_night_in_which_everything_dies_ends_with_the_same_rows() -> None:
    """A decoding worker, the model's actor, a node, the S3 server, the job itself; at least two.

    An erasure, maintenance and other labels lie between the nights.
    """
    report = chaos.predict(scans=160, seed=1)
    assert report.killed.total() >= 2, str(report)
    assert report.equal, str(report)


def test_a_training_in_which_everything_dies_ends_with_the_same_losses() -> None:
    """The training worker, a node, the S3 server, the job itself; losses equal to 1e-6."""
    report = chaos.train(epochs=20, seed=1)
    assert report.killed.total() >= 1, str(report)
    assert report.equal, str(report)


@pytest.mark.parametrize("job", ["predict", "train"])
def test_a_seed_gives_one_schedule_with_every_fault_in_it(job: str) -> None:
    """The same seed strikes at the same progress, another one elsewhere, all before the end."""
    first, _ = chaos.schedule(job, 10.0, seed=1)
    assert first == chaos.schedule(job, 10.0, seed=1)[0]
    assert first != chaos.schedule(job, 10.0, seed=2)[0]
    assert sorted(name for _, name in first) == sorted(chaos.FAULTS[job])
    assert all(0 < due < 10 for due, _ in first)
