"""Puts what people should know into the outbox, keeps alarms about FAS servers and this service true, and delivers.

What was done is told from what is remembered, each time anew, so that a crash between an act and its message loses
nothing; a fact that was told is not told again. Delivering waits for nobody here: it has a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from sqlalchemy import Engine

from evidence_service.adapters.channels import open_channels
from evidence_service.adapters.config_store import ConfigStore, PluginKind
from evidence_service.adapters.database import StoreUnavailable, writing
from evidence_service.adapters.outbox import Courier, Outbox, put
from evidence_service.adapters.renewal_store import RenewalStore
from evidence_service.adapters.revocation import RevocationProblem
from evidence_service.adapters.server_views import farm_alarms
from evidence_service.adapters.trust_store import StoredAlarm, TrustStore
from evidence_service.notices.model import About
from evidence_service.notices.own_certificates import OwnCertificate, own_certificate_alarms, unreadable_alarm
from evidence_service.notices.undelivered import undelivered_alarms
from evidence_service.renewal.farm import FasServer
from evidence_service.renewal.messages import message_of
from evidence_service.renewal.tick import Ticked
from evidence_service.renewal_settings import RenewalSettings
from evidence_service.settings import Settings
from idp_certs.alarms import Alarm, Severity

TOLD_LATE = timedelta(days=30)
"""An act is told of at most so long after it: longer than a worker is ever away, and shorter than the outbox keeps
what was told, so that nothing is told twice."""
DELIVER_SECONDS = 2.0
ABOUT = frozenset({About.FAS_SERVER.value, About.SERVICE.value, About.PLUGIN.value})

_log = structlog.get_logger()


class Telling:
    """What is told of renewals, and of this service's own certificates. `clock` answers UTC."""

    def __init__(
        self, engine: Engine, settings: Settings, renewal: RenewalSettings, *, clock: Callable[[], datetime]
    ) -> None:
        """Use an open database."""
        self._engine = engine
        self._settings = settings
        self._renewal = renewal
        self._clock = clock
        self._store = RenewalStore(engine)
        self._outbox = Outbox(engine)
        self._courier = Courier(engine, open_channels(renewal.channels), clock)
        self._told: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def of_tick(self, server: FasServer, ticked: Ticked) -> None:
        """Tell of what was done before this tick, as far as its end is known. Raises StoreUnavailable."""
        if ticked.observation is None or ticked.attempts is None:
            return
        now = self._clock()
        for attempt in ticked.attempts.acts:
            known = (server.name, attempt.seq)
            if attempt.result_at is None or now - attempt.result_at > TOLD_LATE or known in self._told:
                continue
            message = message_of(server.name, attempt, ticked.observation, server.policy, now, attempts=ticked.attempts)
            if message is not None:
                with writing(self._engine) as connection:
                    put(connection, message, now)
            with self._lock:
                self._told.add(known)

    def synchronise(
        self, revocation_problems: Sequence[RevocationProblem]
    ) -> tuple[tuple[StoredAlarm, ...], tuple[StoredAlarm, ...]]:
        """Raise and clear alarms as what is known says; which ones. Raises StoreUnavailable."""
        now = self._clock()
        alarms = [
            *farm_alarms(self._store, self._renewal.farm, now),
            *self._own_certificate_alarms(now),
            *undelivered_alarms(self._outbox.undelivered(now), now),
            *map(_revocation_alarm, revocation_problems),
        ]
        return TrustStore(self._engine).sync_alarms(alarms, now, about=ABOUT)

    def deliver(self, stop: threading.Event) -> None:
        """Deliver what is due until `stop` is set; for a thread of its own."""
        failing = False
        while not stop.wait(DELIVER_SECONDS):
            try:
                self._courier.deliver_due(stop.is_set)
                failing = False
            except Exception as error:  # noqa: BLE001 - whatever it is, the next pass may succeed
                if not failing:
                    expected = isinstance(error, StoreUnavailable)
                    _log.error("delivery_failed", problem=str(error), exc_info=None if expected else error)
                failing = True

    def deliver_once(self) -> None:
        """Deliver what is due. Raises StoreUnavailable."""
        self._courier.deliver_due()

    def _own_certificate_alarms(self, now: datetime) -> Iterator[Alarm]:
        settings = self._settings
        files = (
            ("serve", settings.tls_certificate, "tls_certificate"),
            ("admin", settings.admin_tls_certificate, "admin_tls_certificate"),
        )
        for name, path, setting in files:
            if path is None:
                continue
            try:
                certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
            except FileNotFoundError:
                continue  # its process may run on another machine; where it is missing it does not start
            except OSError as error:
                yield unreadable_alarm(name, str(path), setting, error.strerror or type(error).__name__)
            except ValueError:
                yield unreadable_alarm(name, str(path), setting, "it is no certificate in PEM form")
            else:
                own = _own(About.SERVICE, name, certificate, f"Replace the file of `{setting}`.")
                yield from own_certificate_alarms((own,), now)
        yield from own_certificate_alarms(tuple(self._plugins()), now)

    def _plugins(self) -> Iterator[OwnCertificate]:
        newest: dict[str, x509.Certificate] = {}
        for plugin in ConfigStore(self._engine).list_plugins():
            if plugin.kind is not PluginKind.CERTIFICATE or plugin.revoked_at or plugin.certificate_der is None:
                continue
            certificate = x509.load_der_x509_certificate(plugin.certificate_der)
            before = newest.get(plugin.name)
            # While a plug-in is rotated it has two; the old one may end.
            if before is None or before.not_valid_after_utc < certificate.not_valid_after_utc:
                newest[plugin.name] = certificate
        for name, certificate in newest.items():
            yield _own(About.PLUGIN, name, certificate, f"Enroll a new one: `fas-evidence plugin enroll {name}`.")


def _own(about: About, name: str, certificate: x509.Certificate, remedy: str) -> OwnCertificate:
    return OwnCertificate(
        about=about,
        name=name,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        expires=certificate.not_valid_after_utc,
        remedy=remedy,
    )


def _revocation_alarm(problem: RevocationProblem) -> Alarm:
    return Alarm(
        kind="crl_unknown",
        entity_id=problem.certificate_authority,
        key="",
        severity=Severity.WARNING,
        about=About.SERVICE.value,
        text=(
            f"Whether {problem.certificate_authority} revoked an authorization certificate is not known for sure: "
            f"{problem.text.rstrip('.')}. Correct `revocation_lists`, or see why the CA's list is not there."
        ),
    )
