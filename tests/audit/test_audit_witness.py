"""Of two checkpoints of one log that do not agree, a witness cosigns at most one: whatever is sent, killed or put back.

The decision is tried against a log in memory, its forks and every prefix; the folder with real files, and with a
process that dies at each of its system calls.
"""

import base64
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from audit_home import WAIT_S
from hypothesis import given, settings
from hypothesis import strategies as st
from witness_log import ORIGIN, SEED, SmallLog

from appliance.audit import witness_folder
from appliance.audit.checkpoint import Checkpoint, checkpoint_text
from appliance.audit.witness import (
    SUBMISSION_BYTES_MAX,
    Answer,
    Verdict,
    Witness,
    contradicts,
    decide,
    format_submission,
    parse_submission,
    tree_head,
)
from appliance.audit.witness_folder import add_log, create_witness, open_witness, read_journal, read_state
from appliance.crypto.cosignature import parse_verifier_key, verify_cosignature
from appliance.crypto.merkle import EMPTY_ROOT
from appliance.crypto.note import sign_note, verifier_key
from appliance.crypto.signing import public_key
from appliance.errors import Conflict, HomeError, HomeExists, HomeInUse, HomeNotInitialised, InvalidRequest

NAME = "witness.example/w1"
TRUSTED = [public_key(SEED)]
LOG = SmallLog().grow(40)


def submission(log, old, size, *, proof=None):
    return parse_submission(format_submission(old, log.proof(old, size) if proof is None else proof, log.note(size)))


def head(log, size):
    return Checkpoint(log.origin, size, log.root(size))


@given(st.integers(0, 40), st.integers(0, 40))
def test_every_prefix_is_continued_by_every_longer_tree_and_by_itself(old, size):
    old, size = sorted((old, size))
    known = head(LOG, old) if old else None
    assert decide(submission(LOG, old, size), TRUSTED, known) == Verdict.COSIGNED


@given(st.integers(1, 39), st.integers(1, 30), st.data())
def test_no_tree_of_another_history_is_cosigned_with_any_proof(shared, more, data):
    fork = LOG.fork(shared - 1).grow(more, "other")
    known = head(LOG, data.draw(st.integers(shared, 40)))
    size = len(fork.leaves)
    for old in {known.size, min(known.size, size), data.draw(st.integers(0, 40))}:
        proofs = [[], [fork.leaves[0]] * 3]
        if 0 < old <= size:
            proofs.append(fork.proof(old, size))
        if 0 < old <= 40:
            proofs.append(LOG.proof(old, 40))
        for proof in proofs:
            assert decide(submission(fork, old, size, proof=proof), TRUSTED, known) != Verdict.COSIGNED


def test_verdicts_follow_the_order_of_the_specification():
    known, other = head(LOG, 20), SmallLog(seed=bytes(32)).grow(30)
    assert decide(submission(LOG, 20, 30), [], known) == Verdict.UNKNOWN_LOG
    assert decide(submission(other, 20, 30), TRUSTED, known) == Verdict.UNTRUSTED
    assert decide(submission(LOG, 31, 30, proof=[]), TRUSTED, known) == Verdict.MALFORMED
    assert decide(submission(LOG, 19, 30), TRUSTED, known) == Verdict.CONFLICT
    assert decide(submission(LOG, 0, 30), TRUSTED, known) == Verdict.CONFLICT
    assert decide(submission(LOG, 20, 30, proof=LOG.proof(19, 30)), TRUSTED, known) == Verdict.INCONSISTENT
    assert decide(submission(LOG, 20, 20, proof=LOG.proof(19, 20)), TRUSTED, known) == Verdict.INCONSISTENT
    assert decide(submission(LOG, 0, 30, proof=LOG.proof(1, 30)), TRUSTED, None) == Verdict.INCONSISTENT
    empty = parse_submission(format_submission(0, [], sign_note(checkpoint_text(ORIGIN, 0, bytes(32)), ORIGIN, SEED)))
    assert decide(empty, TRUSTED, None) == Verdict.INCONSISTENT
    assert decide(submission(SmallLog(), 0, 0), TRUSTED, None) == Verdict.COSIGNED
    assert SmallLog().root(0) == EMPTY_ROOT


