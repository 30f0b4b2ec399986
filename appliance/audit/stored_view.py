"""The stored log for who compares it with something outside: signed head, proofs and leaves, without keys or writer.

    view = StoredView(config.home)
    view.checkpoint(); view.consistency(40, 55); view.root(40); view.leaf(7)

Works before a sequencer is started and while one runs. Each call opens the database read-only and lets it go, so
that nothing here keeps it from being closed by its writer; callers come every few seconds, not every request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from appliance.audit import derived, store
from appliance.audit.derived import OutboxRow
from appliance.audit.signer_memory import SignedHead, read_signed_head
from appliance.audit.tiles import StoredTree, root_of
from appliance.config import Home
from appliance.crypto.merkle import consistency_proof, leaf_hash
from appliance.errors import AuditLogInvalid
from appliance.storage.database import Connection, open_database, reading


class StoredView:
    """See the module. Safe to use from several threads; holds nothing open."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def signed_head(self) -> SignedHead | None:
        """What was signed last; None for a log that has not begun. Raises `AuditLogInvalid`."""
        with self._connected() as connection:
            head = store.read_head(connection)
        signed = None if head is None else read_signed_head(self._home.signer_state, head.origin)
        return signed if signed and signed.note else None

    def checkpoint(self) -> str:
        """The newest signed checkpoint. Raises `AuditLogInvalid`."""
        signed = self.signed_head()
        if signed is None:
            raise AuditLogInvalid("the log has no signed checkpoint yet", hint="start the server once")
        return signed.note

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Proof that the first `old` records begin the first `size`; empty for none. Raises `AuditLogInvalid`."""
        if not old:
            return []
        with self._connected() as connection:
            return consistency_proof(old, size, StoredTree(connection).node)

    def root(self, size: int) -> bytes:
        """Root of the first `size` records. Raises `AuditLogInvalid`."""
        with self._connected() as connection:
            return root_of(size, StoredTree(connection).node)

    def leaf(self, seq: int) -> bytes | None:
        """Leaf hash of one record, None where there is none."""
        with self._connected() as connection:
            rows = store.read_headers(connection, seq, 1)
        return leaf_hash(rows[0][1]) if rows and rows[0][0] == seq else None

    def cursors(self) -> dict[str, OutboxRow]:
        """How far every sink outside is."""
        with self._connected() as connection:
            return {row.sink: row for row in derived.read_cursors(connection)}

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        engine = open_database(self._home.audit_database, mode="ro")
        try:
            with reading(engine) as connection:
                yield connection
        finally:
            engine.dispose()
