"""Spoilt objects of every kind end as scans or typed refusals, nothing else."""

import pytest

from bae.archive import objects
from bae.scan import Scan
from tests import fuzz

CORPUS = dict(fuzz.corpus())


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_is_sound(name: str) -> None:
    """Else the fuzzer would only test the first refusal."""
    outcomes = [outcome for _, outcome in objects.scans("x", CORPUS[name])]
    if name == "JPEG2000-embedded-sequence-delimiter.dcm":
        assert "pixels_broken" in str(outcomes[0])
    else:
        assert all(isinstance(outcome, Scan) for outcome in outcomes), outcomes


@pytest.mark.slow
def test_every_spoilt_object_ends_as_a_scan_or_a_refusal() -> None:
    """A fixed number here; ``python -m tests.fuzz`` goes on for longer."""
    tally = fuzz.run(20261124, count=1500, seconds=120)
    assert tally.broken == []
    assert tally.inputs > 200
    assert len(tally.outcomes) > 10
