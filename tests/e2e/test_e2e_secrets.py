"""Where a running server leaves traces: none of them holds a key, a password or what somebody typed.

Looked through for known secrets: argv and environment of the server and of every process that it started, what it
wrote to its log, and every file of its data folder (but the key's own). Content is looked for as it is; the root key in
the forms in which a program would print it.
"""

import base64
from pathlib import Path

from appliance.audit.root_key import read_root_key
from appliance.config import Home
from tests.conftest import ADMIN_PASSWORD, USER_PASSWORD
from tests.e2e.sites import children_of

NOTE = "Mr. Quillfeather-Canary called from 555-201-3344."
CANARY = b"Quillfeather-Canary"


def family(pid: int) -> list[int]:
    """The server and everything that it started, and what those started."""
    found = [pid]
    for each in found:
        found += children_of(each)
    return found


def forms(key: bytes) -> list[bytes]:
    return [key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key), repr(key).encode()]


def everything_below(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".gguf"]
    return {str(path): content for path in paths if (content := content_of(path)) is not None}


def content_of(path: Path) -> bytes | None:
    """None of what is gone meanwhile: the server works while it is looked at, and its short-lived children end."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_no_process_log_or_file_of_a_server_holds_a_key_a_password_or_what_was_typed(server, ana):
    answered = ana.post("/v1/deidentify", json={"text": NOTE})
    assert answered.status_code == 200 and CANARY.decode() not in answered.json()["text"]
    with server.stranger() as stranger:
        wrong = {"username": "ana", "password": "wrong-" + CANARY.decode()}
        assert stranger.post("/v1/sessions", json=wrong).status_code == 401
    session = next(iter(ana.cookies.values())).encode()
    secrets = [CANARY, session, ADMIN_PASSWORD.encode(), USER_PASSWORD.encode()]
    secrets += forms(read_root_key(Home(server.home).root_key_file))

    processes = family(server.pid)
    traces = {}
    for pid in processes:
        for what in ("cmdline", "environ"):
            if (trace := content_of(Path(f"/proc/{pid}/{what}"))) is not None:
                traces[f"{what} of {pid}"] = trace
    named = [trace for name, trace in traces.items() if name.startswith("cmdline") and b"appliance" in trace]
    assert len(named) >= 3, "the server, the log's process and the engine's"
    log = server.home.parent / "server.log"
    traces["log"] = log.read_bytes()
    assert traces["log"]
    files = everything_below(server.home)
    del files[str(Home(server.home).root_key_file)]
    assert str(server.home / "audit" / "log.db") in files
    found = [(name, secret) for name, trace in (traces | files).items() for secret in secrets if secret in trace]
    assert found == []
