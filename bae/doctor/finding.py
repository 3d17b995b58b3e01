"""What a check found, and how a check that breaks becomes a finding itself."""

from collections.abc import Callable
from dataclasses import dataclass

from bae.errors import BaeError

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        about: what was looked at, in a word or two.
        state: ``OK``; ``WARN``: tonight's run works, yet somebody should look; ``FAIL``: it does
            not work.
        found: what was found, free of anything that identifies a person.
        remedy: what to do; empty where all is well.
    """

    about: str
    state: str
    found: str
    remedy: str = ""


Check = Callable[[], Finding | list[Finding]]


def ok(about: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(about=about, state=OK, found=found)


def warn(about: str, found: str, remedy: str) -> Finding:
    """Return what somebody should look at."""
    return Finding(about=about, state=WARN, found=found, remedy=remedy)


def fail(about: str, found: str, remedy: str) -> Finding:
    """Return what would make tonight's run fail."""
    return Finding(about=about, state=FAIL, found=found, remedy=remedy)


def findings(about: str, remedy: str, check: Check) -> list[Finding]:
    """Return what a check finds; one that breaks has found a failure.

    Args:
        about: what it looks at, for that case.
        remedy: what to do then, unless the error's own sentence says it behind a semicolon.
        check: our own errors' sentences are told; of others their name only, since their text
            may hold a path.
    """
    try:
        found = check()
    except BaeError as error:
        said, _, told = str(error).partition("; ")
        return [fail(about, said, told or remedy)]
    except Exception as error:  # whatever it is, the other checks go on
        return [fail(about, f"this check broke itself ({type(error).__name__})", remedy)]
    return found if isinstance(found, list) else [found]


def text(found: list[Finding]) -> str:
    """Return the findings as aligned lines."""
    wide = max((len(one.about) for one in found), default=0)
    return "\n".join(
        f"{one.state:<4}  {one.about:<{wide}}  {one.found}" + (f"; {one.remedy}" * bool(one.remedy))
        for one in found
    )
