"""Every row of FailClosed.md, driven for real through the compiled plug-in and the reference client."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from plugin_bridge.client import Answer, Failure, Question, ask, read_settings
from tests.bridge.given import BRIDGE, Plugin, failure_codes, issued, needs_mono, settings_for
from tests.bridge.misbehaving import (
    DENIES,
    FAILURES,
    GOOD,
    Behaviour,
    Misbehaving,
    misbehaving,
    says,
    server_context,
)
from tests.web.listening import Identity, identity

BEHAVIOURS: dict[str, Behaviour] = {**GOOD, **DENIES, **{name: behave for name, (_, behave) in FAILURES.items()}}
ENDLESS = [name for name, (failure, _) in FAILURES.items() if failure == "timeout"]
PATIENT = {"AttemptMilliseconds": 20000, "DeadlineMilliseconds": 20000, "BreakerFailures": 1000}
"""For what fails, or succeeds, by itself: on a slow machine no attempt ends before."""
IMPATIENT = {**PATIENT, "AttemptMilliseconds": 1500, "DeadlineMilliseconds": 4000}
"""For what ends only because nobody waits longer."""
EVIDENCE = [{"type": "SAMLResponse", "value": "PHg+"}]


def question(name: str = "", **changes: Any) -> dict[str, Any]:
    """A question as the test host reads it, that asks for one behaviour."""
    return {"id": name, "upn": "alice@corp.example", "evidence": EVIDENCE, "correlation_id": name, **changes}


def by_client(settings: Path, name: str = "") -> Answer:
    """The same through the reference client."""
    return ask(read_settings(settings), Question(upn="alice@corp.example", evidence=(b"<x>",), correlation_id=name))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, server: Identity, client: Identity) -> Iterator[dict[str, Path]]:
    """By behaviour, the settings file for the service that misbehaves as it is asked to."""
    with misbehaving(server_context(server, trusting=client), BEHAVIOURS.__getitem__) as it:

        def patience(name: str, members: dict[str, int]) -> Path:
            return settings_for(tmp_path_factory.mktemp(name), it.port, server, client, **members)

        patient, impatient = patience("patient", PATIENT), patience("impatient", IMPATIENT)
        yield {name: impatient if name in ENDLESS else patient for name in BEHAVIOURS}


@pytest.fixture(scope="module")
def by_plugin(plugin: Plugin, settings: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What the plug-in made of every behaviour."""
    answers: dict[str, dict[str, Any]] = {}
    for file in set(settings.values()):
        answers |= plugin.ask(file, (question(name) for name in BEHAVIOURS if settings[name] == file), callers=8)
    return answers


@pytest.fixture(scope="module")
def by_reference(settings: dict[str, Path]) -> dict[str, Answer]:
    """What the reference client made of every behaviour."""
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(BEHAVIOURS, pool.map(lambda name: by_client(settings[name], name), BEHAVIOURS), strict=True))


@needs_mono
@pytest.mark.parametrize("name", FAILURES)
def test_promise_1_the_plugin_denies(name: str, by_plugin: dict[str, dict[str, Any]]) -> None:
    """Everything but a clear yes is a deny of its own kind (promise 1)."""
    said = by_plugin[name]
    assert (said["allowed"], said["failure"], said["reason"]) == (False, FAILURES[name][0], FAILURES[name][0]), said
    assert said["rule"] is None
    assert said["security_context"] is None


@pytest.mark.parametrize("name", FAILURES)
def test_promise_1_the_reference_client_denies(name: str, by_reference: dict[str, Answer]) -> None:
    """The reference client denies the same for the same reason (promise 1)."""
    said = by_reference[name]
    assert (said.allowed, said.failure, said.reason) == (False, FAILURES[name][0], FAILURES[name][0]), said


@needs_mono
def test_a_clear_answer_is_obeyed_by_the_plugin(by_plugin: dict[str, dict[str, Any]]) -> None:
    """What keeps to the contract is an allow, or the service's own deny."""
    for name in GOOD:
        said = by_plugin[name]
        assert (said["allowed"], said["failure"]) == (True, None), said
        assert said["observed"] == ("observe" in name)
    denied = by_plugin["a plain deny"]
    assert (denied["allowed"], denied["failure"], denied["reason"]) == (False, None, "upn_mismatch")


