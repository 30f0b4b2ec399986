"""Makes the test kit for verifiers: small logs with one failure each, and what a verifier must say about them.

    python tests/audit/testkit/make_testkit.py          # writes vectors.json and files/ beside this file

Everything follows from fixed keys and numbers, so that a second run gives the same bytes. `audit_bundle.py`, which
builds the logs, imports nothing from the appliance. How to run another verifier on them: `README.md`.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from audit_bundle import (  # noqa: E402 - the folder above is not a package
    ORIGIN,
    SEED,
    Log,
    Record,
    b64,
    canonical,
    cosigned,
    genesis_body,
    key_id,
    make_record,
    note,
    public_of,
    scope_id,
    sha256,
    signature_line,
    verifier_key,
    witness_key,
)

NEW_SEED = sha256(b"the key after the rotation")
WITNESSES = {f"witness.example/w{n}": sha256(b"witness %d" % n) for n in (1, 2)}
W1, W2 = WITNESSES
NOW = 1_767_300_000
SIZE = 14
E2 = ORIGIN.removesuffix("e1") + "e2"
ENV_KEY, CON_KEY = sha256(b"the key of envelopes"), sha256(b"the key of contents")
SUBJECT = sha256(b"a subject")[:16].hex()
HOLD = "00112233aabbccdd"


class Kit:
    """The vectors and the files that they name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.vectors: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        about: str,
        code: int,
        given: Log | dict[str, bytes] | bytes | list[Log],
        *more: str,
        bad: int | None = None,
        trusted: tuple[str, ...] | None = None,
        pub: tuple[str, ...] = (verifier_key(),),
        receipts: tuple[str, ...] = (),
        needs: str = "",
    ) -> None:
        """One vector. `trusted` None: the head of the log as it was before the change (`TRUSTED`)."""
        inputs = []
        for number, one in enumerate(given if isinstance(given, list) else [given]):
            suffix = "" if number == 0 else f"-{number + 1}"
            is_proof = isinstance(one, bytes) and one.startswith(b"c2sp.org/tlog-proof")
            inputs.append(self.file(f"{name}{suffix}.{'tlog-proof' if is_proof else 'zip'}", content_of(one)))
        arguments = [piece for key in pub for piece in ("--pub", key)]
        for text in TRUSTED if trusted is None else trusted:
            arguments += ["--trusted", "@" + self.shared("note", text.encode())]
        for number, text in enumerate(receipts):
            self.files[f"{name}.receipts/{number}.tlog-proof"] = text.encode()
        if receipts:
            arguments += ["--receipts", f"@files/{name}.receipts"]
        vector = {"name": name, "about": about, "inputs": inputs, "arguments": [*arguments, *more], "exit_code": code}
        self.vectors.append({**vector, "first_bad_seq": bad} | ({"needs": needs} if needs else {}))

    def file(self, name: str, content: bytes) -> str:
        """A file of the kit; equal ones are stored once."""
        for known, stored in self.files.items():
            if stored == content and Path(known).suffix == Path(name).suffix and "/" not in known:
                return f"files/{known}"
        self.files[name] = content
        return f"files/{name}"

    def shared(self, kind: str, content: bytes) -> str:
        """A small file under a name that says what is in it."""
        return self.file(f"{kind}-{sha256(content)[:4].hex()}.txt", content)


def content_of(given: Log | dict[str, bytes] | bytes) -> bytes:
    """A bundle as a zip file; bytes are taken as they are."""
    return given if isinstance(given, bytes) else zipped(given.files() if isinstance(given, Log) else given)


