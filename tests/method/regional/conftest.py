"""One thread for all of it: on a busy machine two threads wait for each other ten times as long."""

from collections.abc import Iterator

import pytest
import threadpoolctl
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices here are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        yield
    torch.set_num_threads(threads)