def test_a_second_tree_of_one_size_is_evidence_whatever_its_old_size_says():
    fork, known = LOG.fork(10).grow(10, "other"), head(LOG, 20)
    for old in (0, 5, 20):
        offered = submission(fork, old, 20, proof=[] if old in (0, 20) else None)
        verdict = decide(offered, TRUSTED, known)
        assert verdict == (Verdict.INCONSISTENT if old == 20 else Verdict.CONFLICT)
        assert contradicts(offered, verdict, known)
    behind = submission(LOG, 0, 12)
    assert not contradicts(behind, decide(behind, TRUSTED, known), known)


def test_a_log_that_rotates_its_key_is_trusted_by_either_and_failed_by_a_bad_line_of_either():
    new = SmallLog(LOG.leaves, seed=bytes([7] * 32))
    keys = [*TRUSTED, public_key(new.seed)]
    text = checkpoint_text(ORIGIN, 20, LOG.root(20))
    lines = [signer.note(20).removeprefix(f"{text}\n") for signer in (LOG, new)]
    bad = new.note(19).split("\n\n")[1]
    for body, verdict in ((lines[0] + lines[1], "cosigned"), (lines[1], "cosigned"), (lines[0] + bad, "untrusted")):
        offered = parse_submission(format_submission(0, [], f"{text}\n{body}"))
        assert decide(offered, keys, None) == verdict


def test_extension_lines_of_other_peoples_logs_are_cosigned_with_the_rest():
    text = checkpoint_text(ORIGIN, 20, LOG.root(20)) + "extension\n"
    offered = parse_submission(format_submission(0, [], sign_note(text, ORIGIN, SEED)))
    assert (offered.head, offered.text) == (head(LOG, 20), text)
    with pytest.raises(ValueError):
        tree_head(checkpoint_text(ORIGIN, 20, LOG.root(20)) + "\nextension\n")


def test_a_submission_is_what_the_specification_shows():
    body = format_submission(16, LOG.proof(16, 17), LOG.note(17))
    lines = body.decode().split("\n")
    assert lines[0] == "old 16"
    assert lines[2] == ""
    assert base64.b64decode(lines[1]) == LOG.leaves[16]
    assert lines[3:6] == [ORIGIN, "17", base64.b64encode(LOG.root(17)).decode()]
    assert parse_submission(body).proof == tuple(LOG.proof(16, 17))


PLAIN = format_submission(16, LOG.proof(16, 17), LOG.note(17))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0",
        b"old 0\n\n",
        PLAIN.replace(b"old 16", b"old 016"),
        PLAIN.replace(b"old 16", b"old +16"),
        PLAIN.replace(b"old 16", b"old 9223372036854775808"),
        PLAIN.replace(b"old 16", b"old " + "١٦".encode()),
        PLAIN.replace(b"old 16", b"OLD 16"),
        PLAIN.replace(b"old 16\n", b"old 16\r\n"),
        PLAIN.replace(b"old 16\n", b"old 16\nAAAA\n"),
        PLAIN.replace(b"old 16\n", b"old 16\n" + base64.b64encode(bytes(32)) + b"\n" * 1 + b"=\n"),
        format_submission(16, [bytes(32)] * 64, LOG.note(17)),
        PLAIN[:-1],
        PLAIN + b"\n",
        PLAIN.replace(b"\n17\n", b"\n017\n"),
        PLAIN + "— w.example/1 AAAAAAAA\n".encode() * 200,
        b"\xff" + PLAIN,
        PLAIN + b"x" * SUBMISSION_BYTES_MAX,
    ],
)
def test_other_forms_are_malformed(body):
    with pytest.raises(ValueError):
        parse_submission(body)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_noise_is_malformed_or_parses_to_what_it_says(noise):
    for body in (noise, PLAIN[: len(noise)] + noise + PLAIN[len(noise) :]):
        try:
            parsed = parse_submission(body)
        except ValueError:
            continue
        assert format_submission(parsed.old, parsed.proof, parsed.note) == body


# --- the folder -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "witness"
    create_witness(path, NAME)
    add_log(path, LOG.key)
    return path


def ask(folder, log, old, size, proof=None, time_s=1_800_000_000.0):
    with open_witness(folder) as kept:
        witness = Witness(kept, clock=lambda: time_s)
        return witness.submit(format_submission(old, log.proof(old, size) if proof is None else proof, log.note(size)))


def test_a_cosignature_verifies_and_the_head_outlives_the_process(folder):
    answer = ask(folder, LOG, 0, 20)
    assert answer.verdict == Verdict.COSIGNED
    name, public = parse_verifier_key(witness_folder.read_identity(folder).verifier_key)
    found = verify_cosignature(LOG.note(20) + answer.cosignature, name, public)
    assert (name, found.time_s) == (NAME, 1_800_000_000)
    assert ask(folder, LOG, 0, 30).known == 20
    assert ask(folder, LOG, 20, 20).verdict == Verdict.COSIGNED
    assert ask(folder, LOG, 20, 30).verdict == Verdict.COSIGNED
    assert ask(folder, LOG, 0, 20) == Answer(Verdict.CONFLICT, 30)


def test_a_split_view_is_refused_and_both_notes_are_kept(folder):
    fork = LOG.fork(15).grow(5, "other")
    ask(folder, LOG, 0, 20)
    assert ask(folder, fork, 0, 20).verdict == Verdict.CONFLICT
    assert ask(folder, fork, 20, 20, proof=[]).verdict == Verdict.INCONSISTENT
    evidence = sorted((folder / "evidence").iterdir())
    assert [path.name.split(".")[1] for path in evidence] == ["cosigned", "refused"]
    assert [path.read_text() for path in evidence] == [LOG.note(20), fork.note(20)]
    assert [entry.verdict for entry in read_journal(folder)] == ["cosigned", "conflict", "inconsistent"]
    assert ask(folder, LOG, 20, 30).verdict == Verdict.COSIGNED


def test_strangers_are_noted_apart(folder):
    stranger = SmallLog(origin="stranger.example/log", seed=bytes(32)).grow(3)
    forged = SmallLog(LOG.leaves, seed=bytes(32))
    assert ask(folder, stranger, 0, 3).verdict == Verdict.UNKNOWN_LOG
    assert ask(folder, forged, 0, 3).verdict == Verdict.UNTRUSTED
    assert list(read_journal(folder)) == []
    assert [entry.verdict for entry in read_journal(folder, "strangers")] == ["unknown_log", "untrusted"]


def test_the_journal_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(witness_folder, "JOURNAL_BYTES_MAX", 2000)
    with open_witness(folder) as kept:
        witness = Witness(kept)
        body = format_submission(5, [], LOG.note(5))
        for _ in range(200):
            assert witness.submit(body).verdict == Verdict.CONFLICT
    assert sum(path.stat().st_size for path in folder.glob("journal*")) < 2300 * (witness_folder.JOURNALS_KEPT + 1)
    assert len(list(read_journal(folder))) > 50


def test_only_one_process_holds_a_witness(folder):
    with open_witness(folder), pytest.raises(HomeInUse), open_witness(folder):
        pass


def test_a_witness_without_its_state_is_retired(folder):
    ask(folder, LOG, 0, 20)
    older = (folder / "state.json").read_bytes()
    ask(folder, LOG, 20, 30)
    (folder / "state.json").write_bytes(older)
    with pytest.raises(HomeError, match="put back to an older one") as refused:
        read_state(folder)
    assert "retire this witness" in refused.value.hint
    for damage in (b"{}\n", b"", b'{"x":1}'):
        (folder / "state.json").write_bytes(damage)
        with pytest.raises(HomeError), open_witness(folder):
            pass
    (folder / "state.json").unlink()
    with pytest.raises(HomeError, match="is missing"), open_witness(folder):
        pass


def test_key_and_folder_are_its_own(folder, tmp_path, home):
    assert (folder / "witness.key").stat().st_mode & 0o777 == 0o400
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(HomeExists):
        create_witness(folder, NAME)
    with pytest.raises(InvalidRequest):
        create_witness(tmp_path / "other", "two words")
    (home.root / "home.json").write_text("{}")
    with pytest.raises(HomeError, match="data folder of an appliance"):
        create_witness(home.root / "witness", NAME)
    with pytest.raises(HomeNotInitialised):
        read_state_of_nothing(tmp_path / "nothing")
    (folder / "witness.key").chmod(0o440)
    with pytest.raises(HomeError, match="readable by others"), open_witness(folder):
        pass
    (folder / "witness.key").unlink()
    (folder / "witness.key").write_bytes(base64.b64encode(bytes(32)))
    (folder / "witness.key").chmod(0o400)
    with pytest.raises(HomeError, match="not the key of"), open_witness(folder):
        pass


