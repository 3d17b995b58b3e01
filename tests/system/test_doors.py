"""The examples in the docstrings of the doors are true."""

import doctest
import importlib

import pytest

DOORS = [
    "bae.archive.objects",
    "bae.archive.dicom.decode",
    "bae.predictor",
    "bae.recipes",
    "bae.tables",
]


@pytest.mark.parametrize("name", DOORS)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    """There is one, and it prints what it says."""
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed
