"""The generation worker: one decoder, one loop, one thread, no network. Started by `worker_process.py`, never by hand.

    python -m appliance.engine.generation.worker --socket 5 --parent 4242 --message-bytes-max 16777216

The loop: take every command that has arrived, ask the scheduler for a step, run it, choose tokens, send what may be
released. So a cancellation takes effect within one step. An idle worker sleeps until a command comes; a closed
socket is the order to stop.
"""

from __future__ import annotations

import argparse
import socket
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from appliance.engine import protocol
from appliance.engine.backend import check_memory, descriptor_path, open_checked, pss_bytes
from appliance.engine.echo import EchoDecoder
from appliance.engine.generation import messages
from appliance.engine.generation.calls import MARKERS, form_of
from appliance.engine.generation.decoder import DRAFTS_MAX, Choice, Decoder
from appliance.engine.generation.llama_decoder import LlamaDecoder
from appliance.engine.generation.model_file import estimate, read_header
from appliance.engine.generation.provenance import ControlNames, split
from appliance.engine.generation.scheduler import Finished, Limits, Piece, Plan, Sampled, Scheduler, Sequence, Trim
from appliance.engine.generation.speculation import propose
from appliance.engine.generation.template import ChatTemplate
from appliance.engine.generation.text import TextStream
from appliance.engine.generation.tools import turns_for, without_system
from appliance.engine.generation.values import Sampling, TokenLogprob
from appliance.engine.isolation import IsolationVerdict, isolate
from appliance.engine.llamacpp import GpuAttempt
from appliance.engine.protocol import WorkerChannel
from appliance.engine.worker import probe, until_the_server_goes
from appliance.errors import (
    ApplianceError,
    DeadlineExceeded,
    EngineUnavailable,
    InputEmpty,
    InputTooLong,
    InvalidRequest,
    ModelFileRefused,
    QueueFull,
    SpecialistFileInvalid,
    SpecialistNotFound,
)

_TRIAL = -1  # no request has this number
CHARS_PER_TOKEN_MAX = 64  # a longer text could not fit into the context anyway and is not even tokenised


@dataclass(slots=True)
class _Answer:
    """What is being written for one request."""

    stream: TextStream
    logprobs: int | None
    adapter: str | None
    markers: dict[int, bytes] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)  # to be sent with this step
    tokens: int = 0
    chosen: list[TokenLogprob] = field(default_factory=list)
    error: ApplianceError | None = None


class GenerationWorker:
    """All state of the process. `step` is the loop's body."""

    def __init__(self, channel: WorkerChannel, decoder: Decoder, start: messages.StartDecoder) -> None:
        facts = decoder.facts
        self.channel, self.decoder, self.start = channel, decoder, start
        self.scheduler = Scheduler(
            Limits(
                slots=start.slots,
                step_tokens=start.step_tokens,
                context_tokens=facts.context_tokens,
                waiting_max=start.waiting_max,
                share_prefixes=start.share_prefixes and facts.shares_prefixes,
            ),
            lambda tokens: propose(tokens, DRAFTS_MAX),
        )
        self.answers: dict[int, _Answer] = {}
        self.adapters: dict[str, int] = {}  # with the bytes of their files
        self._template: ChatTemplate | None = None
        self._control_names: ControlNames | None = None
        self._markers: dict[int, bytes] | None = None
        self._loads: list[messages.LoadAdapter] = []  # wait for an idle slot to be tried in

    def step(self) -> None:
        """Take commands, waiting for one if there is nothing to do; then run one step."""
        idle = not (self.scheduler.running or self.scheduler.waiting)
        # Bounded: the server sends no more requests than it may have in flight before it has answers.
        while (command := self.channel.receive(wait=idle)) is not None:
            self._take(command)
            idle = False
        while self._loads and (slot := self.scheduler.borrow()) is not None:
            self._load(self._loads.pop(0), slot)
        plan = self.scheduler.schedule(time.monotonic())
        self._close(plan.finished)
        if not plan.pieces and not plan.memory:
            return
        try:
            self.decoder.run(plan)
            sampled = {piece.sequence: self._sample(piece) for piece in plan.pieces if piece.samples}
        except EngineUnavailable as error:
            for done in self.scheduler.reset():
                self._refuse(done.sequence, error)
            return
        finished = {done.sequence: done for done in self.scheduler.update(plan, sampled)}
        self._send(finished, list(sampled))

    # Commands

    def _take(self, command: object) -> None:
        match command:
            case messages.Generate():
                self._admit(command)
            case protocol.Cancel():
                self._forget(command.request_id)
                self.scheduler.cancel(command.request_id)
            case messages.LoadAdapter():
                self._loads.append(command)
            case protocol.Unload():
                self._unload(command.key)
            case protocol.Ping():
                self.channel.send(self._pong(command.nonce))
            case protocol.ProbeNetwork():
                self.channel.send(protocol.Probed(command.nonce, probe(command.host, command.port)))
            case _:
                raise protocol.ProtocolError("started twice")

    def _admit(self, command: messages.Generate) -> None:
        number = command.request_id
        assert number not in self.answers
        try:
            tokens = self._prompt(command)
            if command.adapter is not None and command.adapter not in self.adapters:
                raise _not_loaded(command.adapter)
            if self.scheduler.full(command.principal):
                raise QueueFull("the engine's queue is full", hint="try again in a moment", retry_after_s=1.0)
            self.decoder.open(
                number,
                command.sampling,
                seed=command.seed,
                grammar=command.grammar,
                logprobs=command.logprobs,
                prompt=len(tokens),
            )
        except ApplianceError as error:
            self._refuse(number, error)
            return
        markers = self._marker_tokens() if command.tools else {}
        self.answers[number] = _Answer(TextStream(command.stop), command.logprobs, command.adapter, markers)
        self.channel.send(messages.Accepted(number, len(tokens)))
        greedy = command.sampling.temperature == 0
        self.scheduler.add(
            Sequence(
                id=number,
                principal=command.principal,
                adapter=command.adapter,
                tokens=tokens,
                tokens_max=command.max_tokens or self.decoder.facts.context_tokens,
                deadline_s=time.monotonic() + command.deadline_s,
                speculates=self.start.speculate and greedy and self.scheduler.limits.share_prefixes,
            )
        )

    def _prompt(self, command: messages.Generate) -> array[int]:
        """Token ids of the prompt. Every value that reaches the backend is checked here."""
        facts = self.decoder.facts
        if command.token_ids is not None:
            tokens = array("i")
            if len(command.token_ids) % tokens.itemsize:
                raise InvalidRequest("the token ids are cut off")
            tokens.frombytes(command.token_ids)
            if any(not 0 <= token < facts.vocabulary for token in tokens):
                raise InvalidRequest(f"a token id is outside the model's vocabulary of {facts.vocabulary}")
        else:
            text = command.text if command.text is not None else self._rendered(command)
            if len(text) > facts.context_tokens * CHARS_PER_TOKEN_MAX:
                raise _too_long(f"{len(text)} characters", facts.context_tokens)
            tokens = self.decoder.tokenize([(text, False)] if command.text is not None else split(text, self._names()))
        if not tokens:
            raise InputEmpty("the prompt is empty")
        if len(tokens) >= facts.context_tokens:
            raise _too_long(f"{len(tokens)} tokens", facts.context_tokens)
        return tokens

    def _rendered(self, command: messages.Generate) -> str:
        facts = self.decoder.facts
        if facts.chat_template is None:
            raise InvalidRequest("this model has no chat template", hint="send a text instead of a chat")
        if self._template is None:
            self._template = ChatTemplate(facts.chat_template, bos=facts.bos, eos=facts.eos)
        turns, tools = turns_for(form_of(facts.chat_template), command.chat or [], command.tools)
        try:
            return self._template.render(turns, tools or None)
        except InvalidRequest:
            if (folded := without_system(turns)) is None:
                raise
            return self._template.render(folded, tools or None)

    def _marker_tokens(self) -> dict[int, bytes]:
        """Control tokens that begin a call, or divide it: they have no text of their own, and here they get some."""
        if self._markers is None:
            self._markers = {}
            for marker in MARKERS[form_of(self.decoder.facts.chat_template) or "hermes"]:
                if marker in self.decoder.facts.control:
                    (*_, token) = self.decoder.tokenize([(marker, True)])
                    self._markers[token] = marker.encode()
        return self._markers

    def _names(self) -> ControlNames:
        """What only the template may write."""
        if self._control_names is None:
            facts = self.decoder.facts
            source = facts.chat_template or ""
            self._control_names = ControlNames(facts.control, (name for name in facts.defined if name in source))
        return self._control_names

    def _load(self, command: messages.LoadAdapter, slot: int) -> None:
        self.channel.send(protocol.Loading(command.key))
        try:
            if command.key not in self.adapters:
                self._load_adapter(command, slot)
        except ApplianceError as error:
            self.channel.send(protocol.LoadRefused(command.key, error.code, error.message, error.hint))
        else:
            self.channel.send(protocol.Loaded(command.key, self._memory_bytes()))

    def _load_adapter(self, command: messages.LoadAdapter, slot: int) -> None:
        if len(self.adapters) >= self.start.adapters_max:
            raise ModelFileRefused(
                f"{len(self.adapters)} adapters are loaded, which is the most generation.adapters_max allows",
                hint="raise generation.adapters_max or unload adapters",
            )
        path = Path(command.path)
        with open_checked(path, command.sha256) as file:
            size = path.stat().st_size
            check_memory(size, max(0, self.start.memory_bytes_max - self._memory_bytes()), f"the adapter {path.name}")
            self.decoder.load_adapter(command.key, descriptor_path(file, path))
        self._try_out(command.key, slot)
        self.adapters[command.key] = size

    def _try_out(self, key: str, slot: int) -> None:
        """Run a token, so that a file that breaks the arithmetic is caught while it is known which file it is."""
        piece = Piece(_TRIAL, slot, 0, (0,), samples=True)
        self.decoder.open(_TRIAL, Sampling(temperature=0), seed=0, grammar=None, logprobs=None, prompt=1)
        try:
            self.decoder.run(Plan(key, (Trim(slot, 0),), (piece,), ()))
            self.decoder.choose(_TRIAL, 0)
        except EngineUnavailable:
            self.decoder.unload_adapter(key)
            raise SpecialistFileInvalid(
                "the adapter makes the model compute values that are not numbers",
                hint="install the file again from its source",
            ) from None
        finally:
            self.decoder.close(_TRIAL)
            self.decoder.run(Plan(None, (Trim(slot, 0),), (), ()))

    def _unload(self, key: str) -> None:
        for done in self.scheduler.forget(key):
            self._refuse(done.sequence, _not_loaded(key))
        self.adapters.pop(key, None)
        self.decoder.unload_adapter(key)

    def _memory_bytes(self) -> int:
        return self.decoder.facts.memory_bytes + sum(self.adapters.values())

    def _pong(self, nonce: int) -> messages.DecoderPong:
        counters = self.scheduler.counters
        return messages.DecoderPong(
            nonce,
            pss_bytes(),
            len(self.scheduler.waiting),
            len(self.scheduler.running),
            counters.steps,
            counters.prompt_tokens,
            counters.generated_tokens,
            counters.reused_tokens,
            counters.hits,
            counters.drafted_tokens,
            counters.accepted_tokens,
        )

    # Answers

    def _sample(self, piece: Piece) -> Sampled:
        """Choose the next token, and further ones as long as the guesses are what is chosen."""
        answer = self.answers[piece.sequence]
        chosen: list[int] = []
        for place in range(piece.drafts + 1):
            choice = self.decoder.choose(piece.sequence, place)
            if choice.token is None:
                answer.error = InvalidRequest(
                    "no token of the model's vocabulary continues what the grammar asks for",
                    hint="make the grammar or the schema less strict",
                )
                return Sampled(tuple(chosen), failed=True)
            chosen.append(choice.token)
            ended = self.decoder.ends(choice.token)
            self._write(answer, choice, ended)
            if ended or answer.stream.stopped is not None:
                return Sampled(tuple(chosen), ended=True)
            if place < piece.drafts and choice.token != piece.tokens[len(piece.tokens) - piece.drafts + place]:
                break
        return Sampled(tuple(chosen))

    def _write(self, answer: _Answer, choice: Choice, ended: bool) -> None:
        assert choice.token is not None
        answer.tokens += 1
        piece = answer.markers.get(choice.token) or self.decoder.piece(choice.token)
        answer.text.append("" if ended else answer.stream.feed(piece))
        if choice.logprobs and not ended:
            answer.chosen.append(self._logprob(choice))

    def _logprob(self, choice: Choice) -> TokenLogprob:
        (token, value), *others = choice.logprobs
        named = [(self.decoder.piece(other), logprob) for other, logprob in others]
        piece = self.decoder.piece(token)
        top = tuple((data.decode(errors="replace"), data, logprob) for data, logprob in named)
        return TokenLogprob(piece.decode(errors="replace"), piece, value, top)

    def _send(self, finished: dict[int, Finished], sampled: list[int]) -> None:
        """One message with what the step brought; a failed sequence gets its error instead."""
        parts = []
        for number in sampled:
            answer, done = self.answers[number], finished.get(number)
            if answer.error is not None:
                self._refuse(number, answer.error)
                continue
            if done is not None and answer.stream.stopped is None:
                answer.text.append(answer.stream.finish())
            part = self._part(number, answer, done)
            if done is not None or part.text or part.logprobs:
                parts.append(part)
                answer.text, answer.tokens = [], 0
                answer.chosen = [] if part.logprobs else answer.chosen
            if done is not None:
                self._forget(number)
        if parts:
            self.channel.send(messages.Chunks(parts))

    def _part(self, number: int, answer: _Answer, done: Finished | None) -> messages.Part:
        # While text is held back, so are its tokens' probabilities: they would give a stop text away.
        open_text = answer.stream.holding or answer.stream.stopped is not None
        ended = None
        if done is not None:
            assert done.reason in ("stop", "length")
            ended = messages.Ended(
                "stop" if done.reason == "stop" else "length",
                answer.stream.stopped,
                done.prompt,
                done.reused,
                done.tokens,
            )
        logprobs = [] if open_text else answer.chosen
        return messages.Part(number, "".join(answer.text), answer.tokens, logprobs, ended)

    def _close(self, expired: tuple[Finished, ...]) -> None:
        for done in expired:
            self._refuse(
                done.sequence,
                DeadlineExceeded(
                    f"the answer was not complete in time; {done.tokens} tokens were generated",
                    hint="ask for fewer tokens, or try again later",
                ),
            )

    def _refuse(self, number: int, error: ApplianceError) -> None:
        self._forget(number)
        self.channel.send(messages.GenerateRefused(number, error.code, error.message, error.hint, error.retry_after_s))

    def _forget(self, number: int) -> None:
        if self.answers.pop(number, None) is not None:
            self.decoder.close(number)


