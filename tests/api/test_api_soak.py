"""Eight clients that change their minds leave nothing behind: every slot answers afterwards, nothing is in flight, and
each request that opened an exchange has exactly one closing record. The long run is `benchmarks/soak.py`.
"""

import asyncio
from collections import Counter

from benchmarks.soak import KINDS, all_slots_answer, closings, newest, soak
from tests.e2e.sites import eventually

CLIENTS, EACH, SLOTS = 8, 6, 16


def test_clients_that_change_their_minds_leave_nothing_behind(server, ana, auditor, admin, model):
    scopes = ["specialist.run"]
    made = [ana.post("/v1/api-keys", json={"name": f"soak-{number}", "scopes": scopes}).json() for number in range(2)]
    keys = [one["secret"] for one in made]
    since = newest(auditor)
    tally = asyncio.run(soak(server.url, keys, model, clients=CLIENTS, goes_on=lambda count: count < EACH, seed=11))
    assert tally.total() == CLIENTS * EACH
    assert {end.partition(":")[0] for end in tally} == set(KINDS)
    assert {end.partition(": ")[2] for end in tally} <= {"200", "400", "413", "gone", "ended"}, tally
    assert asyncio.run(all_slots_answer(server.url, keys[0], model, SLOTS))  # and closes what was left before it
    nothing = f'cloister_generation_in_flight{{model="{model}"}} 0.0'
    eventually(lambda: nothing in admin.get("/metrics").text, "nothing is in flight")

    def all_closed() -> Counter[tuple[int, int]] | None:
        """None while a request that was left is still being closed."""
        counted = closings(auditor, since)
        return None if (1, 0) in counted else counted

    found = eventually(all_closed, "every exchange is closed")
    assert set(found) <= {(1, 1), (0, 1)}, found  # refused before it was accepted: a closing record alone
    assert found[1, 1] >= SLOTS and found.total() <= CLIENTS * EACH + SLOTS
    answered = sum(count for end, count in tally.items() if not end.endswith("gone"))
    assert found.total() >= answered + SLOTS
    for one in made:
        ana.delete(f"/v1/api-keys/{one['id']}")
