"""Servers to ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bae.dicomweb import address
from bae.dicomweb import server as dicomweb_server
from tests.fakes import orthanc
from tests.fakes.dicomweb import Fake


@pytest.fixture(autouse=True)
def nobody_in_particular(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials and no netrc of whoever runs the tests; waiting is short."""
    for name in (address.TOKEN, address.USER, address.PASSWORD):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(dicomweb_server, "PATIENCE_S", 3.0)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server that fails on demand."""
    made = Fake()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[orthanc.Server]:
    """A real one, empty at first; skipped where it is not installed."""
    if why := orthanc.missing():
        pytest.skip(why)
    server = orthanc.start(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.stop()
