"""Promise 5: hostile XML costs little, at the door of the function.

Promise 8, in part: judging it reaches neither a network nor a file.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from time import thread_time

import pytest

from evidence_service.access.decide import decide
from evidence_service.access.model import Deny, Snapshot
from tests.core.given import NOW, OKTA, certificate, deny, outcome, policy_for, request_of, snapshot_of
from tests.core.hostile import COSTLY, HOSTILE
from tests.core.test_signature import made
from tests.corpus import keys
from tests.corpus.sign import How, below, key_name

SECONDS = 0.1
"""Of processor time: a busy machine gives it later, and no more of it is used."""
GROWTH = 20 * 1024  # KiB
SNAPSHOT = snapshot_of()
STRACE = shutil.which("strace")
STATUS = Path("/proc/self/status")
TEN = ("idp_b", "tenant", "attacker", "strong", "p256", "p384", "p521", "ca", "sp", "idp_next")


def _judge(data: bytes, snapshot: Snapshot) -> tuple[tuple[str, ...], float]:
    """The outcome, and the processor time of the best of up to three times."""
    request, best = request_of(data), float("inf")
    for _ in range(3):
        start = thread_time()
        decision = decide(request, snapshot, NOW)
        best = min(best, thread_time() - start)
        if best < SECONDS:
            break
    assert isinstance(decision, Deny)
    return outcome(decision), best


def _kibibytes(member: str) -> int:
    """A number of this process's state, such as VmRSS or VmHWM (the peak)."""
    return int(next(line for line in STATUS.read_text().splitlines() if line.startswith(member)).split()[1])


@pytest.mark.parametrize("name", HOSTILE)
def test_promise_5_hostile_xml_is_refused_fast(name: str) -> None:
    """Promise 5: refused by name, with 100 ms of work at most."""
    reason, make = HOSTILE[name]

    judged, seconds = _judge(make(), SNAPSHOT)

    assert judged == deny(reason)
    assert seconds < SECONDS


@pytest.mark.platform
@pytest.mark.skipif(not STATUS.exists(), reason="memory is measured by Linux's /proc")
@pytest.mark.parametrize("name", HOSTILE)
def test_promise_5_hostile_xml_takes_no_memory(name: str) -> None:
    """Promise 5: the peak while judging lies less than 20 MB above what was in use before."""
    reason, make = HOSTILE[name]
    request = request_of(make())
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _kibibytes("VmRSS")

    decision = decide(request, SNAPSHOT, NOW)

    assert outcome(decision) == deny(reason)
    assert _kibibytes("VmHWM") - before < GROWTH


@pytest.mark.parametrize("name", COSTLY)
def test_promise_5_what_multiplies_work(name: str) -> None:
    """Promise 5: a document within every limit cannot make two limits multiply, ten certificates or one."""
    reason, make = COSTLY[name]
    snapshot = snapshot_of(policy_for(OKTA), *map(certificate, TEN))

    judged, seconds = _judge(make(), snapshot)

    assert judged == deny(reason)
    assert seconds < SECONDS


_WATCHED = """
import sys
sys.path.insert(0, sys.argv[1])
from datetime import UTC, datetime
from tests.core.given import NOW, genuine, outcome, request_of, snapshot_of
from tests.core.hostile import COSTLY, HOSTILE
from tests.core.test_hostile_xml import evidence_with_references
from evidence_service.access.decide import decide

evidence = [make() for _, make in HOSTILE.values()] + evidence_with_references() + [genuine(), genuine(encrypted=True)]
snapshot = snapshot_of()
decide(request_of(genuine(encrypted=True)), snapshot, NOW)
touched = []
REACHING = ("socket.", "open", "os.", "subprocess.", "urllib.", "http.", "ftplib.", "ctypes.dlopen", "tempfile.")


def watch(event, arguments):
    if watching and event.startswith(REACHING):
        touched.append((event, str(arguments)[:200]))


watching = True
sys.addaudithook(watch)
outcomes = [outcome(decide(request_of(each), snapshot, NOW)) for each in evidence]
watching = False
print(touched)
print([each[0] for each in outcomes].count("allow"), len(outcomes))
"""


def evidence_with_references() -> list[bytes]:
    """Evidence that names addresses wherever XML signatures can, by an attacker's key and by the right one."""
    info = key_name("http://127.0.0.1:9/name")
    below(info, "ds:RetrievalMethod", URI="http://127.0.0.1:9/key")
    below(below(info, "ds:X509Data"), "ds:X509CRL", "file:///etc/passwd")
    return [
        made(How(key="attacker", key_info=info)),
        made(How(key_info=info)),
        made(How(key="attacker", key_info=("attacker", "ca", "leaf"))),
    ]


def test_promise_8_judging_reaches_nothing() -> None:
    """Promise 8: neither socket, file nor program is touched while evidence is judged, whatever addresses it names."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(root)], cwd=root, capture_output=True, text=True, check=False, timeout=120
    )

    assert (done.returncode, done.stderr) == (0, "")
    touched, counts = done.stdout.splitlines()
    assert touched == "[]"
    assert counts == f"3 {len(HOSTILE) + 5}"


_TRACED = (
    _WATCHED.split("touched = []", maxsplit=1)[0]
    + """
import os
os.access("/judging-begins", os.F_OK)
for each in evidence:
    decide(request_of(each), snapshot, NOW)
os.access("/judging-ends", os.F_OK)
"""
)


@pytest.mark.platform
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_promise_8_the_kernel_is_asked_for_nothing(tmp_path: Path) -> None:
    """Promise 8: libxml2 and OpenSSL, which Python does not watch, open no file and no socket either."""
    root, trace = Path(__file__).parents[2], tmp_path / "trace"
    command = [
        str(STRACE),
        "-f",
        "-e",
        "trace=%file,%network",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        _TRACED,
        str(root),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
    lines = trace.read_text().splitlines()
    begin, end = (next(at for at, line in enumerate(lines) if marker in line) for marker in ("-begins", "-ends"))
    assert lines[begin + 1 : end] == []


def test_the_keys_used_here_are_of_the_corpus() -> None:
    """Ten certificates that are not the signer's: the work of trying them is part of the cost."""
    assert len({keys.fingerprint(name) for name in TEN}) == 10
    assert keys.fingerprint("idp") not in {keys.fingerprint(name) for name in TEN}
