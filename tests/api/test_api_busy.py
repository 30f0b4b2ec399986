"""A server that is full says so in the words of OpenAI's API: 429, when to come back, and what is being done; whoever
was let in is served to the end.
"""

import random
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.conftest import USER_PASSWORD

HELLO = [{"role": "user", "content": "Is there pain?"}]
LONG = "".join(random.Random(1).choices("abcdefgh ", k=3000))  # nothing repeats, so that nothing is guessed


@pytest.fixture(scope="module")
def client(small_server):
    with small_server.client("admin", "correct-horse-battery-9") as admin:
        account = {"username": "busy", "password": USER_PASSWORD, "roles": ["user"]}
        assert admin.post("/v1/accounts", json=account).status_code == 201
    with small_server.client("busy", USER_PASSWORD) as busy:
        key = busy.post("/v1/api-keys", json={"name": "busy", "scopes": ["specialist.run"]}).json()["secret"]
    with openai.OpenAI(base_url=f"{small_server.url}/v1", api_key=key, max_retries=0, timeout=100) as made:
        yield made


@pytest.mark.parametrize("route", ["chat", "responses"])
def test_a_full_engine_is_a_rate_limit_with_the_time_to_wait(client, route):
    """Six at once where two may be: nobody is kept waiting for ever, and nobody is refused without a time."""

    def ask(number: int):
        try:
            if route == "chat":
                messages = [{"role": "user", "content": LONG}]
                return client.chat.completions.create(model="tiny-writer", messages=messages, seed=number)
            return client.responses.create(model="tiny-writer", input=LONG)
        except openai.RateLimitError as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert 1 <= len(refused) <= 5
    for error in refused:
        assert int(error.response.headers["Retry-After"]) >= 1 and error.code == "queue_full"
    again = client.chat.completions.create(model="tiny-writer", messages=HELLO, max_tokens=2)
    assert again.choices[0].finish_reason in ("stop", "length")
