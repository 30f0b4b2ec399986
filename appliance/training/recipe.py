"""A recipe: everything that decides what a training run makes, in one TOML file, and its digest.

recipe = read_recipe(Path("appliance/training/recipes/phi-deid.toml"))
recipe.digest                                    # SHA-256 of the file, stated in the manifest
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.errors import ConfigInvalid
from appliance.specialists.manifest import Post, Source

RECIPE_BYTES_MAX = 256 * 1024
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the manifest says to people."""

    name: str
    summary: str
    intended_use: str
    limits: str
    licence: str


class AdapterShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters on every linear layer, or on those from transformer layer `first_layer` on.

    What lies below the first adapter needs no backward pass: the fewer layers, the faster a step.
    """

    rank: Count
    alpha: float
    first_layer: Annotated[int, msgspec.Meta(ge=0)] = 0


class HeadRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One convolution over states and word shapes."""

    conv_width: Count
    hidden: Count


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how fast. `tokens` counts training tokens, `batch_tokens` those of one step."""

    seed: int
    tokens: Count
    batch_tokens: Count
    window_tokens: Count
    overlap_tokens: Count
    learning_rate: float
    warmup: Share
    cycles: Count = 1  # of warm-up and annealing
    weight_decay: float
    pool_notes: Count  # notes drawn at a time, whose windows are sorted by length


class Augmentation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes made to the training windows only."""

    replaced_names: Share = 0.0  # of spans with these labels, the share whose pieces become random ones
    replaced_labels: tuple[str, ...] = ()
    replaced_others: Share = 0.0  # of words outside every span, the share whose pieces become random ones


class Development(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The generator's own held-out stream, for figures while developing; never the evidence of a release."""

    seed: int
    notes: Count


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One TOML file."""

    id: str
    version: str
    task: str
    labels: tuple[str, ...]
    card: Card
    adapter: AdapterShape
    head: HeadRecipe
    schedule: Schedule
    augmentation: Augmentation = Augmentation()
    development: Development
    # Where texts come from: made by `notes/`, or a collection of `collections/`.
    collection: Literal["notes", "biomedical"] = "notes"
    # Labels that some of its texts do not mark: there, outside them, these classes count as "outside" too.
    unmarked_labels: tuple[str, ...] = ()
    post: Post = "none"
    recall_bias: float = 0.0
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class ReadRecipe:
    """A recipe and the SHA-256 of the file it came from."""

    recipe: Recipe
    digest: str


def read_recipe(path: Path) -> ReadRecipe:
    """Raises `ConfigInvalid` naming the key."""
    try:
        content = path.read_bytes()
        if len(content) > RECIPE_BYTES_MAX:
            raise ConfigInvalid(f"{path} is larger than {RECIPE_BYTES_MAX} bytes")
        recipe = msgspec.toml.decode(content, type=Recipe)
    except OSError as error:
        raise ConfigInvalid(f"cannot read the recipe {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"the recipe {path} is not valid: {error}") from None
    return ReadRecipe(recipe, hashlib.sha256(content).hexdigest())
