"""A cohort of simulated bone scans: physically honest, with a known limit.

``make(k)`` gives scan k as values, ``pack`` and ``objects(k)`` the files of an
archive. ``world`` says what is assumed: 0 is the simulation as it was first made, any
other number draws assumptions anew. The modules: ``anatomy`` builds a body and lays it on
the table, ``ageing`` and ``lesions`` say where tracer goes, ``people`` who comes,
``camera`` counts; ``headers``, ``syntaxes`` and ``mistakes`` make DICOM of it,
``archive`` keeps what no header tells, ``limits`` says what can be read at best.
"""

from dataclasses import dataclass, replace

from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1

from bae.phantom import headers, mistakes
from bae.phantom.ageing import limit_mae_years
from bae.phantom.people import PhantomConfig
from bae.phantom.scan import PhantomScan, make

__all__ = ["Packed", "PhantomConfig", "PhantomScan", "limit_mae_years", "make", "objects", "pack"]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A scan as an archive holds it.

    Attributes:
        objects: names with prefixes, and bytes.
        mistake: a name of ``mistakes.MISTAKES``, empty if nothing is wrong.
    """

    objects: tuple[tuple[str, bytes], ...]
    mistake: str = ""


def pack(scan: PhantomScan, *, seed: int = 0, config: PhantomConfig | None = None) -> Packed:
    """Return the archive's files of a scan: most often one, of two frames."""
    config = config or PhantomConfig()
    share, seed = config.mistakes, config.stream(seed)
    mistake = mistakes.draw(scan.index, seed, share)
    how = headers.layout(scan, seed)
    if mistake in mistakes.HEADER_MISTAKES:
        # the mistakes that touch pixels need them plain
        how = replace(how, syntax=str(ExplicitVRLittleEndian))
    elif mistake == "pixels damaged":
        how = replace(how, syntax=str(JPEGLosslessSV1))
    built = headers.build(scan, seed, how)
    if mistake in mistakes.HEADER_MISTAKES:
        for _, ds in built:
            mistakes.HEADER_MISTAKES[mistake](ds)
    files = [(name, headers.encode(ds)) for name, ds in built]
    if mistake in mistakes.FILE_MISTAKES:
        files = mistakes.spoil_files(mistake, files, seed, scan.index)
    return Packed(objects=tuple(files), mistake=mistake)


def objects(
    k: int, *, seed: int = 0, config: PhantomConfig | None = None
) -> list[tuple[str, bytes]]:
    """Return the archive's files of scan k: names with prefixes, and bytes."""
    return list(pack(make(k, seed=seed, config=config), seed=seed, config=config).objects)
