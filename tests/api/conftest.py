"""What several tests of the API share: a model that writes, in the data folder of the one real server."""

import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import pytest

from appliance.config import Home, ModelsConfig
from appliance.service.models import read_facts
from appliance.specialists.language_models.library import ModelLibrary, Origin
from benchmarks.random_decoder import TINY, write_decoder
from tests.conftest import ADMIN_PASSWORD, ANSWER_S, PATIENT, Server, link_or_copy, start_server, stop_server

SMALL = """
[generation]
backend = "echo"
slots = 1
queue_max = 1
auto_model = "absent"
[upstream]
addresses = ["127.0.0.1"]
[upstream.models.neighbour]
url = "{neighbour}/v1"
model = "Big/Model"
[upstream.models.stranger]
url = "http://127.0.0.2:9/v1"
model = "Big/Model"
"""


@pytest.fixture(scope="session")
def model(server, tmp_path_factory) -> str:
    """The id of a real decoder with random weights: its answers are nonsense that obeys every rule."""
    return add_writer(server.home, tmp_path_factory.mktemp("decoder"))


def add_writer(home, folder) -> str:
    """Put the model into the library of this data folder."""
    path = folder / "tiny-writer.gguf"
    write_decoder(path, TINY, seed=7)
    config = ModelsConfig(disk_free_bytes_min=0)
    return ModelLibrary(Home(home), config, read_facts).add(path, Origin(kind="file", file=path.name), added_by="t").id


class Neighbour(ThreadingHTTPServer):
    """Another server of the site that writes: it says the last message once more, or fails with the status in it.

    Where it is offered tools, it calls the first of them with what it would have said.
    """

    daemon_threads = True
    asked: ClassVar[list[dict]] = []

    class RequestHandlerClass(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            Neighbour.asked.append(body)
            said = body["messages"][-1]["content"]
            status = int(said.split()[-1]) if said.startswith("fail with") else 200
            self.send_response(status)
            self.send_header("Retry-After", "7")
            self.end_headers()
            tools = body.get("tools")
            for word in re.findall(r"\S+\s*", said) if status == 200 and not tools else ():
                self._send({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            if tools:
                self._call(tools[0]["function"]["name"], json.dumps({"text": said}))
            reason = "tool_calls" if tools else "stop"
            self._send({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            self._send({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}})

        def _call(self, name: str, arguments: str) -> None:
            begun = {"index": 0, "id": "call_there", "type": "function", "function": {"name": name, "arguments": ""}}
            for call in (begun, *({"index": 0, "function": {"arguments": part}} for part in arguments)):
                self._send({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]})

        def _send(self, event: dict) -> None:
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

        def log_message(self, *_words: object) -> None:
            """Nothing is said of requests."""


@pytest.fixture(scope="session")
def neighbour():
    """The other server, in a thread of its own."""
    with Neighbour(("127.0.0.1", 0), Neighbour.RequestHandlerClass) as made:
        serving = threading.Thread(target=made.serve_forever)
        serving.start()
        yield made
        made.shutdown()
        serving.join()


@pytest.fixture(scope="session")
def small_server(neighbour, home_template, tmp_path_factory):
    """A server with an administrator and a model, `tiny-writer`, whose answers are what it was asked.

    It writes one answer at a time and lets one more wait; with `auto` it answers nobody. `neighbour` is a model of
    another server, `stranger` one at an address that is not in the list.
    """
    folder = tmp_path_factory.mktemp("small")
    home = folder / "home"
    shutil.copytree(home_template, home, copy_function=link_or_copy)
    (home / "config.toml").write_text(PATIENT + SMALL.format(neighbour=f"http://127.0.0.1:{neighbour.server_port}"))
    process, url, token = start_server(home, folder / "server.log")
    try:
        setup = {"token": token, "username": "admin", "password": ADMIN_PASSWORD}
        assert httpx.post(f"{url}/v1/setup", json=setup, trust_env=False, timeout=ANSWER_S).status_code == 201
        add_writer(home, folder)
        yield Server(url, home, process.pid)
        assert stop_server(process) == 0
    finally:
        process.kill()
        process.wait()
