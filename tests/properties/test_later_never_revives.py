"""Law: what is too old at one time is too old at every later one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from evidence_service.access.decide import decide
from evidence_service.access.model import Deny, Policy, Reuse
from evidence_service.access.verify import verify_evidence
from evidence_service.demo.idp import ADFS
from tests.core.given import ISSUED, all_of, certificate, changed, policy_for, request_of, snapshot_of, with_attribute
from tests.properties.given import ASSERTION, examples

TOO_OLD = {
    "evidence_too_old",
    "session_expired",
    "expired",
    "authentication_too_old",
    "evidence_not_fresh",
    "metadata_stale",
}
LAST = datetime(9999, 1, 1, tzinfo=UTC)

moments = st.one_of(
    st.integers(-4_000, 60_000).map(lambda each: ISSUED + timedelta(seconds=each)),
    st.integers(0, (LAST - ISSUED).days).map(lambda each: ISSUED + timedelta(days=each)),
)


def _instant(offset: int) -> str:
    return f"{ISSUED + timedelta(seconds=offset):%Y-%m-%dT%H:%M:%SZ}"


@st.composite
def _evidence(draw: st.DrawFn) -> bytes:
    return changed(
        all_of(
            with_attribute(f"{ASSERTION}/s:Conditions", "NotOnOrAfter", _instant(draw(st.integers(1, 50_000)))),
            with_attribute(f"{ASSERTION}/s:AuthnStatement", "AuthnInstant", _instant(draw(st.integers(-50_000, 0)))),
            with_attribute(
                f"{ASSERTION}/s:AuthnStatement", "SessionNotOnOrAfter", _instant(draw(st.integers(-9, 50_000)))
            ),
        )
    )


durations = st.integers(1, 60_000).map(lambda each: timedelta(seconds=each))
policies = st.builds(
    policy_for,
    st.just(ADFS),
    max_age=durations,
    max_authentication_age=st.one_of(st.none(), durations),
    clock_skew=st.integers(0, 600).map(lambda each: timedelta(seconds=each)),
    enforce_not_on_or_after=st.booleans(),
    enforce_session_expiry=st.booleans(),
    reuse=st.sampled_from((Reuse.BOUNDED, Reuse.FRESH_ONCE)),
    fresh_within=durations,
)


@examples(200)
@given(_evidence(), policies, moments, moments, st.one_of(st.none(), moments))
def test_too_old_stays_too_old(
    evidence: bytes, policy: Policy, one: datetime, other: datetime, stale: datetime | None
) -> None:
    """Each reason that time gave at one instant is given at every later instant too."""
    snapshot = snapshot_of(policy, certificate(), deny_after=stale)
    request = request_of(evidence)
    earlier, later = sorted((one, other))
    verified = verify_evidence(request.evidence, snapshot)

    before = decide(request, snapshot, earlier, verified=verified)
    assume(isinstance(before, Deny))
    assert isinstance(before, Deny)
    old = {str(finding.reason) for finding in before.findings} & TOO_OLD
    assume(old)
    after = decide(request, snapshot, later, verified=verified)

    assert isinstance(after, Deny)
    assert old <= {str(finding.reason) for finding in after.findings}