def test_a_clear_answer_is_obeyed_by_the_reference_client(by_reference: dict[str, Answer]) -> None:
    """What keeps to the contract is an allow, or the service's own deny."""
    for name in GOOD:
        said = by_reference[name]
        assert (said.allowed, said.failure, said.observed) == (True, None, "observe" in name), said
    denied = by_reference["a plain deny"]
    assert (denied.allowed, denied.failure, denied.reason) == (False, None, "upn_mismatch")


Sides = tuple[Path, Identity, Identity]
Given = Callable[[Sides], contextlib.AbstractContextManager[Path]]


@contextlib.contextmanager
def _nobody(sides: Sides) -> Iterator[Path]:
    directory, server, client = sides
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield settings_for(directory, port, server, client, **PATIENT)


@contextlib.contextmanager
def _no_such_name(sides: Sides) -> Iterator[Path]:
    directory, server, client = sides
    yield settings_for(directory, 1, server, client, **{**PATIENT, "Service": "https://no-such-host.invalid"})


@contextlib.contextmanager
def _black_hole(sides: Sides) -> Iterator[Path]:
    """A listener whose queue is full: connections are never made."""
    directory, server, client = sides
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with contextlib.ExitStack() as waiting:
            for _ in range(4):
                filler = waiting.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            yield settings_for(directory, port, server, client, **IMPATIENT)


def _tls(change: Callable[[ssl.SSLContext, Sides], None] | None = None, **members: object) -> Given:
    """A service that would allow, behind TLS that was changed or to a plug-in with other settings."""

    @contextlib.contextmanager
    def given(sides: Sides) -> Iterator[Path]:
        directory, server, client = sides
        context = server_context(server)
        if change is not None:
            change(context, sides)
        with misbehaving(context, lambda _: says()) as it:
            yield settings_for(directory, it.port, server, client, **{**PATIENT, **members})

    return given


def _tls_1_1(context: ssl.SSLContext, _: Sides) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


def _other_client(context: ssl.SSLContext, sides: Sides) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=identity(sides[0] / "other", "other").der)


def _other_server(context: ssl.SSLContext, sides: Sides) -> None:
    other = identity(sides[0] / "other", "server")
    context.load_cert_chain(other.certificate, other.key)


@contextlib.contextmanager
def _expired_server(sides: Sides) -> Iterator[Path]:
    directory, _, client = sides
    expired = identity(directory / "expired", "server", days=-1)
    with misbehaving(server_context(expired), lambda _: says()) as it:
        yield settings_for(directory, it.port, expired, client, **PATIENT)


@contextlib.contextmanager
def _other_ca(sides: Sides) -> Iterator[Path]:
    directory, server, client = sides
    other = identity(directory / "ca", "ca")
    with misbehaving(server_context(server), lambda _: says()) as it:
        yield settings_for(directory, it.port, server, client, **PATIENT, ServerPin=None, ServerCa=other.certificate)


