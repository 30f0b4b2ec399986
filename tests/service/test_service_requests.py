"""The release gate of one request, under a fault at every step and a cancellation at every wait.

Whatever happens: at most one opening and one closing record; a closing record on every exit that the log survives;
nothing runs before its opening record; nothing is released that is not in the log with exactly that content.
Registry, vocabulary, specialist files, tasks and redaction are the real ones; the log and the engine are in memory.
"""

import asyncio
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import migrations
from appliance.config import Home, LimitsConfig, load_config
from appliance.errors import (
    ApplianceError,
    AuditUnavailable,
    DeadlineExceeded,
    EngineUnavailable,
    HomeReadOnly,
    InputEmpty,
    InputNotText,
    InputTooLong,
    InvalidRequest,
    KeystoreInvalid,
    ModelFileRefused,
    PermissionDenied,
    QueueFull,
    SpecialistFileInvalid,
    SpecialistNotFound,
    UnknownOption,
)
from appliance.service.appliance import Appliance
from appliance.service.requests import (
    Operation,
    SpecialistRequest,
    answer,
    answer_content,
    check_texts,
    recordable_id,
)
from appliance.specialists.registry import Registry
from appliance.specialists.tokenization import WordPiece
from appliance.storage.database import open_database
from appliance.types import Material, Outcome, Principal
from tests.service.service_fakes import HeldRegistry, HeldWordPiece, Hold, MemoryLog, ScriptedEngine
from tests.specialist_files import CLASSES, TAGS, write_answerer, write_classifier, write_embedder, write_tagger

ANA = Principal("user:1", "ana", "user", frozenset({"user"}))
AUDITOR = Principal("user:2", "aude", "user", frozenset({"auditor"}))
SERVED = {"via": "server"}
COLUMNS = 1 + 2 * len(TAGS)
TEXT = "Ana wrote to ana@example.org on Monday."
CLOSING = (Outcome.COMPLETED, Outcome.REFUSED, Outcome.FAILED, Outcome.CANCELLED)


@pytest.fixture(scope="module")
def site(tmp_path_factory, base_model):
    """Config, registry and vocabulary of a data folder with a few specialists."""
    home = Home(tmp_path_factory.mktemp("requests") / "home")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    files = home.root / "incoming"
    database = open_database(home.database, mode="rw")
    registry = Registry(database, home)
    for path in (
        write_tagger(files / "marker.gguf", post="deid"),
        write_tagger(files / "short.gguf", input_chars_max=10),
        write_tagger(files / "damaged.gguf"),
        write_classifier(files / "triage.gguf"),
        write_classifier(files / "denied.gguf", context="required", context_name="concept"),
        write_answerer(files / "reader.gguf"),
        write_embedder(files / "vector.gguf"),
    ):
        registry.install(path, trust="administrator")
    damaged = registry.get("damaged").path
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\1")
    yield load_config(home.root), registry, WordPiece.from_vocab(base_model / "minilm" / "vocab.txt")
    database.dispose()


@pytest.fixture
def opened(site):
    """An appliance over that folder: `opened(log=..., engine=...)`."""
    config, registry, wordpiece = site

    def build(log=None, engine=None, **changes) -> Appliance:
        rooms = {
            "config": config,
            "via": "server",
            "accounts": None,
            "audit": log or MemoryLog(),
            "registry": registry,
            "engine": engine or ScriptedEngine(COLUMNS),
            "wordpiece": wordpiece,
            "denials": None,
            "process": SERVED,
        }
        return Appliance(**(rooms | changes))

    return build


def request(text: str = TEXT, specialist: str = "marker", operation: Operation = Operation.DEIDENTIFY):
    return SpecialistRequest(text, specialist, operation)


def outcomes_of(appliance: Appliance) -> list[str]:
    """Outcomes in the log, after checking what must hold of every exchange whatever happened."""
    events = appliance.audit.events
    for _, exchange in itertools.groupby(sorted(events, key=lambda e: e.exchange_id), lambda e: e.exchange_id):
        kinds = [event.outcome for event in exchange]
        assert kinds.count(Outcome.ACCEPTED) <= 1
        assert len(kinds) - kinds.count(Outcome.ACCEPTED) <= 1
        assert kinds.index(Outcome.ACCEPTED) == 0 if Outcome.ACCEPTED in kinds else True
    return [event.outcome for event in events]


def refused(appliance: Appliance, kind: type[BaseException], wanted=None, principal: Principal = ANA) -> list[str]:
    """Outcomes in the log after a request that raised `kind`."""
    with pytest.raises(kind):
        asyncio.run(answer(appliance, principal, wanted or request()))
    return outcomes_of(appliance)


class PerSequence(ScriptedEngine):
    """Logits of a pooled head: one row per sequence."""

    async def encode(self, key, inputs, *, deadline_s=None):
        return [row[0] for row in await super().encode(key, inputs)]


