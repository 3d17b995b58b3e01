"""A model's folder: is it whole, can this version read it, was it made by these versions?"""

import hashlib
from collections.abc import Mapping

from bae import storage
from bae.doctor.finding import Finding, fail, ok, warn
from bae.method import card

DECISIVE = ("bae", "torch", "ray")
"""Of the card's versions those that are compared."""
_TRAIN = "train it again, or copy the whole folder again"


def model(uri: str, versions: Mapping[str, str]) -> list[Finding]:
    """See that every file which the card names is there as it was written, and by what versions.

    Args:
        uri: the model's folder.
        versions: of the packages here, as ``machine.versions`` finds them.

    Raises:
        ModelError: no card, or none that this version reads.
    """
    found = card.load_card(uri)
    return [_files(uri, found.parts), compared(found.versions, versions)]


def compared(written: Mapping[str, str], here: Mapping[str, str]) -> Finding:
    """Compare the versions that made a model with those that are here."""
    about, unlike = "model's versions", []
    for name in DECISIVE:
        then, now = written.get(name), here.get(name)
        if now is None:
            unlike.append(f"{name} is not installed")
        elif then not in (None, now, "not installed"):
            unlike.append(f"{name} {now}, the model's {then}")
    if not unlike:
        return ok(about, ", ".join(f"{name} {here[name]}" for name in DECISIVE))
    remedy = "evaluate it before ages of both versions are compared, or install the model's"
    return warn(about, "; ".join(unlike), remedy)


def _files(uri: str, parts: Mapping[str, card.Part]) -> Finding:
    about = "model"
    for name, part in parts.items():
        file = f"{name}.safetensors"
        data = storage.read_or_none(storage.join(uri, file))
        if data is None:
            return fail(about, f"{file} is missing though the card names it", _TRAIN)
        if hashlib.sha256(data).hexdigest() != part.sha256:
            return fail(about, f"{file} is not the file its card names", _TRAIN)
    if not parts:
        return fail(about, "its card names no weights", _TRAIN)
    return ok(about, f"{uri} is whole: {', '.join(parts)}")
