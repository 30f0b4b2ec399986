"""A receipt as a file (c2sp.org/tlog-proof): what a user or another system keeps, and `auditverify` checks offline.

    c2sp.org/tlog-proof@v1
    extra <base64 of the record header>
    index <seq>
    <base64 hash>            one line for each node of the audit path, leaf to root

    <signed checkpoint>

The header travels as the proof's extra data: with it anybody can compute the leaf.
"""

from __future__ import annotations

import base64
import binascii

from appliance.audit.checkpoint import parse_checkpoint
from appliance.audit.header import RecordHeader, log_id_of
from appliance.crypto.merkle import HASH_BYTES, PROOF_HASHES_MAX, leaf_hash
from appliance.types import Receipt

FIRST_LINE = "c2sp.org/tlog-proof@v1"
PROOF_CHARS_MAX = 1_100_000  # a note of a megabyte and the path


def format_proof(receipt: Receipt, header: RecordHeader) -> str:
    """The proof file of a receipt. `header` MUST be that of its record."""
    encoded = header.encode()
    if leaf_hash(encoded) != receipt.leaf or header.seq != receipt.seq:
        raise ValueError("the header is not that of the receipt's record")
    path = "".join(f"{base64.b64encode(node).decode()}\n" for node in receipt.proof)
    extra = base64.b64encode(encoded).decode()
    return f"{FIRST_LINE}\nextra {extra}\nindex {receipt.seq}\n{path}\n{receipt.checkpoint}"


def proof_file(receipt: Receipt) -> str:
    """The file of a receipt as the log gave it out. Raises `ValueError` for one that came without its header."""
    return format_proof(receipt, RecordHeader.decode(receipt.header))


def parse_proof(text: str) -> tuple[Receipt, RecordHeader]:
    """The receipt and header of a proof file. Checks its form; signatures and path are the caller's to verify.

    Raises `ValueError`.
    """
    if len(text) > PROOF_CHARS_MAX:
        raise ValueError("a proof file is at most a megabyte")
    head, separator, note = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or len(lines) < 3 or lines[0] != FIRST_LINE or len(lines) - 3 > PROOF_HASHES_MAX:
        raise ValueError("not a proof file of version 1")
    header = RecordHeader.decode(_decode(lines[1].removeprefix("extra ")))
    if lines[1][:6] != "extra " or lines[2] != f"index {header.seq}":
        raise ValueError("the proof's index is not that of its record")
    path = tuple(_decode(line) for line in lines[3:])
    if any(len(node) != HASH_BYTES for node in path):
        raise ValueError(f"a node of the proof does not have {HASH_BYTES} bytes")
    checkpoint = parse_checkpoint(note.partition("\n\n")[0] + "\n")
    if header.seq >= checkpoint.size or header.log_id != log_id_of(checkpoint.origin):
        raise ValueError("the proof's record is not one of the log that its checkpoint signs")
    leaf = leaf_hash(header.encode())
    return Receipt(header.record_id, header.seq, leaf, checkpoint.size, path, note, header.encode()), header


def _decode(encoded: str) -> bytes:
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if base64.b64encode(decoded).decode() != encoded:
        raise ValueError("not canonical base64")
    return decoded