def read_state_of_nothing(folder):
    with open_witness(folder):
        pass


def test_logs_are_known_explicitly_and_without_a_restart(folder):
    other = SmallLog(origin="other.example/log").grow(4)
    with open_witness(folder) as kept:
        witness = Witness(kept)
        body = format_submission(0, [], other.note())
        assert witness.submit(body).verdict == Verdict.UNKNOWN_LOG
        assert add_log(folder, other.key) == add_log(folder, f" {other.key}\n") == "other.example/log"
        assert witness.submit(body).verdict == Verdict.COSIGNED
    own_key = parse_verifier_key(witness_folder.read_identity(folder).verifier_key)[1]
    for bad in ("", "a+b+c", witness_folder.read_identity(folder).verifier_key, verifier_key("x", own_key)):
        with pytest.raises(InvalidRequest):
            add_log(folder, bad)
    with pytest.raises(Conflict):
        for number in range(witness_folder.KEYS_PER_LOG_MAX + 1):
            add_log(folder, SmallLog(seed=bytes([number] * 32)).key)


def test_two_threads_with_two_histories_get_one_cosignature_for_each_size(folder):
    fork = LOG.fork(0).grow(40, "other")
    cosigned: list[tuple[int, bytes]] = []
    with open_witness(folder) as kept:
        witness = Witness(kept)

        def push(log, seed):
            picks = random.Random(seed)
            known = 0
            for _ in range(30):
                size = picks.randrange(max(known, 1), 41)
                answer = witness.submit(format_submission(known, log.proof(known, size), log.note(size)))
                known = answer.known
                if answer.verdict == Verdict.COSIGNED:
                    cosigned.append((size, log.root(size)))
                    known = size

        threads = [threading.Thread(target=push, args=(log, seed)) for seed, log in enumerate((LOG, fork, LOG))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
    assert cosigned
    histories = {tuple(log.root(size) for size, _ in cosigned) for log in (LOG, fork)}
    assert tuple(root for _, root in cosigned) in histories


DYING = """
import os, sys
sys.path[:0] = sys.argv[4].split(os.pathsep)
from pathlib import Path
from appliance.audit import witness_folder
from appliance.audit.witness import Witness
left = [int(sys.argv[2])]
def dying(call):
    def step(*arguments, **keywords):
        left[0] -= 1
        if left[0] < 0:
            os._exit(99)
        return call(*arguments, **keywords)
    return step
with witness_folder.open_witness(Path(sys.argv[1])) as kept:
    witness = Witness(kept, clock=lambda: 1_800_000_000.0)
    for name in ("open", "write", "fsync", "close"):
        setattr(os, name, dying(getattr(os, name)))
    Path.replace = dying(Path.replace)
    answer = witness.submit(Path(sys.argv[3]).read_bytes())
    sys.stdout.write(answer.cosignature)
    sys.stdout.flush()
    os._exit(0)
"""


def test_whatever_left_the_machine_is_remembered_when_the_process_dies_at_any_step(folder, tmp_path):
    """The process ends before its n-th system call on files, for every n; then another history is offered."""
    body = tmp_path / "body"
    body.write_bytes(format_submission(0, [], LOG.note(20)))
    template = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    fork = LOG.fork(5).grow(20, "other")
    outcomes = set()
    for step in range(40):
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()
        for name, content in template.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o400 if name == "witness.key" else 0o600)
        arguments = [str(folder), str(step), str(body), os.pathsep.join(sys.path)]
        done = subprocess.run(
            [sys.executable, "-c", DYING, *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode in (0, 99), done.stderr
        answer = ask(folder, fork, 0, 25)
        if done.stdout:
            assert answer.verdict == Verdict.CONFLICT
        assert json.loads((folder / "state.json").read_bytes())
        outcomes.add((bool(done.stdout), str(answer.verdict)))
        if done.returncode == 0:
            break
    assert (False, "cosigned") in outcomes
    assert (False, "conflict") in outcomes
    assert (True, "conflict") in outcomes
