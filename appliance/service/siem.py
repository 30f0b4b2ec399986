"""The task in the server that streams the log to the configured SIEM.

    async with streaming_to_siem(config, log) as stream:     # None where no SIEM is configured
        problem = stream.problem if stream else None

Recording and answering never wait for it: what the SIEM lacks stays in the log, and the cursor says where it is.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.audit.formats.syslog import Sender
from appliance.audit.siem import SiemLog, SiemStream
from appliance.config import Config


@asynccontextmanager
async def streaming_to_siem(config: Config, log: SiemLog) -> AsyncIterator[SiemStream | None]:
    """Stream until the block ends. Raises `ConfigInvalid` for certificates that cannot be used."""
    if not config.siem.host:
        yield None
        return
    sender = Sender(socket.gethostname(), config.siem.enterprise_id, str(os.getpid()))
    stream = SiemStream(log, config.siem, sender)
    task = asyncio.create_task(stream.run())
    try:
        yield stream
    finally:
        task.cancel()
        await asyncio.wait({task})
