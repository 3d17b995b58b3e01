"""What holds for all rows of these tables, decided once, by the first run.

``restricted/settings.json`` keeps a fingerprint of the key that the pseudonyms are made with, and
how exact the ages in ``cohort/`` are. Rows under another key would double every scan.
"""

import dataclasses
import json
from dataclasses import dataclass

from bae import storage
from bae.errors import UseError
from bae.tables import contract

OLDEST_YEARS, TOP_CODED_YEARS = 89.0, 90.0
_FLAG = "age_over_89"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all rows share.

    Attributes:
        key_fingerprint: of the key of all pseudonyms, see ``privacy.fingerprint``.
        issuers: whether patients are told apart by the issuer of their ID, too. True in tables
            of bae 0.1, whose patients would otherwise come a second time.
        age_decimals: of ages in ``cohort/``: 1 (a tenth of a year) or 0 (whole years); they are
            right to one such step.
    """

    key_fingerprint: str
    issuers: bool = False
    age_decimals: int = 1


def read(tables_uri: str) -> Settings | None:
    """Return what the first run decided, None where there was none yet, or none that said so."""
    data = storage.read_or_none(_uri(tables_uri))
    return None if data is None else Settings(**json.loads(data))


def agreed(tables_uri: str, key_fingerprint: str, age_decimals: int | None = None) -> Settings:
    """Return what holds, or would hold after a first run; writes nothing.

    Args:
        tables_uri: root of the tables.
        key_fingerprint: of the key at hand.
        age_decimals: as asked for; None takes what the tables have, 1 at first.

    Raises:
        UseError: the tables were made with another key, or with ages of other exactness.
    """
    found = read(tables_uri)
    if found is None:
        older = storage.exists(storage.join(tables_uri, "restricted/scans", "_delta_log"))
        decimals = 1 if age_decimals is None else age_decimals
        return Settings(key_fingerprint=key_fingerprint, issuers=older, age_decimals=decimals)
    if found.key_fingerprint != key_fingerprint:
        raise UseError(
            "these tables were made with another pseudonym key: every scan would come a second "
            "time; give the key of the first run, or another tables folder"
        )
    if age_decimals not in (None, found.age_decimals):
        known = "whole years" if found.age_decimals == 0 else "a tenth of a year"
        raise UseError(f"these tables keep ages to {known}; use another tables folder")
    return found


def keep(tables_uri: str, settings: Settings) -> None:
    """Write down what holds; of two first runs one wins, and the other must agree.

    Raises:
        UseError: another run has just decided otherwise.
    """
    text = json.dumps(dataclasses.asdict(settings)).encode()
    if not storage.create(_uri(tables_uri), text):
        agreed(tables_uri, settings.key_fingerprint, settings.age_decimals)


def public_age(exact: str, patient_key: str, told: Settings) -> str:
    """Return the SQL of the age that may stand in ``cohort/``, years.

    Whole-day ages beside a date near the scan's would give a birth date away, so ages are rounded;
    over 89 they are one category, 45 CFR 164.514(b)(2)(i)(C). Rounded alike for everybody, the
    ages of many scans of one person would narrow its birth date down to days, since Delta's log
    tells the night of each. So each person's ages are shifted before, all by the same secret part
    of a step: what they tell together is no more than what one of them does.

    Args:
        exact: SQL expression of the age, years; null gives null.
        patient_key: SQL expression of the person's key.
        told: its fingerprint is known in ``restricted/`` only; without one nothing is shifted.
    """
    over, shift = f"{exact} > {OLDEST_YEARS}", "0"
    if told.key_fingerprint:
        drawn = f"sha256('bae age {told.key_fingerprint} ' || {patient_key})[:8]"
        shift = f"(('0x' || {drawn})::UBIGINT / {2**32} - 0.5) * {10.0**-told.age_decimals}"
    rounded = f"greatest(round({exact} + {shift}, {told.age_decimals}), 0)"
    within = f"least({rounded}, {OLDEST_YEARS})"
    return (
        f"CASE WHEN {exact} IS NULL THEN NULL WHEN {over} THEN {TOP_CODED_YEARS} ELSE {within} END"
    )


def public_flags(kept: str, exact: str) -> str:
    """Return the SQL of sorted flags, with the one that says that the age was changed."""
    over = f"CASE WHEN {exact} > {OLDEST_YEARS} THEN ['{_FLAG}'] ELSE []::VARCHAR[] END"
    return f"list_sort(list_concat([flag FOR flag IN {kept} IF flag <> '{_FLAG}'], {over}))"


def _uri(tables_uri: str) -> str:
    return storage.join(storage.normal(tables_uri), contract.SETTINGS)