def main() -> None:
    """Isolate, load the model, serve until the socket closes."""
    parser = argparse.ArgumentParser()
    for name in ("--socket", "--parent", "--message-bytes-max"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--gpu-pack", type=Path)
    arguments = parser.parse_args()
    # The socket object is made first: where isolation has to fall back on an audit hook, it refuses making any.
    channel = WorkerChannel(
        socket.socket(fileno=arguments.socket), arguments.message_bytes_max, decode=messages.decode_command
    )
    gpu = GpuAttempt(arguments.gpu_pack)
    verdict = isolate(arguments.parent, (arguments.socket,), between=None if gpu.folder is None else gpu.load)
    with until_the_server_goes():
        start = channel.receive(wait=True)
        if not isinstance(start, messages.StartDecoder):
            raise protocol.ProtocolError("the first command is not a start")
        try:
            decoder = _open_decoder(start, gpu.refused or start.gpu_refused)
        except ApplianceError as error:
            channel.send(protocol.StartRefused(error.code, error.message, error.hint))
            return
        channel.send(_ready(decoder, verdict))
        worker = GenerationWorker(channel, decoder, start)
        while True:
            worker.step()


def _open_decoder(start: messages.StartDecoder, gpu_refused: str) -> Decoder:
    path = Path(start.path)
    with open_checked(path, start.sha256) as file:
        if start.backend == "echo":
            return EchoDecoder(slots=start.slots, context_tokens=start.context_tokens)
        header = read_header(path)
        if header.chat_template is not None:
            ChatTemplate(header.chat_template, bos="", eos="")  # refused now rather than with the first chat
        context_tokens = min(start.context_tokens, header.positions)
        need = estimate(header, slots=start.slots, context_tokens=context_tokens, step_tokens=start.step_tokens)
        mebibytes = [part // 1024**2 for part in (need.weights, need.cache, need.compute)]
        parts = "weights {}, keys and values {}, buffers {} MiB".format(*mebibytes)
        check_memory(need.total, start.memory_bytes_max, f"the model {path.name} ({parts})", section="generation")
        return LlamaDecoder.open_model(
            descriptor_path(file, path),
            header,
            need,
            slots=start.slots,
            context_tokens=context_tokens,
            step_tokens=start.step_tokens,
            threads=start.threads,
            layers_on_gpu=start.gpu_layers,
            gpu_refused=gpu_refused,
        )


def _ready(decoder: Decoder, verdict: IsolationVerdict) -> messages.DecoderReady:
    facts = decoder.facts
    return messages.DecoderReady(
        architecture=facts.architecture,
        vocabulary=facts.vocabulary,
        context_tokens=facts.context_tokens,
        chat=facts.chat_template is not None,
        device=facts.device,
        isolation=str(verdict),
        isolated=verdict.kernel,
        memory_bytes=facts.memory_bytes,
        call_form=form_of(facts.chat_template) or "hermes",
    )


def _too_long(size: str, context_tokens: int) -> InputTooLong:
    return InputTooLong(
        f"the prompt has {size}, the model's context takes {context_tokens} tokens with the answer",
        hint="shorten the prompt, or raise generation.context_tokens if the model allows more",
    )


def _not_loaded(key: str) -> SpecialistNotFound:
    return SpecialistNotFound(f"the adapter {key[:12]} is not loaded", hint="load it before it is used")


if __name__ == "__main__":
    main()