@contextlib.contextmanager
def _no_tls(sides: Sides) -> Iterator[Path]:
    directory, server, client = sides
    with misbehaving(None, lambda _: says(), first=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as it:
        yield settings_for(directory, it.port, server, client, **PATIENT)


@contextlib.contextmanager
def _expired_client(sides: Sides) -> Iterator[Path]:
    directory, server, _ = sides
    expired = identity(directory / "expired", "fas1", days=-1)
    with misbehaving(server_context(server), lambda _: says()) as it:
        yield settings_for(directory, it.port, server, expired, **PATIENT)


CONNECTIONS: dict[str, tuple[str, Given]] = {
    "nobody listens": ("no_service", _nobody),
    "a name that is not known": ("no_service", _no_such_name),
    "connections are never made": ("timeout", _black_hole),
    "TLS 1.1": ("tls_refused", _tls(_tls_1_1)),
    "no TLS": ("tls_refused", _no_tls),
    "the client certificate is refused": ("tls_refused", _tls(_other_client)),
    "a certificate that is not pinned": ("wrong_certificate", _tls(_other_server)),
    "a pinned certificate that has expired": ("wrong_certificate", _expired_server),
    "a certificate of another CA": ("wrong_certificate", _other_ca),
    "the client certificate has expired": ("certificate_unusable", _expired_client),
    "the password is wrong": ("certificate_unusable", _tls(ClientCertificatePassword="wrong")),
}
"""What goes wrong before a question is put."""


@pytest.fixture
def sides(tmp_path: Path, server: Identity, client: Identity) -> Sides:
    """Where the files go, and both certificates."""
    return tmp_path, server, client


@needs_mono
@pytest.mark.parametrize("name", CONNECTIONS)
def test_promise_1_the_plugin_denies_without_a_connection(name: str, sides: Sides, plugin: Plugin) -> None:
    """Without the one service behind TLS 1.2 or better, nothing is allowed (promises 1 and 85)."""
    expected, given = CONNECTIONS[name]
    with given(sides) as settings:
        said = plugin.ask(settings, [question("")])[""]
    assert (said["allowed"], said["failure"]) == (False, expected), said


@pytest.mark.parametrize("name", CONNECTIONS)
def test_promise_1_the_reference_client_denies_without_a_connection(name: str, sides: Sides) -> None:
    """The reference client agrees (promises 1 and 85)."""
    expected, given = CONNECTIONS[name]
    with given(sides) as settings:
        said = by_client(settings)
    assert (said.allowed, said.failure) == (False, expected), said


@needs_mono
@pytest.mark.parametrize(
    ("host", "asked", "allowed"),
    [
        ("localhost", "localhost", True),
        ("LOCALHOST", "localhost", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("other.corp.example", "localhost", False),
        ("localhost.corp.example", "localhost", False),
        ("*", "localhost", False),
        ("127.0.0.2", "127.0.0.1", False),
        ("localhost", "127.0.0.1", False),
    ],
)
def test_a_server_is_known_by_its_ca_and_its_name(
    host: str, asked: str, allowed: bool, plugin: Plugin, sides: Sides
) -> None:
    """With ServerCa in the place of pins, the CA's certificate for this name is taken, and for another is not."""
    directory, _, client = sides
    ca, known = issued(directory / "issued", host)
    with misbehaving(server_context(known), lambda _: says()) as it:
        address = f"https://{asked}:{it.port}"
        members = {**PATIENT, "Service": address, "ServerPin": None, "ServerCa": ca}
        settings = settings_for(directory, it.port, known, client, **members)
        said = plugin.ask(settings, [question()])[""]
        reference = by_client(settings)
    failure = None if allowed else "wrong_certificate"
    assert (said["allowed"], said["failure"]) == (allowed, failure), said
    assert (reference.allowed, reference.failure) == (allowed, failure), reference


@needs_mono
@pytest.mark.parametrize(
    "made", [{"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, {"alternative": False}, {"middle": True}], ids=str
)
def test_a_ca_vouches_for_servers_by_their_alternative_names_only(
    made: dict[str, Any], plugin: Plugin, sides: Sides
) -> None:
    """Not with a user's certificate, not by the subject's name, and not as a CA in the middle."""
    directory, _, client = sides
    ca, known = issued(directory / "issued", "localhost", **made)
    with misbehaving(server_context(known), lambda _: says()) as it:
        members = {**PATIENT, "Service": f"https://localhost:{it.port}", "ServerPin": None, "ServerCa": ca}
        settings = settings_for(directory, it.port, known, client, **members)
        said = plugin.ask(settings, [question()])[""]
        reference = by_client(settings)
    assert (said["allowed"], said["failure"]) == (False, "wrong_certificate"), said
    assert (reference.allowed, reference.failure) == (False, "wrong_certificate"), reference


@needs_mono
def test_settings_that_cannot_be_used_deny(plugin: Plugin, sides: Sides) -> None:
    """No file, and a file with a wrong member, deny with settings_invalid and name the member."""
    directory, server, client = sides
    missing = plugin.ask(directory / "none.xml", [question("")])[""]
    assert (missing["allowed"], missing["failure"]) == (False, "settings_invalid")
    assert missing["detail"].startswith("EvidencePlugin: the file ")
    wrong = plugin.ask(settings_for(directory, 1, server, client, MaxConcurrent="many"), [question("")])[""]
    assert (wrong["allowed"], wrong["failure"]) == (False, "settings_invalid")
    assert wrong["detail"] == "MaxConcurrent: is not a whole number from 1 to 1024"


@needs_mono
def test_questions_outside_the_contract_deny(plugin: Plugin, settings: dict[str, Path]) -> None:
    """What FAS passes wrongly never reaches the service, let alone an allow."""
    wrong = {
        "no UPN": question(upn=None),
        "no evidence": question(evidence=None),
        "a long UPN": question(upn="a" * 1025),
        "half a surrogate pair": question(upn="\ud800@corp.example"),
        "an unknown phase": question(phase="later"),
        "too many": question(evidence=EVIDENCE * 17),
        "a long rule": question(rule="r" * 257),
    }
    answers = plugin.ask(settings["a plain allow"], ({**each, "id": name} for name, each in wrong.items()))
    assert {name: (said["allowed"], said["failure"]) for name, said in answers.items()} == dict.fromkeys(
        wrong, (False, "question_invalid")
    )


@needs_mono
def test_more_questions_than_allowed_are_denied_at_once(plugin: Plugin, sides: Sides) -> None:
    """With MaxConcurrent 2 and a slow service, two of eight callers are served and six told `busy`."""
    directory, server, client = sides
    with misbehaving(server_context(server), lambda _: lambda own: [3.0, *says()(own)]) as it:
        settings = settings_for(directory, it.port, server, client, **{**PATIENT, "MaxConcurrent": 2})
        answers = plugin.ask(settings, (question(str(n)) for n in range(8)), callers=8)
    failures = sorted(str(said["failure"]) for said in answers.values())
    assert failures == ["None"] * 2 + ["busy"] * 6


@needs_mono
def test_a_failing_address_is_left_alone(plugin: Plugin, sides: Sides) -> None:
    """After BreakerFailures failures in a row an address is not asked, and says so."""
    directory, server, client = sides
    with misbehaving(server_context(server), lambda _: lambda _own: []) as it:
        members = {**PATIENT, "BreakerFailures": 2, "BreakerSeconds": 60}
        settings = settings_for(directory, it.port, server, client, **members)
        answers = plugin.ask(settings, (question(str(n)) for n in range(5)))
    assert [answers[str(n)]["failure"] for n in range(5)] == ["no_service"] * 2 + ["circuit_open"] * 3


@needs_mono
def test_a_connection_that_ends_is_not_taken_for_a_timeout(plugin: Plugin, sides: Sides) -> None:
    """Whatever the runtime calls it, now and then "canceled": it is asked twice, and nothing took too long."""
    directory, server, client = sides
    with misbehaving(server_context(server), lambda _: lambda _own: []) as it:
        settings = settings_for(directory, it.port, server, client, **PATIENT)
        answers = plugin.ask(settings, (question(str(n)) for n in range(200)))
    assert [said for said in answers.values() if said["failure"] != "no_service"] == []
    assert set(it.asked.values()) == {2}


@needs_mono
def test_the_next_address_is_asked_where_no_decision_was_made(plugin: Plugin, sides: Sides) -> None:
    """A dead, a foreign, an overloaded and a silent address before a good one: allowed by the good one."""
    directory, server, client = sides
    other = identity(directory / "other", "server")
    with contextlib.ExitStack() as stack:

        def service(context: ssl.SSLContext, behave: Behaviour) -> Misbehaving:
            return stack.enter_context(misbehaving(context, lambda _: behave))

        dead = service(server_context(server), lambda _: [])
        foreign = service(server_context(other), says())
        overloaded = service(server_context(server), FAILURES["status 503"][1])
        silent = service(server_context(server), FAILURES["silence"][1])
        good = service(server_context(server), says())
        ports = [each.port for each in (dead, foreign, overloaded, silent, good)]
        settings = settings_for(directory, ports, server, client, **{**PATIENT, "AttemptMilliseconds": 4000})
        said = plugin.ask(settings, [question("x")])["x"]
        reference = by_client(settings, "x")
    assert (said["allowed"], said["service"]) == (True, f"https://127.0.0.1:{good.port}/v1/decisions"), said
    assert (reference.allowed, reference.service) == (True, said["service"]), reference


@needs_mono
@pytest.mark.parametrize(
    "name", ["a plain deny", "status 401", "status 500", "decision 'ALLOW'", "an answer cut within"]
)
def test_no_other_address_is_asked_to_hear_a_better_answer(name: str, plugin: Plugin, sides: Sides) -> None:
    """What answered has answered: a second address that would allow is not asked."""
    directory, server, client = sides
    with (
        misbehaving(server_context(server), BEHAVIOURS.__getitem__) as first,
        misbehaving(server_context(server), lambda _: says()) as second,
    ):
        settings = settings_for(directory, [first.port, second.port], server, client, **PATIENT)
        said = plugin.ask(settings, [question(name)])[name]
        reference = by_client(settings, name)
    assert not said["allowed"]
    assert not reference.allowed
    assert second.asked == {}


@needs_mono
def test_promise_2_the_deadline_holds_over_all_addresses(plugin: Plugin, sides: Sides) -> None:
    """Three silent addresses, and a deny at the deadline, not after the sum of the attempts (promise 2)."""
    directory, server, client = sides
    with misbehaving(server_context(server), lambda _: FAILURES["silence"][1]) as it, contextlib.ExitStack() as stack:
        others = [
            stack.enter_context(misbehaving(server_context(server), lambda _: FAILURES["silence"][1])).port
            for _ in range(2)
        ]
        members = {**PATIENT, "AttemptMilliseconds": 3000, "DeadlineMilliseconds": 4000}
        settings = settings_for(directory, [it.port, *others], server, client, **members)
        said = plugin.ask(settings, [question("x")])["x"]
    assert (said["allowed"], said["failure"]) == (False, "timeout")
    assert 4000 - 100 < said["ms"] < 3 * 3000


HANGING_LOOKUP = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, __func__);
    if (n && strstr(n, "hanging")) { sleep(30); return EAI_AGAIN; }
    return real(n, s, h, r);
}
"""
"""What a name server that does not answer does to every caller of the C library."""


@needs_mono
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_name_that_hangs_does_not_keep_questions_from_the_next_address(
    plugin: Plugin, sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking up a name cannot be cancelled; all the same every question is allowed by the second address."""
    directory, server, client = sides
    (directory / "hanging.c").write_text(HANGING_LOOKUP, encoding="ascii")
    library = directory / "hanging.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, directory / "hanging.c", "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    with misbehaving(server_context(server), lambda _: says()) as it:
        members = {
            **PATIENT,
            "Service": ["https://hanging.corp.example", f"https://127.0.0.1:{it.port}"],
            "AttemptMilliseconds": 3000,
            "BreakerFailures": 5,
            "MaxConcurrent": 4,
        }
        settings = settings_for(directory, it.port, server, client, **members)
        answers = plugin.ask(settings, (question(str(n)) for n in range(16)), callers=4)
    assert [said for said in answers.values() if not said["allowed"]] == []


@needs_mono
def test_an_address_is_not_left_alone_for_the_time_that_others_took(plugin: Plugin, sides: Sides) -> None:
    """The second address gets what the first left of the deadline, which is not its fault: later it allows."""
    directory, server, client = sides
    with (
        misbehaving(server_context(server), lambda _: FAILURES["silence"][1]) as silent,
        misbehaving(server_context(server), lambda _: lambda own: [1.0, *says()(own)]) as slow,
    ):
        members = {
            "AttemptMilliseconds": 4000,
            "DeadlineMilliseconds": 4500,
            "BreakerFailures": 2,
            "BreakerSeconds": 60,
        }
        settings = settings_for(directory, [silent.port, slow.port], server, client, **members)
        answers = plugin.ask(settings, (question(str(n)) for n in range(4)))
    assert [answers[str(n)]["failure"] for n in range(4)] == ["timeout", "timeout", None, None]


@needs_mono
def test_the_table_is_generated_from_the_code(plugin: Plugin) -> None:
    """FailClosed.md is what the compiled library says, and every row of it was driven here or in the unit tests."""
    table = plugin.host("table").stdout
    assert table == (BRIDGE / "FailClosed.md").read_text(encoding="utf-8")
    driven = {expected for expected, _ in FAILURES.values()} | {expected for expected, _ in CONNECTIONS.values()}
    elsewhere = {"settings_invalid", "question_invalid", "busy", "circuit_open", "internal_error"}
    assert driven | elsewhere == set(failure_codes())


def test_the_reference_client_knows_the_same_failures() -> None:
    """Its codes are rows of FailClosed.md; it has no breaker and no limit of callers."""
    assert {failure.value for failure in Failure} == set(failure_codes()) - {"busy", "circuit_open"}
