"""Identity providers and services in front of them; each is started once for each worker, when it is first needed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.doors import KEY_NAME, RunningService, serving
from tests.e2e.idps import RunningIdp, missing, running, write_key_pair


@pytest.fixture(scope="session")
def gateway_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key of the service (PEM). Its certificate, to which assertions are encrypted, lies beside it."""
    key, _ = write_key_pair(tmp_path_factory.mktemp("gateway"), KEY_NAME.removesuffix(".key"), "gw.example decryption")
    return key


@pytest.fixture(scope="session")
def start_idp(gateway_key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RunningIdp]]:
    """Start an identity provider by its name, or skip the test where it is not installed."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(name: str) -> RunningIdp:
            certificate = gateway_key.with_suffix(".crt")
            return stack.enter_context(running(name, tmp_path_factory.mktemp(name), certificate))

        def start_or_skip(name: str) -> RunningIdp:
            if problem := missing(name):
                pytest.skip(problem)
            return start(name)

        yield start_or_skip


@pytest.fixture(scope="session")
def start_service(
    start_idp: Callable[[str], RunningIdp], gateway_key: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], RunningService]]:
    """Start a service that trusts one identity provider, named, and no other."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(name: str) -> RunningService:
            metadata = start_idp(name).metadata()
            return stack.enter_context(serving(tmp_path_factory.mktemp(f"{name}-service"), metadata, gateway_key))

        yield start


@pytest.fixture
def idp(request: pytest.FixtureRequest, start_idp: Callable[[str], RunningIdp]) -> RunningIdp:
    """The identity provider that the test is run with."""
    return start_idp(request.param)


@pytest.fixture
def other_idp(idp: RunningIdp, start_idp: Callable[[str], RunningIdp]) -> RunningIdp:
    """Another identity provider than `idp`."""
    return start_idp({"simplesamlphp": "samlp", "samlp": "simplesamlphp"}[idp.name])


@pytest.fixture
def service(idp: RunningIdp, start_service: Callable[[str], RunningService]) -> RunningService:
    """A running service that trusts `idp`."""
    return start_service(idp.name)
