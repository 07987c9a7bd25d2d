"""User principal names: what counts as one, when two are the same, and how one is mapped to another.

The comparison is exact and boring on purpose (promise 14): ASCII letters fold, everything else must be equal.
`str.lower` would map the Kelvin sign to k, `casefold` joins ß and ss, NFKC joins full-width letters: none is used.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from evidence_service.access.model import UpnMapping

MAX_UPN_LENGTH = 1024  # of the userPrincipalName attribute, `docs/identity-providers.md`
_ASCII_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_ODD_CHARACTERS = "with blank, control or format characters"
# Default_Ignorable_Code_Point (Unicode 15, DerivedCoreProperties) outside the categories below: a directory may skip
# them when it compares names.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})


def upn_problem(upn: str) -> str | None:
    """Why `upn` is not a UPN, in a few words, or None where it is one."""
    if not upn:
        return "empty"
    if len(upn) > MAX_UPN_LENGTH:
        return f"longer than {MAX_UPN_LENGTH} characters"
    name, at, suffix = upn.partition("@")
    if not at or not name or not suffix or "@" in suffix:
        return "not of the form name@suffix"
    if upn.isascii():
        return None if upn.isprintable() and " " not in upn else _ODD_CHARACTERS
    if _INVISIBLE.search(upn) or any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in upn):
        return _ODD_CHARACTERS
    if not unicodedata.is_normalized("NFC", upn):
        return "not in Unicode normalization form C"
    return None


def fold_upn(upn: str) -> str:
    """The form in which UPNs are compared: ASCII letters in lower case."""
    return upn.lower() if upn.isascii() else upn.translate(_ASCII_FOLD)


def map_upn(upn: str, mappings: Iterable[UpnMapping]) -> str:
    """`upn` after the first mapping that fits it: a whole UPN, or `@suffix` to `@suffix`."""
    folded = fold_upn(upn)
    name, _, suffix = upn.partition("@")
    for mapping in mappings:
        source = fold_upn(mapping.source)
        if source == folded:
            return mapping.target
        if source == "@" + fold_upn(suffix):
            return name + mapping.target
    return upn


def has_suffix(upn: str, suffixes: Iterable[str]) -> bool:
    """Whether the UPN's suffix is exactly one of `suffixes`."""
    return fold_upn(upn.partition("@")[2]) in {fold_upn(suffix) for suffix in suffixes}
