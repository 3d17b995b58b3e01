"""How large an object may be: packed, unpacked and decoded."""

from dataclasses import dataclass

from bae.errors import ScanError
from bae.scan import Scan

LARGEST_OBJECT_BYTES = 1 << 29
"""512 MiB: a scan has about 1 MiB, the largest SPECT objects some hundred."""
LARGEST_PACKED_BYTES = 1 << 30
"""1 GiB of a zip file as it lies in the archive: worker, shared memory and child hold it thrice."""
LARGEST_ZIP_BYTES = 1 << 32
"""4 GiB unpacked in all, one member at a time; nothing is written to disk."""
LARGEST_DECODED_BYTES = 1 << 30
"""1 GiB of decoded pixels from one zip file: a thousand scans of two views. They wait in memory
until their part is packed."""
LARGEST_PART_BYTES = 1 << 31
"""2 GiB of decoded pixels from all objects of a part; only zip files are refused for it."""
MOST_MEMBERS = 20_000


@dataclass
class Budget:
    """Bytes of pixels that the scans of one object may still decode to."""

    left: int

    def spend(self, outcome: Scan | ScanError) -> None:
        """Take a scan's pixels off; the scan that goes over is the last that is read."""
        self.left -= decoded_bytes(outcome)


def decoded_bytes(outcome: Scan | ScanError) -> int:
    """Return how many bytes of pixels there are."""
    return sum(v.counts.nbytes for v in outcome.views) if isinstance(outcome, Scan) else 0


def too_large(size: int) -> ScanError:
    """Return the refusal of an object of so many bytes."""
    most = LARGEST_OBJECT_BYTES >> 20, LARGEST_PACKED_BYTES >> 20
    return ScanError(
        "object_too_large",
        f"{size} bytes; at most {most[0]} MiB are read, of a zip file {most[1]} MiB",
    )
