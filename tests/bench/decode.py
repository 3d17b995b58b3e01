"""What reading one two-view 256 x 1024 scan costs: ``python -m tests.bench.decode``."""

import statistics
import time
from collections.abc import Callable

from pydicom import uid

from bae.archive import objects
from bae.archive.sandbox import Decoder
from tests.fakes import dicoms

REPEATS = 60


def cost_ms(call: Callable[[], object], clock: Callable[[], float]) -> tuple[float, float]:
    """Return best and median of many calls, milliseconds."""
    call()
    spent = []
    for _ in range(REPEATS):
        start = clock()
        call()
        spent.append((clock() - start) * 1000)
    return min(spent), statistics.median(spent)


def main() -> None:
    """Print CPU time in this process, and wall time there and through the child."""
    print(f"{'transfer syntax':<34}{'KiB':>6}{'CPU ms':>9}{'wall ms':>9}{'in child':>9}{'more':>7}")
    with Decoder() as decoder:
        for syntax in dicoms.LOSSLESS + dicoms.LOSSY[1:]:
            data = dicoms.scan(dicoms.two_views(), syntax)

            def here(data: bytes = data) -> object:
                return list(objects.scans("x", data))

            def there(data: bytes = data) -> object:
                return decoder.scans("x", data)

            cpu = cost_ms(here, time.process_time)[1]
            wall, child = cost_ms(here, time.perf_counter)[0], cost_ms(there, time.perf_counter)[0]
            name = str(uid.UID(syntax).keyword)
            print(
                f"{name:<34}{len(data) // 1024:>6}{cpu:>9.1f}{wall:>9.1f}{child:>9.1f}"
                f"{child - wall:>7.1f}"
            )


if __name__ == "__main__":
    main()