def raising(error: BaseException):
    def fail():
        raise error

    return fail


def test_what_is_released_is_what_the_record_of_its_receipt_holds(opened):
    appliance = opened()
    released = asyncio.run(answer(appliance, ANA, request()))
    assert outcomes_of(appliance) == [Outcome.ACCEPTED, Outcome.COMPLETED]
    opening, closing = appliance.audit.events
    assert released.receipt.record_id == closing.record_id
    assert closing.content == answer_content(released.value)
    assert opening.content == TEXT.encode()
    assert released.value.redaction.text == "Ana wrote to [EMAIL 1] on Monday."


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"text": "ab\0"}, "the text has a NUL character at offset 2"),
        ({"text": "a", "about": (("concept", "\0"),)}, "the concept has a NUL character at offset 0"),
        ({"question": "a", "context": "b\ud800"}, "the context has half of a surrogate pair at offset 1"),
        ({"sentences": ("a", "\0")}, "sentence 2 has a NUL character at offset 0"),
    ],
)
def test_what_is_no_text_is_named_with_the_part_that_holds_it(parts, said):
    with pytest.raises(InputNotText, match=said):
        check_texts(Material(**parts), LimitsConfig())


def test_records_in_clear_hold_no_text(opened):
    appliance = opened()
    asyncio.run(answer(appliance, ANA, request()))
    for event in appliance.audit.events:
        assert "ana@" not in repr(event.attributes) and "Ana" not in repr(event.attributes)


def test_somebody_who_may_not_is_refused_and_recorded_before_anything_is_looked_at(opened):
    appliance = opened()
    assert refused(appliance, PermissionDenied, principal=AUDITOR) == [Outcome.REFUSED]
    assert appliance.engine.calls == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", InputEmpty),
        (" \n", InputEmpty),
        ("a\0", InputNotText),
        ("a\ud83d", InputNotText),
        ("x" * 200_001, InputTooLong),
    ],
    ids=["empty", "blank", "NUL", "lone surrogate", "too long"],
)
def test_text_that_cannot_be_served_closes_once_and_nothing_runs(opened, text, kind):
    appliance = opened()
    assert refused(appliance, kind, request(text)) == [Outcome.REFUSED]
    assert appliance.engine.calls == []
    assert [event.content for event in appliance.audit.events] == [None]


@pytest.mark.parametrize(
    ("wanted", "kind", "outcome"),
    [
        (request(specialist="nobody"), SpecialistNotFound, Outcome.REFUSED),
        (request(specialist="triage"), UnknownOption, Outcome.REFUSED),
        (request(specialist="short"), InputTooLong, Outcome.REFUSED),
    ],
    ids=["registry: unknown", "task: cannot de-identify", "prepare: too long for this specialist"],
)
def test_refusal_before_the_opening_record_leaves_the_closing_record_alone(opened, wanted, kind, outcome):
    appliance = opened()
    assert refused(appliance, kind, wanted) == [outcome]
    assert appliance.engine.calls == []


def test_registry_that_cannot_be_read_closes_once(opened):
    class Unreadable:
        def get(self, specialist_id):
            raise HomeReadOnly("the disk is gone")

    assert refused(opened(registry=Unreadable()), HomeReadOnly) == [Outcome.FAILED]


def test_error_nobody_foresaw_while_preparing_closes_once(opened):
    class Broken:
        def encode(self, text):
            raise ZeroDivisionError

    appliance = opened(wordpiece=Broken())
    assert refused(appliance, ZeroDivisionError) == [Outcome.FAILED]
    assert appliance.audit.events[0].attributes["error"] == "internal_error"


def test_nothing_runs_when_the_opening_record_cannot_be_made(opened):
    appliance = opened(MemoryLog(fail_at=frozenset({0})))
    assert refused(appliance, AuditUnavailable) == []
    assert appliance.engine.calls == []
    assert appliance.audit.attempts == 1


def test_specialist_file_that_was_changed_is_refused_before_the_engine_sees_it(opened):
    appliance = opened()
    assert refused(appliance, ModelFileRefused, request(specialist="damaged")) == [Outcome.ACCEPTED, Outcome.FAILED]
    assert appliance.engine.calls == []


