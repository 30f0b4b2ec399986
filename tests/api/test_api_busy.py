"""A server that is full says so in the words of OpenAI's API: 429, when to come back, and what is being done; whoever
was let in is served to the end.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import openai
import pytest

from tests.conftest import ANSWER_S, USER_PASSWORD
from tests.e2e.sites import suspended_writers

HELLO = [{"role": "user", "content": "Is there pain?"}]
LONG = "".join(random.Random(1).choices("abcdefgh ", k=3000))  # nothing repeats, so that nothing is guessed


@pytest.fixture(scope="module")
def client(small_server):
    with small_server.client("admin", "correct-horse-battery-9") as admin:
        account = {"username": "busy", "password": USER_PASSWORD, "roles": ["user"]}
        assert admin.post("/v1/accounts", json=account).status_code == 201
    with small_server.client("busy", USER_PASSWORD) as busy:
        key = busy.post("/v1/api-keys", json={"name": "busy", "scopes": ["specialist.run"]}).json()["secret"]
    with openai.OpenAI(base_url=f"{small_server.url}/v1", api_key=key, max_retries=0, timeout=ANSWER_S) as made:
        yield made


@pytest.mark.parametrize("route", ["chat", "responses"])
def test_a_full_engine_is_a_rate_limit_with_the_time_to_wait(small_server, client, route):
    """Six where two may be, while the engine stands: four are refused, each with a time, and the others not kept
    waiting for ever: when it goes on it may refuse one of them itself, which came before it had begun with the other.
    """
    assert client.chat.completions.create(model="tiny-writer", messages=HELLO, max_tokens=1).choices  # it is loaded
    refused = Queue()

    def ask(number: int):
        try:
            if route == "chat":
                messages = [{"role": "user", "content": LONG}]
                return client.chat.completions.create(model="tiny-writer", messages=messages, seed=number)
            return client.responses.create(model="tiny-writer", input=LONG)
        except openai.RateLimitError as error:
            refused.put(error)
            return None

    with ThreadPoolExecutor(6) as pool:
        with suspended_writers(small_server.pid):
            asked = [pool.submit(ask, number) for number in range(6)]
            errors = [refused.get(timeout=ANSWER_S) for _ in range(4)]
        answers = [one.result(ANSWER_S) for one in asked]
    while not refused.empty():
        errors.append(refused.get())
    answered = [answer for answer in answers if answer is not None]
    assert 1 <= len(answered) <= 2 and len(answered) + len(errors) == 6
    for error in errors:
        assert int(error.response.headers["Retry-After"]) >= 1 and error.code == "queue_full"
    again = client.chat.completions.create(model="tiny-writer", messages=HELLO, max_tokens=2)
    assert again.choices[0].finish_reason in ("stop", "length")
