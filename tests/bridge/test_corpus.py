"""The whole corpus through the compiled plug-in and the reference client, over mutual TLS, against the function."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from evidence_service.access.model import Allow, Phase
from plugin_bridge.client import Question, ask, read_settings
from tests.bridge.corpus_service import serving_corpus
from tests.bridge.given import Plugin, needs_mono, settings_for
from tests.corpus import harness
from tests.corpus.model import Case
from tests.web.listening import Identity

CASES = list(enumerate(harness.cases()))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, server: Identity, client: Identity) -> Iterator[Path]:
    """The settings file for a service that judges the corpus."""
    directory = tmp_path_factory.mktemp("corpus")
    with serving_corpus(directory, server, client) as port:
        yield settings_for(directory, port, server, client, DeadlineMilliseconds=20000, AttemptMilliseconds=20000)


@cache
def function(number: int) -> tuple[bool, str]:
    """What the function decides."""
    decision = harness.run(harness.cases()[number])
    return isinstance(decision, Allow), str(decision.reason)


def line(number: int, case: Case) -> dict[str, Any]:
    """A case as the test host reads it."""
    evidence = [] if case.evidence is None else [case.evidence]
    return {
        "id": str(number),
        "upn": case.upn,
        "phase": case.phase,
        "rule": case.rule,
        "evidence": [{"type": "SAMLResponse", "value": base64.b64encode(raw).decode()} for raw in evidence],
        "correlation_id": str(number),
    }


def compared(answers: dict[int, tuple[bool, str]]) -> list[str]:
    """Every case that came out otherwise than by the function."""
    return [
        f"{case.id}: {answers[number]} instead of {function(number)}"
        for number, case in CASES
        if answers[number] != function(number)
    ]


@needs_mono
@pytest.mark.timeout(600)
def test_promise_1_the_plugin_decides_as_the_function_does(plugin: Plugin, settings: Path) -> None:
    """Every case gives the same decision for the same reason through the compiled library (promise 1)."""
    answers = plugin.ask(settings, (line(number, case) for number, case in CASES), callers=4)
    assert [answer for answer in answers.values() if answer["failure"] is not None] == []
    assert compared({int(number): (answer["allowed"], answer["reason"]) for number, answer in answers.items()}) == []


@pytest.mark.timeout(600)
def test_the_reference_client_decides_as_the_function_does(settings: Path) -> None:
    """Every case gives the same decision for the same reason through `plugin_bridge.client`."""
    loaded = read_settings(settings)

    def answer(numbered: tuple[int, Case]) -> tuple[bool, str]:
        number, case = numbered
        evidence = () if case.evidence is None else (case.evidence,)
        question = Question(
            upn=case.upn,
            evidence=evidence,
            phase=None if case.phase is None else Phase(case.phase).value,
            rule=case.rule,
            correlation_id=str(number),
        )
        said = ask(loaded, question)
        assert said.failure is None, f"{case.id}: {said}"
        return said.allowed, said.reason

    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip((number for number, _ in CASES), pool.map(answer, CASES), strict=True))
    assert compared(answers) == []