@pytest.mark.parametrize("error", [SpecialistFileInvalid("bad"), EngineUnavailable("died"), ModelFileRefused("no")])
def test_fault_while_loading_closes_once_and_nothing_is_encoded(opened, error):
    appliance = opened(engine=ScriptedEngine(COLUMNS, on_load=raising(error)))
    assert refused(appliance, type(error)) == [Outcome.ACCEPTED, Outcome.FAILED]
    assert appliance.engine.calls == ["load"]
    assert appliance.audit.events[-1].attributes["error"] == error.code


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (QueueFull("full"), Outcome.REFUSED),
        (DeadlineExceeded("late"), Outcome.FAILED),
        (EngineUnavailable("died"), Outcome.FAILED),
        (MemoryError(), Outcome.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_fault_while_encoding_closes_once_and_says_which(opened, error, outcome):
    appliance = opened(engine=ScriptedEngine(COLUMNS, on_encode=raising(error)))
    assert refused(appliance, type(error)) == [Outcome.ACCEPTED, outcome]
    assert appliance.audit.events[-1].attributes["error"] == getattr(error, "code", "internal_error")


def test_outputs_that_do_not_fit_the_labels_are_an_error_and_not_an_answer(opened):
    appliance = opened(engine=ScriptedEngine(COLUMNS + 1))
    assert refused(appliance, SpecialistFileInvalid) == [Outcome.ACCEPTED, Outcome.FAILED]


def test_nothing_is_released_when_the_answer_cannot_be_recorded(opened):
    appliance = opened(MemoryLog(fail_at=frozenset({1})))
    assert refused(appliance, AuditUnavailable) == [Outcome.ACCEPTED]
    assert appliance.audit.attempts == 2  # whether it was stored is not known, so nothing contradicts it


def test_answer_too_large_to_be_recorded_is_refused_in_the_log_and_to_the_caller(opened):
    log = MemoryLog(fail_at=frozenset({1}), error=lambda: InputTooLong("the content of this record is too long"))
    assert refused(opened(log), InputTooLong) == [Outcome.ACCEPTED, Outcome.REFUSED]


def test_error_survives_a_log_that_fails_in_an_unforeseen_way_at_the_closing(opened):
    log = MemoryLog(fail_at=frozenset({1}), error=lambda: KeystoreInvalid("the keystore is damaged"))
    appliance = opened(log, ScriptedEngine(COLUMNS, on_encode=raising(EngineUnavailable("died"))))
    assert refused(appliance, EngineUnavailable) == [Outcome.ACCEPTED]


STEPS = {
    "registry": [Outcome.CANCELLED],
    "prepare": [Outcome.CANCELLED],
    "before opening": [Outcome.CANCELLED],
    "after opening": [Outcome.ACCEPTED, Outcome.CANCELLED],
    "load": [Outcome.ACCEPTED, Outcome.CANCELLED],
    "encode": [Outcome.ACCEPTED, Outcome.CANCELLED],
    "finish": [Outcome.ACCEPTED, Outcome.CANCELLED],
    # The record of the answer is on its way and may be stored: it is the closing record, though nobody gets the answer.
    "before closing": [Outcome.ACCEPTED, Outcome.COMPLETED],
    "after closing": [Outcome.ACCEPTED, Outcome.COMPLETED],
}


@pytest.mark.parametrize("step", STEPS)
def test_cancellation_at_any_wait_closes_exactly_once(opened, step):
    async def cancelled_at_the_step():
        hold = Hold(step)
        plain = opened()
        appliance = opened(
            MemoryLog(hold=hold),
            ScriptedEngine(COLUMNS, hold=hold),
            registry=HeldRegistry(plain.registry, hold),
            wordpiece=HeldWordPiece(plain.wordpiece, hold),
        )
        task = asyncio.create_task(answer(appliance, ANA, request()))
        await asyncio.wait_for(hold.reached.wait(), 60)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        hold.let_go()
        await asyncio.wait({task}, timeout=60)
        assert task.cancelled()
        return appliance

    appliance = asyncio.run(cancelled_at_the_step())
    assert outcomes_of(appliance) == STEPS[step]


def test_cancellation_while_the_answer_cannot_be_recorded_adds_no_second_record(opened):
    async def cancelled_at_the_closing():
        hold = Hold("before closing")
        appliance = opened(MemoryLog(fail_at=frozenset({1}), hold=hold))
        task = asyncio.create_task(answer(appliance, ANA, request()))
        await asyncio.wait_for(hold.reached.wait(), 60)
        task.cancel()
        await asyncio.sleep(0)
        hold.let_go()
        await asyncio.wait({task}, timeout=60)
        assert task.cancelled()
        return appliance

    appliance = asyncio.run(cancelled_at_the_closing())
    assert outcomes_of(appliance) == [Outcome.ACCEPTED]
    assert appliance.audit.attempts == 2


@given(
    fail_at=st.frozensets(st.integers(0, 20), max_size=6),
    faults=st.lists(st.sampled_from(["", "load", "encode", "cancel", "nobody"]), min_size=1, max_size=8),
)
@settings(max_examples=40, deadline=None)
def test_whatever_fails_in_requests_at_once_what_is_released_is_recorded(site, fail_at, faults):
    config, registry, wordpiece = site
    log = MemoryLog(fail_at)

    async def one(fault: str):
        error = raising(EngineUnavailable("died"))
        engine = ScriptedEngine(COLUMNS, **{f"on_{name}": error for name in ("load", "encode") if name == fault})
        appliance = Appliance(config, "server", None, log, registry, engine, wordpiece, None, SERVED)
        wanted = request(specialist="nobody" if fault == "nobody" else "marker")
        task = asyncio.ensure_future(answer(appliance, ANA, wanted))
        if fault == "cancel":
            await asyncio.sleep(0)
            task.cancel()
        return await task

    async def all_at_once():
        return await asyncio.gather(*(one(fault) for fault in faults), return_exceptions=True)

    results = asyncio.run(all_at_once())
    recorded = {event.record_id: event for event in log.events}
    outcomes_of(Appliance(config, "server", None, log, registry, None, wordpiece, None, SERVED))
    for result in results:
        if not isinstance(result, BaseException):
            event = recorded[result.receipt.record_id]
            assert event.outcome == Outcome.COMPLETED
            assert event.content == answer_content(result.value)
        else:
            assert isinstance(result, ApplianceError | asyncio.CancelledError)
    if not fail_at:
        assert len([event for event in log.events if event.outcome in CLOSING]) == len(faults)


def test_classifier_answers_with_its_labels_and_they_are_sealed(opened):
    class OneLabel(ScriptedEngine):
        async def encode(self, key, inputs, *, deadline_s=None):
            return [np.array([0.0, 9.0, 0.0], np.float32) for _ in inputs]

    appliance = opened(engine=OneLabel(len(CLASSES)))
    released = asyncio.run(answer(appliance, ANA, request(specialist="triage", operation=Operation.RUN)))
    assert released.value.labels[0].label == "urgent"
    assert released.value.redaction is None
    assert appliance.audit.events[1].content == answer_content(released.value)


def test_all_parts_of_a_request_are_sealed_and_so_is_a_quote(opened):
    appliance = opened(engine=ScriptedEngine(2))
    wanted = SpecialistRequest(None, "reader", question="Who wrote?", context=TEXT)
    released = asyncio.run(answer(appliance, ANA, wanted))
    opening, closing = appliance.audit.events
    assert json.loads(opening.content) == {"question": "Who wrote?", "context": TEXT}
    assert opening.attributes["chars"] == len("Who wrote?") + len(TEXT)
    quote = released.value.findings.quote
    assert quote.text == TEXT[quote.start : quote.end]
    assert json.loads(closing.content)["answer"] == [quote.start, quote.end, quote.text, quote.score]


def test_a_vector_and_what_a_text_is_judged_with_regard_to_are_sealed(opened):
    appliance = opened(engine=ScriptedEngine(4))
    released = asyncio.run(answer(appliance, ANA, request(specialist="vector", operation=Operation.RUN)))
    assert json.loads(appliance.audit.events[1].content)["embedding"] == list(released.value.findings.embedding)
    wanted = SpecialistRequest(TEXT, "denied", about=(("concept", "fever"),))
    appliance = opened(engine=PerSequence(len(CLASSES)))
    asyncio.run(answer(appliance, ANA, wanted))
    assert json.loads(appliance.audit.events[0].content) == {"text": TEXT, "concept": "fever"}


def test_a_text_of_control_characters_alone_finds_nothing_and_needs_no_engine(opened):
    appliance = opened()
    released = asyncio.run(answer(appliance, ANA, request("\x01\x02")))
    assert released.value.spans == () and released.value.redaction.text == "\x01\x02"
    assert appliance.engine.calls == ["load"]


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        (SpecialistRequest(None, "reader", question="Who?"), InvalidRequest),
        (SpecialistRequest(None, "reader", question="Who?", context=" "), InputEmpty),
        (SpecialistRequest(None, "reader", question="Who?", context="a\0"), InputNotText),
        (SpecialistRequest(None, "reader", question="Who?", context="a" * 199_999), InputTooLong),
        (SpecialistRequest(TEXT, "denied"), InvalidRequest),
        (SpecialistRequest(TEXT, "triage", about=(("concept", "fever"),)), InvalidRequest),
    ],
    ids=["a part is missing", "blank", "NUL", "too long together", "no concept", "concept for nobody"],
)
def test_parts_that_cannot_be_served_close_once_and_nothing_runs(opened, wanted, kind):
    appliance = opened()
    assert refused(appliance, kind, wanted) == [Outcome.REFUSED]
    assert appliance.engine.calls == []


def test_note_in_the_wrong_field_does_not_enter_the_envelope():
    assert recordable_id("phi-deid") == "phi-deid"
    assert recordable_id("Margaret O'Neill, MRN 4471") == "(not an id)"
    assert recordable_id("a" * 65) == "(not an id)"
