"""The look at the end of the log before anybody may append to it: does it fit itself, and what was signed?

    last_commit_ms = verify_end(connection, head, signer.head)

It checks what a crash or a copied file could have damaged, in time that does not grow with the log. Whether older
records were altered is for `auditverify`, which reads all of them.
"""

from __future__ import annotations

import hashlib

from appliance.audit import store
from appliance.audit.header import RecordHeader, RecordKind
from appliance.audit.signer import SignedHead
from appliance.audit.store import Head, StoredRecord
from appliance.audit.tiles import TILE_WIDTH, StoredTree, root_of
from appliance.crypto.merkle import Frontier
from appliance.errors import AuditLogInvalid
from appliance.storage.database import Connection

_PARTS_CHECKED = 16  # records whose ciphertexts are hashed again; a batch is written whole or not at all


def verify_end(connection: Connection, head: Head, signed: SignedHead) -> int:
    """The commit time of the last record, 0 for an empty log. Raises `AuditLogInvalid` naming what does not fit.

    Holds afterwards: nothing lies beyond the head; the head's root and frontier are those of the stored tree, whose
    first `signed.size` records are the ones that were signed; the last records are complete.
    """
    if store.read_headers(connection, head.size, 1):
        raise _invalid(f"records lie beyond its end at {head.size}")
    tree = StoredTree(connection)
    try:
        frontier = Frontier.from_bytes(head.frontier)
    except ValueError:
        raise _invalid("its frontier is damaged") from None
    if frontier.size != head.size or frontier.root() != head.root or root_of(head.size, tree.node) != head.root:
        raise _invalid(f"the root of its {head.size} records does not match them")
    if root_of(signed.size, tree.node) != signed.root:
        raise _invalid(f"its first {signed.size} records are not those that were signed")
    last_commit_ms = _verify_headers(connection, head)
    for row in store.read_records(connection, max(0, head.size - _PARTS_CHECKED), _PARTS_CHECKED, content=True):
        _verify_parts(row)
    return last_commit_ms


def stored_header(seq: int, encoded: bytes) -> RecordHeader:
    """The header of a row. Raises `AuditLogInvalid` where it is not one."""
    try:
        return RecordHeader.decode(encoded)
    except ValueError:
        raise _invalid(f"the header of record {seq} was altered") from None


def _verify_headers(connection: Connection, head: Head) -> int:
    last_commit_ms = 0
    first = max(0, head.size - TILE_WIDTH)
    for seq, encoded in store.read_headers(connection, first, TILE_WIDTH):
        header = stored_header(seq, encoded)
        if header.seq != seq or header.log_id != head.log_id or header.t_commit_ms < last_commit_ms:
            raise _invalid(f"the header of record {seq} does not belong there")
        last_commit_ms = header.t_commit_ms
    return last_commit_ms


def _verify_parts(row: StoredRecord) -> None:
    header = stored_header(row.seq, row.header)
    envelope = row.body if header.kind == RecordKind.PUBLIC else row.env_ct
    for part, expected in ((envelope, header.env_sha256), (row.con_ct, header.con_sha256)):
        if part is not None and hashlib.sha256(part).digest() != expected:
            raise _invalid(f"a part of record {row.seq} was altered")
    if header.record_id != row.record_id or (envelope is None and header.kind == RecordKind.PUBLIC):
        raise _invalid(f"the row of record {row.seq} does not match its header")


def _invalid(what: str) -> AuditLogInvalid:
    return AuditLogInvalid(
        f"the audit log does not fit together: {what}",
        hint="keep all files for analysis and run `appliance audit verify`; then restore the newest backup",
    )
