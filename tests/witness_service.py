"""A real witness in this process: its folder, its application, and clients that reach it without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from appliance.api.witness import create_witness_app
from appliance.audit.witness import Witness
from appliance.audit.witness_client import WitnessClient
from appliance.audit.witness_folder import add_log, create_witness, open_witness
from appliance.config import WitnessConfig

NAME = "witness.example/w1"


@dataclass(frozen=True)
class RunningWitness:
    """`settings` name it, `transport` reaches it, `client` is both."""

    folder: Path
    witness: Witness
    settings: WitnessConfig
    transport: Callable[[], httpx.AsyncBaseTransport]

    def client(self) -> WitnessClient:
        return WitnessClient(self.settings, transport=self.transport())


@contextmanager
def running_witness(folder: Path, *keys: str) -> Iterator[RunningWitness]:
    """Begin a witness in `folder`, or go on with the one that is there."""
    if not folder.exists():
        create_witness(folder, NAME)
    for key in keys:
        add_log(folder, key)
    with open_witness(folder) as kept:
        witness = Witness(kept)
        application = create_witness_app(witness)
        settings = WitnessConfig(url="http://localhost:8444", verifier_key=witness.verifier_key, timeout_s=60)
        yield RunningWitness(folder, witness, settings, lambda: httpx.ASGITransport(application))
