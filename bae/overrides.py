"""Frozen dataclasses of dataclasses, changed by ``section.field=value`` and rebuilt from JSON."""

import dataclasses
import difflib
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from bae.errors import RecipeError

T = TypeVar("T")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'X'?`` with the most similar known word, or all known words."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"


def changed(base: T, change: str) -> T:
    """Return a copy with one field of one section changed.

    Args:
        base: a dataclass; its sections are its fields that are dataclasses themselves.
        change: ``section.field=value``, the value as a person writes the field's type.

    Raises:
        RecipeError: no such section or field, or a value of the wrong type.
    """
    place, equals, text = change.partition("=")
    section_name, dot, field_name = place.partition(".")
    if not (equals and dot):
        raise RecipeError(f"--set {change!r}: expected section.field=value")
    kinds = typing.get_type_hints(type(base))
    sections = [name for name, kind in kinds.items() if dataclasses.is_dataclass(kind)]
    if section_name not in sections:
        hint = suggestion(section_name, sections)
        raise RecipeError(f"--set: no section {section_name!r}; {hint}")
    fields = typing.get_type_hints(kinds[section_name])
    if field_name not in fields:
        hint = suggestion(field_name, fields)
        raise RecipeError(f"--set: {section_name} has no field {field_name!r}; {hint}")
    value = _parsed(text, fields[field_name], place)
    section = dataclasses.replace(getattr(base, section_name), **{field_name: value})
    return dataclasses.replace(base, **{section_name: section})  # type: ignore[type-var]


def _parsed(text: str, kind: Any, place: str) -> Any:
    """Read a value as the field's declared type."""
    if typing.get_origin(kind) is tuple:
        return tuple(_parsed(part, typing.get_args(kind)[0], place) for part in text.split(","))
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise RecipeError(f"--set {place}={text}: expected {kind.__name__}") from None


def rebuilt(kind: type[T], values: dict[str, Any]) -> T:
    """Rebuild a dataclass, and those inside it, from what JSON made of ``asdict``.

    Raises:
        RecipeError: a field that the class does not have.
    """
    kinds = typing.get_type_hints(kind)
    if unknown := sorted(set(values) - set(kinds)):
        raise RecipeError(f"the card's recipe has unknown fields: {', '.join(unknown)}")

    def value(name: str, item: Any) -> Any:
        if dataclasses.is_dataclass(kinds[name]):
            return rebuilt(kinds[name], item)
        return tuple(item) if isinstance(item, list) else item

    return kind(**{name: value(name, item) for name, item in values.items()})
