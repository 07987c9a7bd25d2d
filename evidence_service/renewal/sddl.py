"""Who may read, change and enroll by a certificate template, from the SDDL text that Get-FasMsTemplate shows.

MS-DTYP 2.5.1 is the text, MS-CRTD 2.5.1 what Enroll is. Only the DACL matters. Where the order of the entries or a
condition could decide, the answer is the one that grants less: a right that any entry denies is denied. Conditions are
not evaluated; whose entries have one is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

ENROLL = "0e10c968-78fb-11d2-90d4-00c04f79dc55"
AUTOENROLL = "a05b8cc2-17bc-4802-a710-e7c15ab866a2"
MAX_SDDL = 65536
"""Characters; an ACL is at most 64 KiB."""

_READ_PROPERTY, _WRITE_PROPERTY, _CONTROL_ACCESS = 0x10, 0x20, 0x100
_FULL_CONTROL = 0xF01FF
_GENERIC = {  # MS-ADTS 5.1.3.2 maps them for directory objects
    0x10000000: _FULL_CONTROL,
    0x20000000: 0x20004,
    0x40000000: 0x20028,
    0x80000000: 0x20094,
}
_GENERIC_RIGHTS = {"GA": 0x10000000, "GX": 0x20000000, "GW": 0x40000000, "GR": 0x80000000}
_STANDARD = {"SD": 0x10000, "RC": 0x20000, "WD": 0x40000, "WO": 0x80000}
_OBJECT = {"CC": 0x1, "DC": 0x2, "LC": 0x4, "SW": 0x8, "RP": 0x10, "WP": 0x20, "DT": 0x40, "LO": 0x80, "CR": 0x100}
_FILE = {"FA": 0x1F01FF, "FR": 0x120089, "FW": 0x120116, "FX": 0x1200A0}
_KEY = {"KA": 0xF003F, "KR": 0x20019, "KW": 0x20006, "KX": 0x20019}
_RIGHTS = _GENERIC_RIGHTS | _STANDARD | _OBJECT | _FILE | _KEY
_ALLOW, _DENY = frozenset({"A", "OA", "XA", "ZA"}), frozenset({"D", "OD", "XD", "ZD"})
_CONDITIONAL = frozenset({"XA", "ZA", "XD", "ZD"})

_SID = re.compile(r"S-1(?:-[0-9]{1,10}|-0x[0-9a-f]{1,12})(?:-[0-9]{1,10}){1,15}", re.IGNORECASE)
_DOMAIN_SID = re.compile(r"S-1-5-21-[0-9]+-[0-9]+-[0-9]+-([0-9]+)")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WELL_KNOWN = {
    "S-1-1-0": "WD",
    "S-1-3-0": "CO",
    "S-1-5-7": "AN",
    "S-1-5-9": "ED",
    "S-1-5-11": "AU",
    "S-1-5-18": "SY",
    "S-1-5-19": "LS",
    "S-1-5-20": "NS",
    "S-1-5-32-544": "BA",
    "S-1-5-32-545": "BU",
}
_DOMAIN = {
    "500": "LA",
    "512": "DA",
    "513": "DU",
    "514": "DG",
    "515": "DC",
    "516": "DD",
    "517": "CA",
    "518": "SA",
    "519": "EA",
}
_NAMES = {
    "WD": "Everyone",
    "CO": "Creator Owner",
    "AN": "Anonymous",
    "ED": "Enterprise Domain Controllers",
    "AU": "Authenticated Users",
    "SY": "SYSTEM",
    "LS": "Local Service",
    "NS": "Network Service",
    "BA": "Administrators",
    "BU": "Users",
    "LA": "Administrator",
    "DA": "Domain Admins",
    "DU": "Domain Users",
    "DG": "Domain Guests",
    "DC": "Domain Computers",
    "DD": "Domain Controllers",
    "CA": "Cert Publishers",
    "SA": "Schema Admins",
    "EA": "Enterprise Admins",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trustee:
    """Whom an entry is about: the SID or alias as written, and the two-letter alias that it amounts to, if any.

    The alias of a group of a domain (DA, DC, EA …) does not say of which domain.
    """

    written: str
    alias: str | None

    @property
    def name(self) -> str:
        """What people call it; the SID where it has no common name."""
        return _NAMES.get(self.alias or "", self.written)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRights:
    """What one may do with a template. `full_control` includes the others."""

    read: bool = False
    write: bool = False
    enroll: bool = False
    autoenroll: bool = False
    full_control: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One access control entry that applies to the template itself. `guid` None: to all properties and rights.

    One that is `conditional` may not hold: if it denies, it counts, and if it allows, it does not.
    """

    trustee: Trustee
    denies: bool
    mask: int
    guid: str | None
    conditional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dacl:
    """The entries of a DACL, in order. `unrestricted`: there is none, so that everybody may do everything."""

    entries: tuple[Entry, ...]
    unrestricted: bool = False

    @property
    def trustees(self) -> tuple[Trustee, ...]:
        """Each whom an entry names, once, in order."""
        return tuple(dict.fromkeys(each.trustee for each in self.entries))

    @property
    def conditional(self) -> tuple[Trustee, ...]:
        """Each whom an entry with a condition names, so that what they may do is not known for sure."""
        return tuple(dict.fromkeys(each.trustee for each in self.entries if each.conditional))

    def rights_of(self, *trustees: Trustee) -> TemplateRights:
        """What somebody may do who is all of these at once, such as a group and Authenticated Users."""
        if self.unrestricted:
            return TemplateRights(read=True, write=True, enroll=True, autoenroll=True, full_control=True)
        keys = {_key(each) for each in trustees}
        return _rights([each for each in self.entries if _key(each.trustee) in keys])

    def rights_of_alias(self, *aliases: str) -> TemplateRights:
        """As `rights_of`, for aliases such as AU and DC, of whichever domain."""
        return self.rights_of(*(Trustee(written=each, alias=each) for each in aliases))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """The text is no SDDL that could be judged: which part, in one line."""

    problem: str