def zipped(files: dict[str, bytes]) -> bytes:
    """Stored, without dates: the same on every machine."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            archive.writestr(info, content)
    return packed.getvalue()


def flipped(content: bytes, at: int, bit: int = 0) -> bytes:
    """One bit changed."""
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def edited(changes: dict[str, bytes | None], log: Log | None = None) -> dict[str, bytes]:
    """The files of a log with some replaced or, None, left out."""
    files = (log or Log.of(SIZE)).files() | {name: content for name, content in changes.items() if content is not None}
    return {name: content for name, content in files.items() if changes.get(name, b"") is not None}


def control(event: str, **fields: object) -> bytes:
    """The body of a control record."""
    return canonical(v=1, event=event, **fields)


def with_bodies(bodies: dict[int, bytes], gone: dict[int, str], *, size: int = SIZE, scopes: int = 3) -> Log:
    """A signed log with these control records, some parts of it destroyed: {number: "con", "env" or "all"}."""
    log = Log.of(size, bodies=bodies, scopes=scopes)
    for seq, parts in gone.items():
        if parts in ("con", "all"):
            log.records[seq].con = None
        if parts in ("env", "all"):
            log.records[seq].env = None
    return log


def changed(change: Callable[[Log], object], size: int = SIZE) -> Log:
    """A log after `change`, and signed afterwards."""
    log = Log.of(size)
    change(log)
    return log


TRUSTED = (Log.of(SIZE).head(),)
ENTRIES = f"tile/entries/000.p/{SIZE}"
LEAVES = f"tile/0/000.p/{SIZE}"


def intact(kit: Kit) -> None:
    """Nothing is wrong, or nothing that decides."""
    log = Log.of(SIZE)
    kit.add("intact", "every record as it was signed, with a checkpoint kept outside", 0, log)
    kit.add("not-anchored", "the same without anything from outside", 16, log, trusted=())
    kit.add("older-anchor", "anchored by an older checkpoint", 0, log, trusted=(log.head(5),))
    kept = Log.of(SIZE)
    kept.kept = [log.head(3), log.head(9)]
    kit.add("kept-checkpoints", "with two kept checkpoints", 0, kept)
    kit.add("without-ciphertexts", "sealed parts were left out on purpose", 0, log.files(ciphertexts=False))
    big = Log.of(258)
    kit.add("two-groups", "258 records: a full tile, a partial one, a second level", 0,
            big.files(ciphertexts=False), trusted=(big.head(), big.head(256)))  # fmt: skip
    stranger = signature_line(log.head().split("\n\n")[0] + "\n", "stranger.example/log", NEW_SEED)
    log.note = log.head() + stranger
    kit.add("unknown-signer", "an unknown signer's line beside the log's", 0, log)
    extra = edited({"notes/readme.txt": b"not of the format\n"})
    kit.add("extra-file", "a file that is not part of the format", 30, extra)
    one = Log.of(1)
    kit.add("one-record", "a log of one record", 0, one, trusted=(one.head(),))


def altered(kit: Kit) -> None:
    """T1, T2, T4: evidence was changed."""
    log = Log.of(SIZE)
    files = log.files()
    fields = {"magic": 3, "log_id": 11, "seq": 19, "t_commit_ms": 27, "class": 28, "month": 30, "kind": 31,
              "record_id": 47, "env_key": 63, "con_scope": 79, "env_nonce": 103, "con_nonce": 127, "env_length": 131,
              "con_length": 135, "env_sha256": 167, "con_sha256": 199}  # fmt: skip
    for name, offset in fields.items():
        at = 6 * 202 + 2 + offset
        content = {ENTRIES: flipped(files[ENTRIES], at, 7 if name == "t_commit_ms" else 0)}
        kit.add(f"header-{name}", f"one bit of {name} in the header of record 6", 10, edited(content), bad=6)
    kit.add("entry-length", "the length in front of the header of record 6", 10,
            edited({ENTRIES: flipped(files[ENTRIES], 6 * 202 + 1)}), bad=6)  # fmt: skip
    content = {ENTRIES: flipped(files[ENTRIES], 6 * 202)}
    kit.add("entry-length-high", "the first byte in front of the header of record 6", 10, edited(content), bad=6)
    kit.add("leaf-hash", "the leaf hash of record 6", 10, edited({LEAVES: flipped(files[LEAVES], 6 * 32)}), bad=6)
    sealed = files["ciphertexts/000"]
    for part, what in ((log.records[6].env, "envelope"), (log.records[6].con, "content")):
        at = sealed.index(part or b"?")
        kit.add(f"{what}", f"one bit of the {what} of record 6", 10,
                edited({"ciphertexts/000": flipped(sealed, at)}), bad=6)  # fmt: skip
    at = sealed.index(log.records[6].env or b"?") - 13
    for name, offset, bit in (("seq", 7, 0), ("part", 8, 0), ("part-unknown", 8, 2), ("length", 12, 1)):
        content = {"ciphertexts/000": flipped(sealed, at + offset, bit)}
        code, bad = (10, 6)
        kit.add(f"part-{name}" if name != "part-unknown" else name, f"the {name} in front of a sealed part of record 6",
                code, edited(content), bad=bad)  # fmt: skip
    body = files["public/000"]
    kit.add("public-body", "one bit of the body of public record 1", 10,
            edited({"public/000": flipped(body, len(body) - 3)}), bad=1)  # fmt: skip
    swapped = log.copy()
    swapped.records[5], swapped.records[9] = swapped.records[9], swapped.records[5]
    swapped.renumber()
    kit.add("swapped", "T2: records 5 and 9 in each other's place, renumbered", 10,
            edited({ENTRIES: swapped.files()[ENTRIES]}), bad=5)  # fmt: skip
    gap = files[ENTRIES][: 8 * 202] + files[ENTRIES][9 * 202 :]
    kit.add("deleted", "T4: the header of record 8 is gone", 10, edited({ENTRIES: gap}), bad=8)
    kit.add("cut-header", "the last header is cut short", 10, edited({ENTRIES: files[ENTRIES][:-1]}), bad=13)
    kit.add("more-headers", "one header too many", 10, edited({ENTRIES: files[ENTRIES] + files[ENTRIES][:202]}), bad=13)
    for name, path, bad in (("no-headers", ENTRIES, 0), ("no-leaves", LEAVES, 0), ("no-public", "public/000", 0)):
        kit.add(name, f"{path} is missing", 10, edited({path: None}), bad=bad)
    extra = struct.pack(">QBI", 3, 2, 3) + b"???"
    at = sealed.index(struct.pack(">QBI", 4, 1, 20))
    kit.add("unannounced-content", "a content that the header of record 3 does not know", 10,
            edited({"ciphertexts/000": sealed[:at] + extra + sealed[at:]}), bad=4)  # fmt: skip
    kit.add("trailing-part", "something follows the last sealed part", 10,
            edited({"ciphertexts/000": sealed + struct.pack(">QBI", 13, 2, 1) + b"?"}), bad=13)  # fmt: skip
    kit.add("beyond-the-end", "a group of records that no checkpoint counts", 10,
            edited({"tile/entries/000": files[ENTRIES], "ciphertexts/007": b"x"}))  # fmt: skip
    forged = {"log_id": bytes(8), "kind": 3, "env_key": bytes(16), "con_sha256": bytes(32), "t_commit_ms": 2**63}
    for name, value in forged.items():
        bad_log = changed(lambda log, name=name, value=value: log.records[5].fields.update({name: value}))
        kit.add(f"signed-{name}", f"a header that no writer makes ({name}), signed", 10, bad_log, bad=5,
                trusted=(bad_log.head(),))  # fmt: skip
    unlawful: dict[str, tuple[int, dict[str, object]]] = {
        "content-nonce": (5, {"con_nonce": b"\x01" * 24}),
        "content-length": (5, {"con_length": 5}),
        "content-of-nothing": (5, {"con_scope": scope_id(0)}),
        "no-envelope": (5, {"env_length": 0, "env_sha256": sha256()}),
        "public-class": (1, {"class": 1}),
        "public-month": (1, {"month": 1}),
        "public-key": (1, {"env_key": scope_id(0)}),
        "public-nonce": (1, {"env_nonce": b"\x01" * 24}),
        "public-content": (1, {"con_scope": scope_id(0), "con_length": 1}),
        "other-magic": (5, {}),
    }
    for name, (seq, values) in unlawful.items():
        bad_log = changed(lambda log, seq=seq, values=values: log.records[seq].fields.update(values))
        if name == "other-magic":
            bad_log.records[5].magic = b"AUD2"
        kit.add(f"unlawful-{name}", f"a header that no writer makes ({name}), signed", 10, bad_log, bad=seq,
                trusted=(bad_log.head(),))  # fmt: skip
    no_genesis = changed(lambda log: log.records.__setitem__(0, make_record(0)))
    kit.add("no-genesis", "record 0 is sealed, signed", 10, no_genesis, bad=0, trusted=(no_genesis.head(),))
    foreign = changed(lambda log: log.records.__setitem__(0, make_record(0, body=genesis_body(E2))))
    kit.add("foreign-genesis", "record 0 is another log's genesis, signed", 10, foreign, bad=0,
            trusted=(foreign.head(),))  # fmt: skip
    late = changed(lambda log: log.records[6].fields.update(t_commit_ms=log.records[5].fields["t_commit_ms"] - 1))
    kit.add("clock", "T25: record 6 was committed before record 5, signed", 15, late, bad=6, trusted=(late.head(),))


def rewritten(kit: Kit) -> None:
    """T3, T5 to T7, T9, T10, T12: a consistent log that is not the one of before."""
    genuine = Log.of(SIZE)

    def moved(log: Log) -> None:
        log.records[8].con = log.records[4].con
        log.records[8].rehash()

    def deleted(log: Log) -> None:
        del log.records[7]
        log.renumber()

    def inserted(log: Log) -> None:
        log.records.insert(7, make_record(99))
        log.records[7].fields["t_commit_ms"] = log.records[6].fields["t_commit_ms"]
        log.records.pop()
        log.renumber()

    for name, change in (("moved", moved), ("removed", deleted), ("inserted", inserted)):
        log = changed(change)
        kit.add(f"{name}-signed", f"{name}, all recomputed and signed with the real key", 12, log,
                trusted=(genuine.head(12),))  # fmt: skip
        kit.add(f"{name}-signed-unanchored", "the same, nothing from outside", 16, log, trusted=())
        log = changed(change)
        log.note = genuine.head(min(SIZE, len(log.records)))
        kit.add(f"{name}-unsigned", f"{name}, all recomputed under an older genuine signature", 13, log, trusted=())
        kit.add(f"{name}-unsigned-anchored", "the same, with a checkpoint kept outside", 12, log,
                trusted=(genuine.head(12),))  # fmt: skip
    cut = changed(lambda log: log.records.__delitem__(slice(10, None)))
    kit.add("cut", "T9: the last four records cut off, an older genuine head", 11, cut, bad=10)
    kit.add("receipt-ok", "a receipt of record 6", 0, genuine, trusted=(), receipts=(genuine.receipt(6, 9),))
    kit.add("receipt-later", "T10: a receipt that is newer than the copy", 11, cut, bad=10, trusted=(),
            receipts=(genuine.receipt(6),))  # fmt: skip
    story = changed(lambda log: setattr(log.records[7], "env", b"a different story"))
    story.records[7].rehash()
    kit.add("receipt-contradicts", "record 7 was rewritten and all signed; its receipt was kept", 12, story, bad=7,
            trusted=(), receipts=(genuine.receipt(7),))  # fmt: skip
    kit.add("two-heads", "T12: two signed heads of one size", 12, genuine, trusted=(genuine.head(), story.head()))
    kit.add("two-heads-beyond", "T12: the same, of a size that the copy does not have", 12, cut,
            trusted=(genuine.head(), story.head()))  # fmt: skip
    kept = Log.of(SIZE)
    kept.kept = [story.head(9)]
    kit.add("kept-contradicts", "a kept checkpoint that the records do not lead to", 13, kept)
    kept = Log.of(SIZE)
    kept.kept = [genuine.head(9), genuine.head(4)]
    kit.add("kept-disordered", "kept checkpoints out of order", 10, kept)
    kept = changed(lambda log: log.records.__delitem__(slice(10, None)))
    kept.kept = [genuine.head(12)]
    kit.add("kept-beyond", "the log itself kept a checkpoint of more records than there are", 11, kept, bad=10,
            trusted=(genuine.head(5),))  # fmt: skip


def signatures(kit: Kit) -> None:
    """Notes and the keys under them."""
    log = Log.of(SIZE)
    head = log.head()
    root = head.split("\n")[2]
    for name, wrong in (
        ("root", head.replace(root, b64(bytes(32)))),
        ("size", head.replace("\n14\n", "\n13\n")),
        ("origin", head.replace("clinic", "client", 1)),
        ("signature", head[:-10] + ("A" if head[-10] != "A" else "B") + head[-9:]),
    ):
        kit.add(f"checkpoint-{name}", f"the {name} of the checkpoint was changed", 13,
                edited({"checkpoint": wrong.encode()}))  # fmt: skip
    material = base64.b64decode(head.split(" ")[-1])
    order = 2**252 + 27742317777372353535851937790883648493
    beyond = (int.from_bytes(material[36:], "little") + order).to_bytes(32, "little")
    for name, wrong_material in (("short", material[:-1]), ("beyond-the-order", material[:36] + beyond)):
        wrong = head.replace(b64(material), b64(wrong_material))
        kit.add(f"signature-{name}", f"a signature that is {name}", 13, edited({"checkpoint": wrong.encode()}))
    kit.add("kept-no-note", "a kept note that is not one", 13,
            edited({"checkpoints.jsonl": canonical(note="text\n") + b"\n"}))  # fmt: skip
    kit.add("no-checkpoint", "the checkpoint is missing", 13, edited({"checkpoint": None}))
    kit.add("other-key", "another key of the same name is given", 13, log, trusted=(),
            pub=(verifier_key(seed=NEW_SEED),))  # fmt: skip
    bad = f"— {ORIGIN} {b64(key_id(ORIGIN, public_of(SEED)) + bytes(64))}\n"
    kit.add("good-and-bad", "a good signature and a bad one of the same key", 13,
            edited({"checkpoint": (head + bad).encode()}))  # fmt: skip
    kit.add("carried-key", "the bundle carries another verifier key", 13,
            edited({"verifier-key": verifier_key(seed=NEW_SEED).encode() + b"\n"}))  # fmt: skip
    broken = Log.of(SIZE)
    broken.kept = [log.head(5)[:-10] + ("A" if log.head(5)[-10] != "A" else "B") + log.head(5)[-9:]]
    kit.add("kept-signature", "the signature of a kept checkpoint was changed", 13, broken)

    rotation = control("key.rotate", old=public_of(SEED).hex(), new=public_of(NEW_SEED).hex(), reason="scheduled")
    both = (verifier_key(), verifier_key(seed=NEW_SEED))
    rotated = Log.of(SIZE, bodies={8: rotation})
    rotated.kept = [rotated.head(5), rotated.head(12, NEW_SEED)]
    rotated.note = rotated.head(seed=NEW_SEED)
    new_files = rotated.files() | {"verifier-key": both[1].encode() + b"\n"}
    trusted = (rotated.head(seed=NEW_SEED),)
    kit.add("rotation-both", "T20: a rotated log with both keys", 0, new_files, pub=both, trusted=trusted)
    kit.add("rotation-new-only", "T20: the newest key alone; the older kept note needs the older key", 13, new_files,
            pub=both[1:], trusted=trusted)  # fmt: skip
    carried = "".join(f"{key}\n" for key in both).encode()
    kit.add("carried-keys", "with the keys that the records name", 0, new_files | {"verifier-keys": carried}, pub=both,
            trusted=trusted)  # fmt: skip
    wrong = carried.replace(both[0].encode(), verifier_key(seed=bytes(32)).encode())
    kit.add("carried-keys-others", "with other keys than the records name", 13, new_files | {"verifier-keys": wrong},
            pub=both, trusted=trusted)  # fmt: skip
    kit.add("rotation-old-only", "T20: the oldest key alone", 13, new_files, pub=both[:1], trusted=())
    dual = Log.of(SIZE, bodies={8: rotation})
    dual.note = dual.head() + dual.head(seed=NEW_SEED).split("\n\n")[1]
    for name, pub in (("old", both[:1]), ("new", both[1:])):
        files = dual.files() | {"verifier-key": pub[0].encode() + b"\n"}
        kit.add(f"dual-{name}", f"two signatures, the {name} key given", 0, files, pub=pub, trusted=(dual.note,))
    spoilt = dual.note[:-10] + ("A" if dual.note[-10] != "A" else "B") + dual.note[-9:]
    kit.add("dual-spoilt", "two signatures of known keys, one of them bad", 13,
            dual.files() | {"checkpoint": spoilt.encode()}, pub=both, trusted=())  # fmt: skip

    def distrusted(after_size: int) -> Log:
        body = control("key.distrust", key=public_of(SEED).hex(), after_size=after_size)
        return Log.of(SIZE, bodies={8: rotation, 9: body})

    log = distrusted(5)
    kit.add("distrusted-head", "the head is signed by a key that the log distrusts from 5 records on", 13, log,
            pub=both, trusted=(log.head(5),))  # fmt: skip
    log.note = log.head(seed=NEW_SEED)
    files = log.files()
    kit.add("distrusted-anchor", "a kept checkpoint beyond what its key is trusted for anchors nothing", 16, files,
            pub=both, trusted=(log.head(12),))  # fmt: skip
    kit.add("distrusted-within", "a kept checkpoint within it does", 0, files, pub=both, trusted=(log.head(5),))
    kit.add("distrusted-forgery", "a forged head by the distrusted key contradicts nothing", 0, files, pub=both,
            trusted=(log.head(5), note(12, bytes(32))))  # fmt: skip
    loose = Log.of(SIZE, bodies={8: control("key.distrust", key=public_of(SEED).hex(), after_size="5")})
    kit.add("distrusted-as-text", "a distrust whose size is text says nothing", 0, loose, trusted=(loose.head(),))
    log = distrusted(12)
    log.note = log.head(seed=NEW_SEED)
    kit.add("distrusted-still-forks", "a head within what the key is trusted for contradicts", 12, log.files(),
            pub=both, trusted=(note(12, bytes(32)),))  # fmt: skip


def destruction(kit: Kit) -> None:
    """T8, T21 to T23: absent ciphertexts, tombstones, purges, shreds, holds."""
    for seq, part in ((6, "con"), (6, "env"), (7, "env")):
        log = with_bodies({}, {seq: part}, scopes=0)
        kit.add(f"gone-{part}-{seq}", f"T8: {part} of record {seq} is gone", 14, log, bad=seq)

    def add(name: str, about: str, code: int, bodies: dict[int, bytes], gone: dict[int, str], bad: int | None = None):
        log = with_bodies(bodies, gone)
        kit.add(name, about, code, log, trusted=(log.head(),), bad=bad)

    def stone(**fields: object) -> bytes:
        return control("tombstone", **({"parts": "content", "reason": "retention", "approvals": "a,b"} | fields))

    add("tombstone", "T8: under a tombstone", 2, {11: stone(seqs="4-7")}, {4: "con", 6: "con"})
    add("tombstone-all", "envelopes too", 2, {11: stone(seqs="4,6-7", parts="all")}, {4: "all", 6: "con", 7: "env"})
    add("tombstone-two", "two tombstones", 2, {10: stone(seqs="4"), 11: stone(seqs="6-9")}, {4: "con", 8: "con"})
    for name, body in {
        "other-record": stone(seqs="4-5"),
        "itself": stone(seqs="6-11"),
        "unknown-parts": stone(seqs="6", parts="everything"),
        "descending": stone(seqs="7,6"),
        "touching": stone(seqs="5-6,7"),
        "leading-zero": stone(seqs="06"),
        "version-2": canonical(v=2, event="tombstone", parts="content", seqs="6", reason="", approvals=""),
        "not-canonical": stone(seqs="6").replace(b'","', b'", "', 1),
        "twice-a-key": b'{"event":"tombstone","event":"tombstone","parts":"content","seqs":"6","v":1}',
        "nested": b'{"event":"tombstone","parts":"content","seqs":["6"],"v":1}',
    }.items():
        add(f"tombstone-{name}", f"a tombstone that authorises nothing ({name})", 14, {11: body}, {6: "con"}, 6)
    add("tombstone-envelope", "a tombstone of contents, and an envelope is gone", 14, {11: stone(seqs="4-7")},
        {5: "env"}, 5)  # fmt: skip
    add("tombstone-altered", "the tombstone's own body was changed", 10, {11: stone(seqs="4-7")}, {6: "con"}, None)
    files = kit.vectors.pop()
    log = with_bodies({11: stone(seqs="4-7")}, {6: "con"})
    packed = log.files()["public/000"]
    altered_body = {"public/000": packed.replace(b'"reason":"retention"', b'"reason":"retentiom"')}
    kit.add(files["name"], files["about"], 10, edited(altered_body, log), trusted=(log.head(),), bad=11)

    def purge(**fields: object) -> bytes:
        return control("purge", **({"class": 1, "month": 672, "parts": "content", "reason": "retention",
                                    "approvals": "user:3,user:7"} | fields))  # fmt: skip

    every = {4: "con", 6: "con", 8: "con"}
    add("purge", "T23: contents of a class and month under a purge", 2, {11: purge()}, every)
    add("purge-all", "T23: and envelopes", 2, {11: purge(parts="all")}, {4: "all", 5: "env", 9: "env"})
    add("purge-envelope", "a purge of contents, and an envelope is gone", 14, {11: purge()}, {4: "con", 5: "env"}, 5)
    add("purge-other-month", "a purge of another month", 14, {11: purge(month=673)}, {4: "con"}, 4)
    add("purge-other-class", "a purge of another class", 14, {11: purge(**{"class": 2})}, {4: "con"}, 4)
    add("purge-later-record", "a record after the purge", 14, {9: purge()}, {4: "con", 12: "con"}, 12)
    add("purge-parts", "a purge of unknown parts", 14, {11: purge(parts="some")}, {4: "con"}, 4)
    add("purge-text-month", "a purge whose month is text", 14, {11: purge(month="672")}, {4: "con"}, 4)

    def shred(*numbers: int, **fields: object) -> bytes:
        listed = ",".join(sorted(scope_id(number).hex() for number in numbers))
        return control("shred", **({"scopes": listed, "subject": SUBJECT, "grade": "B", "reason": "erasure_request",
                                    "approvals": "user:3"} | fields))  # fmt: skip

    erased = control("erased", authorised_by=11, records=2)
    under_0 = {6: "con"}  # records 6 and 12 have content under scope 0, 4 and 10 under scope 1, 2 and 8 under scope 2
    add("shred", "T21: contents under a shredded key", 2, {11: shred(0)}, under_0)
    add("shred-erased", "T21: the same, finished", 2, {11: shred(1, 2), 13: erased}, {4: "con", 8: "con"})
    add("shred-other-key", "content under another key is gone", 14, {11: shred(1)}, under_0, 6)
    add("shred-envelope", "a shred does not cover envelopes", 14, {11: shred(0)}, {6: "all"}, 6)
    add("shred-later-record", "content under the key, but of a later record", 14, {9: shred(0)}, {12: "con"}, 12)
    backwards = ",".join(sorted((scope_id(n).hex() for n in (0, 1)), reverse=True))
    add("shred-descending", "keys that do not ascend", 14, {11: shred(scopes=backwards)}, under_0, 6)
    add("shred-capitals", "keys in capital letters", 14, {11: shred(scopes=scope_id(0).hex().upper())}, under_0, 6)
    add("shred-nothing", "a shred that names no key", 14, {11: shred(scopes="")}, under_0, 6)

    def hold(**fields: object) -> bytes:
        given = {"hold": HOLD, "scopes": "", "subjects": "", "classes": "", "reason": "litigation"}
        return control("hold.set", **(given | fields))

    release = control("hold.release", hold=HOLD, approvals="user:3,user:7")
    one_scope = hold(scopes=scope_id(0).hex())
    add("hold-key", "T22: a shred of a key under hold", 14, {3: one_scope, 11: shred(0)}, under_0, 6)
    add(
        "hold-subject",
        "T22: a shred of a subject under hold",
        14,
        {3: hold(subjects=SUBJECT), 11: shred(0)},
        under_0,
        6,
    )
    add("hold-class", "T22: a shred of a record whose class is under hold", 14, {3: hold(classes="1,2"), 11: shred(0)},
        under_0, 6)  # fmt: skip
    add("hold-purge", "T22: a purge of a class under hold", 14, {3: hold(classes="1"), 11: purge()}, {4: "con"}, 4)
    add("hold-purge-key", "T22: a purge took a content whose key is under hold", 14, {3: one_scope, 11: purge()},
        {4: "con", 6: "con"}, 6)  # fmt: skip
    add("hold-tombstone", "T22: a tombstone against a hold", 14, {3: one_scope, 11: stone(seqs="4-6")},
        {4: "con", 6: "con"}, 6)  # fmt: skip
    add("hold-announced", "T22: a shred was recorded under a hold, and nothing is gone yet", 14,
        {3: one_scope, 11: shred(0)}, {}, 11)  # fmt: skip
    add("hold-spares", "the purge spared what is under hold", 2, {3: one_scope, 11: purge()}, {4: "con", 8: "con"})
    add("hold-other-key", "a hold of another key", 2, {3: hold(scopes=scope_id(2).hex()), 11: shred(0)}, under_0)
    add("hold-released", "the hold was released by two people before", 2, {3: one_scope, 9: release, 11: shred(0)},
        under_0)  # fmt: skip
    alone = control("hold.release", hold=HOLD, approvals="user:3")
    twice = control("hold.release", hold=HOLD, approvals="user:3,user:3")
    for name, body in (("one", alone), ("the same twice", twice)):
        add(f"hold-released-by-{name.split()[-1]}", f"the hold was released by one person ({name})", 14,
            {3: one_scope, 9: body, 11: shred(0)}, under_0, 6)  # fmt: skip
    add("hold-later", "the hold came after the shred", 2, {9: shred(0), 11: one_scope}, under_0)
    add("hold-released-later", "the hold was released after the shred", 14, {3: one_scope, 9: shred(0), 11: release},
        under_0, 6)  # fmt: skip
    other = control("hold.release", hold="ff" * 8, approvals="a,b")
    add("hold-another-released", "another hold was released", 14, {3: one_scope, 9: other, 11: shred(0)}, under_0, 6)


def witnesses(kit: Kit) -> None:
    """Cosignatures, quorum, age."""
    log = Log.of(SIZE)
    head = log.head()
    w1 = cosigned(head, W1, WITNESSES[W1], NOW - 100)
    both = cosigned(w1, W2, WITNESSES[W2], NOW - 5000)
    keys = [piece for name, seed in WITNESSES.items() for piece in ("--witness-key", witness_key(name, seed))]

    def add(name: str, about: str, code: int, text: str, *more: str, kept: tuple[str, ...] = (), trusted=()):
        one = Log.of(SIZE)
        one.note, one.kept = text, list(kept)
        kit.add(f"witness-{name}", about, code, one, *keys, "--now", str(NOW), *more, trusted=trusted)

    add("quorum", "two of two witnesses", 0, both)
    add("one-of-two", "one witness is enough", 0, w1, "--quorum", "1")
    add("too-few", "one witness, and two are demanded", 16, w1)
    add("too-few-anchored", "the same, with a checkpoint kept outside", 16, w1, trusted=TRUSTED)
    add("none", "no witness", 16, head, "--quorum", "1")
    add("twice", "one witness twice is not two", 16, cosigned(w1, W1, WITNESSES[W1], NOW - 50))
    wrong_time = w1.replace(w1.split("\n")[-2], cosigned(head, W1, WITNESSES[W2], NOW).split("\n")[-2])
    add("unknown", "a cosignature by a key that was not given", 16, wrong_time, "--quorum", "1")
    spoilt = w1[:-10] + ("A" if w1[-10] != "A" else "B") + w1[-9:]
    add("spoilt", "a bad cosignature of a known witness", 13, spoilt, "--quorum", "1", trusted=TRUSTED)
    add("fresh", "young enough", 0, both, "--max-age", "5000")
    add("stale", "the second of two is a second too old", 16, both, "--max-age", "4999")
    add("stale-quorum-1", "the newest of one decides", 0, both, "--quorum", "1", "--max-age", "100")
    add("future", "a cosignature an hour ahead", 16, cosigned(head, W1, WITNESSES[W1], NOW + 3600), "--quorum", "1",
        "--max-age", "100")  # fmt: skip
    older = cosigned(cosigned(log.head(9), W1, WITNESSES[W1], NOW - 10), W2, WITNESSES[W2], NOW - 10)
    add("kept", "a kept checkpoint is cosigned", 0, head, kept=(older,))
    other = changed(lambda log: log.records[2].fields.update(env_nonce=bytes(24)))
    add("kept-contradicts", "a cosigned checkpoint that the records do not lead to", 12, both,
        kept=(cosigned(other.head(9), W1, WITNESSES[W1], NOW),))  # fmt: skip
    add("quorum-of-three", "three of two witnesses", 30, both, "--quorum", "3")
    add("quorum-of-none", "none of two witnesses", 30, both, "--quorum", "0")
    receipt = log.receipt(6)
    seen = receipt + w1.removeprefix(head)
    for name, code, text in (("cosigned", 0, seen), ("alone", 16, receipt)):
        kit.add(f"witness-receipt-{name}", f"a receipt by itself, {name}", code, text.encode(), *keys, "--quorum", "1",
                trusted=())  # fmt: skip
    kit.add("witness-age-alone", "an age without a witness", 30, log, "--max-age", "10")
    kit.add("witness-wrong-kind", "the key of a log as that of a witness", 30, log, "--witness-key", verifier_key())


def decryption(kit: Kit) -> None:
    """`--keys`: sealed parts are opened."""
    log = Log.of(SIZE)
    for record in log.records[2:]:
        record.seal("env", ENV_KEY, b'{"event":"x","v":1}')
        if record.con is not None:
            record.seal("con", CON_KEY, b"what was typed")
    env_id, con_id = log.records[2].fields["env_key"].hex(), log.records[2].fields["con_scope"].hex()

    def line(identifier: str, key: bytes, check: bytes | None = b"") -> str:
        made = sha256(b"kcv", key, bytes.fromhex(identifier))[:16]
        return f"{identifier} {key.hex()}" + ("" if check is None else f" {(check or made).hex()}") + "\n"

    def add(name: str, about: str, code: int, keys: str, one: Log = log, bad: int | None = None) -> None:
        path = "@" + kit.shared("keys", keys.encode())
        kit.add(f"keys-{name}", about, code, one, "--keys", path, trusted=(one.head(),), bad=bad, needs="decryption")

    right = line(env_id, ENV_KEY) + line(con_id, CON_KEY)
    add("right", "everything opens", 0, "# a comment\n" + right)
    add("right-unchecked", "keys without check values", 0, line(env_id, ENV_KEY, None) + line(con_id, CON_KEY, None))
    add("some", "a key for contents only", 0, line(con_id, CON_KEY))
    add("wrong", "a key that is not the one of its check value", 20,
        line(env_id, ENV_KEY) + line(con_id, ENV_KEY, sha256(b"kcv", CON_KEY, bytes.fromhex(con_id))[:16]))  # fmt: skip
    add("wrong-unchecked", "a key that opens nothing", 20, line(env_id, ENV_KEY) + line(con_id, ENV_KEY, None))
    moved = log.copy()
    moved.records[8].con = moved.records[4].con
    moved.records[8].rehash()
    add("moved", "T3: a content moved to another record, all recomputed and signed", 10, right, moved, 8)
    add("moved-unchecked", "the same, key without check value", 10, line(con_id, CON_KEY, None), moved, 8)
    other = log.copy()
    other.records[9].fields["month"] = 673
    add("month", "a month that is not the one it was sealed for, signed", 10, right, other, 9)
    add("not-keys", "not a key file", 30, "hello\n")


def epochs(kit: Kit) -> None:
    """T11: a log that goes on after a declared loss."""
    first = Log.of(SIZE)
    both = (verifier_key(), verifier_key(E2, NEW_SEED))

    def second(previous: str | None, lost_from: int = 9, lost_to: int = SIZE - 1) -> Log:
        body = control("epoch", previous=previous, lost_from=lost_from, lost_to=lost_to)
        log = Log.of(6, bodies={1: body} if previous is not None else {}, origin=E2)
        log.note = log.head(seed=NEW_SEED)
        return log

    def e2_files(log: Log) -> dict[str, bytes]:
        return log.files() | {"verifier-key": both[1].encode() + b"\n"}

    def upto(size: int) -> Log:
        return changed(lambda log: log.records.__delitem__(slice(size, None)))

    def add(name: str, about: str, code: int, e1: Log, e2: Log, bad: int | None = None, trusted=(), pub=both):
        given = [e1.files(), e2_files(e2)]
        kit.add(f"epoch-{name}", about, code, given, pub=pub, trusted=(e2.head(seed=NEW_SEED), *trusted), bad=bad)

    restored, head = upto(9), first.head()
    five = first.head(5)
    add("lost", "records 9 to 13 are lost and declared, by the head that was lost", 2, restored, second(head),
        trusted=(five, head))  # fmt: skip
    add("lost-restored-head", "the same, by the head of what is left", 2, restored, second(first.head(9)))
    add("nothing-lost", "nothing is lost", 0, first, second(head, SIZE, SIZE - 1))
    add("found-again", "what was declared lost is here", 0, first, second(head))
    add("undeclared", "record 1 of the second epoch says nothing of the first", 12, restored, second(None),
        trusted=(five,))  # fmt: skip
    add("forged-head", "the first epoch's head is forged", 12, restored, second(note(SIZE, bytes(32), seed=NEW_SEED)),
        trusted=(five,))  # fmt: skip
    add("other-range", "the range does not fit the head", 12, restored, second(head, 9, 11), trusted=(five,))
    add("backwards", "the range runs backwards", 12, restored, second(head, 15, 13), trusted=(five,))
    add("more-lost", "more is lost than was declared", 11, upto(7), second(head), 7, trusted=(five,))
    add("went-on", "the first epoch was signed further", 12, Log.of(16), second(head), 14)
    add("rewritten", "the first epoch was rewritten", 12,
        changed(lambda log: log.records[2].fields.update(env_nonce=bytes(24))), second(head, SIZE))  # fmt: skip
    add("beyond-the-loss", "a checkpoint of more than was declared lost", 11, restored, second(first.head(12), 9, 11),
        9, trusted=(five, head))  # fmt: skip
    add("unanchored", "the first epoch's remainder is confirmed by nothing", 16, restored, second(head))
    bad = edited({ENTRIES: flipped(first.files()[ENTRIES], 6 * 202 + 90)}, first)
    e2 = second(head, SIZE)
    kit.add("epoch-altered", "a record of the first epoch was altered", 10, [bad, e2_files(e2)], pub=both,
            trusted=(e2.head(seed=NEW_SEED),), bad=6)  # fmt: skip
    third = ORIGIN.removesuffix("e1") + "e3"
    e3 = Log.of(4, origin=third)
    e3.note = e3.head(seed=NEW_SEED)
    kit.add("epoch-missing", "the second of three epochs is missing", 30,
            [first.files(), e3.files() | {"verifier-key": verifier_key(third, NEW_SEED).encode()}],
            pub=(both[0], verifier_key(third, NEW_SEED)), trusted=())  # fmt: skip
    kit.add("epoch-without-key", "no key of the second epoch", 13, [restored.files(), e2_files(second(head))],
            trusted=(five,), pub=both[:1])  # fmt: skip
    folded = {f"e1/{n}": c for n, c in restored.files().items()}
    folded |= {f"e2/{n}": c for n, c in e2_files(second(first.head(9))).items()}
    kit.add("epoch-one-archive", "both epochs in one archive", 2, folded, pub=both,
            trusted=(second(first.head(9)).head(seed=NEW_SEED),))  # fmt: skip
    alone = second(first.head(9))
    kit.add("epoch-alone", "the second epoch alone", 0, e2_files(alone), pub=both[1:],
            trusted=(alone.head(seed=NEW_SEED),))  # fmt: skip


def malformed(kit: Kit) -> None:
    """T29: not of the format."""
    log = Log.of(SIZE)
    root = b64(bytes(32))

    def signed(text: str) -> str:
        return f"{text}\n{signature_line(text)}"

    for name, text in {
        "unsigned": "text\n",
        "extension": signed(f"{ORIGIN}\n5\n{root}\nmore\n"),
        "leading-zero": signed(f"{ORIGIN}\n05\n{root}\n"),
        "sign": signed(f"{ORIGIN}\n+5\n{root}\n"),
        "huge-size": signed(f"{ORIGIN}\n{2**63}\n{root}\n"),
        "short-root": signed(f"{ORIGIN}\n5\n{b64(bytes(31))}\n"),
        "loose-base64": signed(f"{ORIGIN}\n5\n{root[:-2]}B=\n"),
        "other-origin": signed(f"other.example/log\n5\n{root}\n"),
        "carriage-return": log.head().replace("\n14\n", "\r\n14\n"),
        "no-dash": log.head().replace("— ", ""),
        "no-final-newline": log.head()[:-1],
        "loose-signature": log.head().replace("\n\n", "\n\n— x AAB=\n"),
    }.items():
        kit.add(f"note-{name}", f"a kept note that is not one ({name})", 30, log, trusted=(text,))
    good = log.receipt(6)
    lines = good.split("\n")
    kit.add("proof", "a receipt alone", 0, good.encode(), trusted=())
    for name, text in {
        "leading-zero": good.replace("index 6", "index 06"),
        "other-index": good.replace("index 6", "index 7"),
        "too-short": good.replace(f"{lines[3]}\n", ""),
        "too-long": good.replace("index 6\n", f"index 6\n{lines[3]}\n"),
        "wrong-hash": good.replace(lines[3], b64(bytes(32))),
        "short-hash": good.replace(lines[3], b64(bytes(31))),
        "64-hashes": good.replace("index 6\n", "index 6\n" + f"{lines[3]}\n" * 64),
        "no-header": good.replace(f"{lines[1]}\n", ""),
        "other-header": good.replace(lines[1], f"extra {b64(log.records[5].header())}"),
        "version-2": good.replace("@v1", "@v2"),
    }.items():
        kit.add(f"proof-{name}", f"a proof that is not one ({name})", 30, text.encode(), trusted=())
    spoilt = good[:-10] + ("A" if good[-10] != "A" else "B") + good[-9:]
    kit.add("proof-signature", "a proof whose signature is bad", 13, spoilt.encode(), trusted=())
    for name, content in {
        "version-2": canonical(ciphertexts=True, format="cloister-audit-bundle/2"),
        "spaced": b'{"ciphertexts": true,"format":"cloister-audit-bundle/1"}',
        "absent": None,
    }.items():
        kit.add(f"log-json-{name}", f"log.json: {name}", 30, edited({"log.json": content}))
    for name, line in {
        "nested": b"[" * 5000 + b"\n",
        "spaced": b'{"note": "x"}\n',
        "number": b'{"note":5}\n',
        "not-text": b"\xff\n",
    }.items():
        kit.add(f"kept-{name}", f"a line of checkpoints.jsonl that is not one ({name})", 30,
                edited({"checkpoints.jsonl": line}))  # fmt: skip
    kit.add("traversal", "a file outside of the archive", 30, edited({"../../etc/passwd": b"x"}))
    archive = zipped(log.files())
    files = log.files()
    twin = zipped(files | {"checkpoinT": files["checkpoint"]}).replace(b"checkpoinT", b"checkpoint")
    kit.add("twins", "two files of one name", 30, twin)
    kit.add("cut-archive", "half an archive", 30, archive[: len(archive) // 2])
    kit.add("noise", "not an archive", 30, b"noise\n" * 10)
    kit.add("key-newline", "a verifier key with a line feed in its name", 30, log,
            pub=(f"a\nb+{key_id('a', public_of(SEED)).hex()}+{b64(bytes([1]) + public_of(SEED))}",))  # fmt: skip
    kit.add("key-id", "a verifier key whose id does not fit", 30, log, pub=(verifier_key().replace("+", "+0", 1),))
    kit.add("key-kind", "a verifier key of another kind", 30, log, pub=(witness_key(ORIGIN, SEED),))
    kit.add("option", "an option that does not exist", 30, log, "--everything")


def made() -> Kit:
    """The whole kit, in memory."""
    kit = Kit()
    for part in (
        intact, altered, rewritten, signatures, destruction, witnesses, decryption, epochs, malformed,
    ):  # fmt: skip
        part(kit)
    names = [vector["name"] for vector in kit.vectors]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    used = {path.removeprefix("files/") for vector in kit.vectors for path in vector["inputs"]}
    used |= {word.removeprefix("@files/") for vector in kit.vectors for word in vector["arguments"] if word[0] == "@"}
    kit.files = {name: content for name, content in kit.files.items() if name in used or name.split("/")[0] in used}
    return kit


def as_json(kit: Kit) -> str:
    """`vectors.json`: one vector a line, so that a change shows as one."""
    lines = ",\n".join(json.dumps(vector, ensure_ascii=True) for vector in kit.vectors)
    return f'{{"about": "logs with one failure each; see README.md", "vectors": [\n{lines}\n]}}\n'


def main() -> None:
    """Write what differs and remove what is no part of the kit."""
    kit = made()
    for path in sorted((HERE / "files").rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(HERE / "files").as_posix() not in kit.files:
            path.unlink()
    for name, content in kit.files.items():
        place = HERE / "files" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (HERE / "vectors.json").write_text(as_json(kit))
    print(f"{len(kit.vectors)} vectors, {sum(map(len, kit.files.values())):,} bytes")


if __name__ == "__main__":
    main()


__all__ = ["Kit", "Record", "as_json", "made"]
