"""An event loop whose clock a test puts forward: a minute's silence is over at once, and is still a minute, so that no
worker is taken for stuck that a busy machine only keeps waiting.

    with asyncio.Runner(loop_factory=Clock) as runner: ...
    await passes_until(lambda: "worker_stuck" in kinds)
"""

import asyncio
from collections.abc import Callable


class Clock(asyncio.SelectorEventLoop):
    """The loop of `asyncio`, ahead of the machine's clock by what was asked for."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


async def passes_until(happened: Callable[[], bool], *, most_s: float) -> None:
    """Put the clock of this loop forward, second by second, until something has happened."""
    loop = asyncio.get_running_loop()
    while not happened():
        assert loop.ahead_s < most_s, f"nothing happened within {most_s} s"
        loop.ahead_s += 1.0
        await asyncio.sleep(0)