def parse_dacl(sddl: str) -> Dacl | Unreadable:
    """The DACL of the text. Raises nothing, whatever the text is."""
    if len(sddl) > MAX_SDDL:
        return Unreadable(problem=f"it is longer than {MAX_SDDL} characters")
    top = _without_entries(sddl)
    if top is None:
        return Unreadable(problem="its brackets do not match")
    start = re.search(r"D:", top)
    if start is None:
        return Unreadable(problem="it has no DACL (D:)")
    end = re.search(r"[OGS]:", top[start.end() :])
    text = sddl[start.end() : start.end() + end.start()] if end else sddl[start.end() :]
    flags, bracket, _ = text.partition("(")
    if "NO_ACCESS_CONTROL" in flags:
        return Dacl(entries=(), unrestricted=True)
    if re.fullmatch(r"(?:P|AR|AI)*\s*", flags) is None:
        return Unreadable(problem=f"the flags {flags[:20]!r} of its DACL are not known")
    entries: list[Entry] = []
    for ace in _aces(text[len(flags) :] if bracket else ""):
        read = _entry(ace)
        if isinstance(read, Unreadable):
            return read
        if read is not None:
            entries.append(read)
    return Dacl(entries=tuple(entries))


def _without_entries(sddl: str) -> str | None:
    """The text with what is in brackets blanked out, so that D: and S: are found outside of them only."""
    depth, shown = 0, []
    for character in sddl:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return None
        shown.append(" " if depth or character == ")" else character)
    return None if depth else "".join(shown)


def _aces(text: str) -> Iterable[str]:
    """What stands in each outermost pair of brackets."""
    depth, start = 0, 0
    for index, character in enumerate(text):
        if character == "(":
            depth += 1
            start = index + 1 if depth == 1 else start
        elif character == ")":
            depth -= 1
            if depth == 0:
                yield text[start:index]


def _entry(ace: str) -> Entry | Unreadable | None:
    """The entry; None for one that does not apply to the template itself."""
    fields = [each.strip() for each in ace.split(";", 6)]
    if len(fields) < 6:
        return Unreadable(problem=f"the entry ({ace[:80]}) has {len(fields)} fields instead of 6")
    kind, flags, rights, guid, _, sid = fields[:6]
    kind = kind.upper()
    if "IO" in re.findall("..", flags.upper()):
        return None
    if kind not in _ALLOW | _DENY:
        return Unreadable(problem=f"the entry ({ace[:80]}) is of the unknown type {kind[:10]!r}")
    mask, trustee = _mask(rights), trustee_of(sid)
    if mask is None:
        return Unreadable(problem=f"the rights {rights[:40]!r} in the entry ({ace[:80]}) are not known")
    if trustee is None:
        return Unreadable(problem=f"{sid[:80]!r} in the entry ({ace[:80]}) is neither a SID nor an alias")
    guid = guid.strip("{}").lower()
    if guid and _GUID.fullmatch(guid) is None:
        return Unreadable(problem=f"{guid[:40]!r} in the entry ({ace[:80]}) is no GUID")
    return Entry(trustee=trustee, denies=kind in _DENY, mask=mask, guid=guid or None, conditional=kind in _CONDITIONAL)


def trustee_of(sid: str) -> Trustee | None:
    """Whom a SID, or an alias of two letters, means; None for text that is neither."""
    if len(sid) == 2 and sid.isascii() and sid.isalpha():
        return Trustee(written=sid.upper(), alias=sid.upper())
    if _SID.fullmatch(sid) is None:
        return None
    sid = sid.upper()
    domain = _DOMAIN_SID.fullmatch(sid)
    return Trustee(written=sid, alias=_DOMAIN.get(domain[1]) if domain else _WELL_KNOWN.get(sid))


def _key(trustee: Trustee) -> str:
    return trustee.alias or trustee.written


def _mask(rights: str) -> int | None:
    """The access mask with generic rights spelled out; None where a part is unknown."""
    if re.fullmatch(r"0x[0-9a-f]{1,8}|[0-9]{1,10}", rights, re.IGNORECASE):
        octal = re.fullmatch(r"0[0-7]+", rights) is not None
        mask = int(rights, 8 if octal else 0 if rights[:2].lower() == "0x" else 10)
    else:
        codes = re.findall("..?", rights.upper())
        if not set(codes) <= _RIGHTS.keys():
            return None
        mask = 0
        for code in codes:
            mask |= _RIGHTS[code]
    for generic, meant in _GENERIC.items():
        mask = (mask & ~generic) | meant if mask & generic else mask
    return mask


def _rights(entries: Iterable[Entry]) -> TemplateRights:
    allowed = {None: 0, ENROLL: 0, AUTOENROLL: 0}
    denied = dict(allowed)
    for each in entries:
        side = denied if each.denies else allowed
        if each.guid in side and (each.denies or not each.conditional):
            side[each.guid] |= each.mask
    general = allowed[None] & ~denied[None]

    def extended(guid: str) -> bool:
        granted = (allowed[None] | allowed[guid]) & ~(denied[None] | denied[guid])
        return bool(granted & _CONTROL_ACCESS)

    return TemplateRights(
        read=bool(general & _READ_PROPERTY),
        write=bool(general & _WRITE_PROPERTY),
        enroll=extended(ENROLL),
        autoenroll=extended(AUTOENROLL),
        full_control=general & _FULL_CONTROL == _FULL_CONTROL,
    )
