"""Feed spoilt objects to the decoder: ``python -m tests.fuzz --seconds 600``.

Every input must end as scans or as refusals with a known code. A native decoder may
crash or hang, since the sandbox turns that into a refusal; Python code of ours may not
raise. Inputs that break the rule, or crash a decoder, are kept with ``--keep``.
"""

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import uid

from bae.archive.refusals import REJECT_CODES
from bae.archive.sandbox import Decoder
from bae.scan import Scan
from tests.archive.test_objects import picture, zipped
from tests.fakes import dicoms

LIMIT_S = 5.0
REAL = (
    "JPEG-LL.dcm",
    "JPEG2000.dcm",
    "JPGExtended.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
)
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
ABRUPT = "the decoding process broke off"
"""The sandbox's message where the child ended by itself: an exception of ours."""


def corpus() -> list[tuple[str, bytes]]:
    """Return sound objects of every kind, small so that many can be tried."""
    small = np.ascontiguousarray(dicoms.two_views()[:, ::2, ::2])
    spacing = ["4.52", "4.52"]
    seeds = [(name, dicoms.real_bytes(name)) for name in REAL]
    for syntax in dicoms.LOSSLESS + dicoms.LOSSY:
        frames = np.minimum(small, 255).astype(np.uint8) if syntax.endswith(".50") else small
        data = dicoms.scan(frames, syntax, PixelSpacing=spacing)
        seeds.append((str(uid.UID(syntax).keyword), data))
    bare = dicoms.put(dicoms.header(PixelSpacing=spacing), small)
    seeds.append(("no meta header", dicoms.bare(bare, implicit=True)))
    seeds.append(("PNG", picture(small[0])))
    seeds.append(("TIFF", picture(np.minimum(small[0], 255).astype(np.uint8), "TIFF")))
    inner = dicoms.scan(small, uid.JPEGLSLossless, PixelSpacing=spacing)
    seeds.append(("zip", zipped(("a.dcm", inner), ("b.png", picture(small[1])))))
    return seeds


def spoil(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes after one to eight random changes, most of them in headers."""
    spoilt = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        if not spoilt:
            break
        reach = len(spoilt) if rng.random() < 0.4 else min(len(spoilt), 3000)
        place = int(rng.integers(0, reach))
        size = int(rng.choice([1, 2, 4, 4, 16, 200]))
        match int(rng.integers(0, 7)):
            case 0:
                spoilt[place] ^= 1 << int(rng.integers(0, 8))
            case 1:
                spoilt[place : place + size] = rng.bytes(size)
            case 2:
                value = int(rng.choice(INTERESTING))
                order = "little" if rng.random() < 0.7 else "big"
                spoilt[place : place + 4] = value.to_bytes(4, order)
            case 3:
                del spoilt[place : place + size]
            case 4:
                spoilt[place:place] = spoilt[place : place + size] * int(rng.integers(1, 4))
            case 5:
                start = int(rng.integers(0, max(len(other), 1)))
                spoilt[place : place + size] = other[start : start + size]
            case 6:
                if rng.random() < 0.2:
                    del spoilt[place:]
    return bytes(spoilt)


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield spoilt objects for ever, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    seeds = corpus()
    while True:
        name, data = seeds[int(rng.integers(len(seeds)))]
        other = seeds[int(rng.integers(len(seeds)))][1]
        yield name, spoil(data, other, rng)


@dataclass
class Tally:
    """What came of all inputs."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def run(seed: int, *, count: int | None, seconds: float | None, keep: Path | None = None) -> Tally:
    """Decode spoilt objects until either limit is reached."""
    tally = Tally()
    end = None if seconds is None else time.monotonic() + seconds
    with Decoder(limit_s=LIMIT_S) as decoder:
        for name, data in inputs(seed):
            if tally.inputs == count or (end is not None and time.monotonic() > end):
                return tally
            tally.inputs += 1
            found = decoder.scans("fuzzed", data)
            remarks = [_judge(outcome) for _, outcome in found] or ["nothing came out"]
            for remark in filter(None, remarks):
                digest = hashlib.sha256(data).hexdigest()[:12]
                tally.broken.append(f"{remark} ({name}, seed {seed}, input {tally.inputs})")
                _keep(keep, digest, data)
            for _, outcome in found:
                code = "scan" if isinstance(outcome, Scan) else outcome.code
                tally.outcomes[code] += 1
                if code in ("decoder_crash", "decoder_hang", "decoder_memory"):
                    tally.crashes[f"{code}: {name}"] += 1
                    _keep(keep, hashlib.sha256(data).hexdigest()[:12], data)
    return tally


def _judge(outcome: object) -> str | None:
    """Say what is wrong with an outcome, None if nothing is."""
    if isinstance(outcome, Scan):
        sound = 1 <= len(outcome.views) <= 2 and all(
            view.counts.ndim == 2 and np.isfinite(view.counts).all() for view in outcome.views
        )
        return None if sound else "a scan that is none"
    code, message = getattr(outcome, "code", ""), getattr(outcome, "message", "")
    if code not in REJECT_CODES:
        return f"an unknown code {code!r}"
    return "an exception in the child" if message == ABRUPT else None


def _keep(folder: Path | None, digest: str, data: bytes) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{digest}.bin").write_bytes(data)


def main() -> int:
    """Run the fuzzer; exit 1 if an input broke the rule."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--count", type=int, help="stop after this many inputs")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="which inputs")
    parser.add_argument("--keep", type=Path, help="folder for inputs worth a look")
    flags = parser.parse_args()
    tally = run(flags.seed, count=flags.count, seconds=flags.seconds, keep=flags.keep)
    print(f"{tally.inputs} inputs with seed {flags.seed}")
    for code, number in tally.outcomes.most_common():
        print(f"{number:8d}  {code}")
    for what, number in tally.crashes.most_common():
        print(f"contained {number} times: {what}")
    for what in tally.broken[:20]:
        print(f"BROKEN: {what}", file=sys.stderr)
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
