"""Well-known models with open licences that run on one machine: what each is for, and what it needs. Names, no weights.

for offer in read_catalogue():
    offer.id, offer.repository, offer.file, offer.licence

The table is `catalogue.toml` beside this module. It pins nothing: `hub.choose` pins commit and hash when one is pulled.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Annotated, Literal

import msgspec


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model that can be pulled. `parameters` and `file_gb` (10^9 bytes) are as published, to choose by."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9._-]*$")]
    repository: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")]
    file: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._/-]+\.gguf$")]
    kind: Literal["assistant", "domain"]
    parameters: Annotated[str, msgspec.Meta(pattern=r"^\d+(\.\d+)?[MB]$")]
    file_gb: Annotated[float, msgspec.Meta(gt=0, le=1000)]
    licence: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    summary: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]

    @property
    def memory_gb(self) -> float:
        """Memory to have free, in 10^9 bytes: the file, a fifth more for context and room to compute, and 0.5."""
        return round(self.file_gb * 1.2 + 0.5, 1)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[Offer, ...]


def read_catalogue() -> tuple[Offer, ...]:
    """Every offer, small ones first."""
    text = files("appliance.specialists.language_models").joinpath("catalogue.toml").read_text("utf-8")
    offers = msgspec.convert(tomllib.loads(text), type=_Table).model
    assert len({offer.id for offer in offers}) == len(offers), "an id occurs twice in catalogue.toml"
    return tuple(sorted(offers, key=lambda offer: offer.file_gb))
