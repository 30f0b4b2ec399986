"""A hub of models on this machine, hand-written: speaks as much of the Hugging Face hub's HTTP as its library asks.

with fake_hub({"me/tiny-GGUF": {"tiny.gguf": content}}) as hub:
    hub.url, hub.requests, hub.cut_after_bytes = 1000      # the next download ends early, as a broken line does
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """What it offers and what it was asked."""

    repositories: dict[str, dict[str, bytes]]
    url: str = ""
    gated: set[str] = field(default_factory=set)
    lying: bool = False  # lists another hash than the file has
    cut_after_bytes: int | None = None
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range


@contextmanager
def fake_hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """Serve until the block ends, on a free port of the loopback."""
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
            path = self.path.partition("?")[0]
            info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            if info:
                self._info(info[1], info[2] or "main")
            elif file and file[3] in hub.repositories.get(file[1], {}):
                self._file(hub.repositories[file[1]][file[3]], body)
            else:
                self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

        def _info(self, repository: str, revision: str) -> None:
            if repository in hub.gated:
                self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            elif repository not in hub.repositories:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif revision not in ("main", COMMIT):
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            else:
                siblings = [
                    {"rfilename": name, "size": len(content), "lfs": _lfs(content, hub.lying)}
                    for name, content in hub.repositories[repository].items()
                ]
                body = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings, "tags": []}
                self._send(200, json.dumps(body | {"cardData": {"license": "mit"}}).encode(), {})

        def _file(self, content: bytes, body: bool) -> None:
            start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
            headers = {
                "X-Repo-Commit": COMMIT,
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Accept-Ranges": "bytes",
            }
            status = 206 if self.headers.get("Range") else 200
            if status == 206:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            rest = content[start:]
            cut, hub.cut_after_bytes = (hub.cut_after_bytes, None) if body else (None, hub.cut_after_bytes)
            self._send(status, rest, headers, body=body, cut=cut)

        def _send(self, status: int, body_bytes: bytes, headers: dict, *, body: bool = True, cut: int | None = None):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body_bytes))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body and self.command == "GET":
                self.wfile.write(body_bytes[:cut])
                if cut is not None:
                    self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _lfs(content: bytes, lying: bool) -> dict[str, object]:
    digest = hashlib.sha256(content + b"!" * lying).hexdigest()
    return {"sha256": digest, "size": len(content), "pointerSize": 130}
