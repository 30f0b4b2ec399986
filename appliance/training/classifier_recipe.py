"""The recipe of a classifier: one TOML file, and its digest.

recipe = read_classifier_recipe(Path("appliance/training/recipes/bank-intent.toml"))
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.errors import ConfigInvalid
from appliance.specialists.manifest import Context, Post, Source, Unit
from appliance.training.recipe import RECIPE_BYTES_MAX, AdapterShape, Card, Count, Share


class ClassifierSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how fast. `batch` counts sequences; `consistency` weighs the agreement of two passes (R-Drop).

    `masked`: the share of tokens that each pass reads as the mask token. `rare_below`: a label of fewer than this share
    of the texts is shown more often, by the root of how far it is below (repeat factors of Gupta et al. 2019, LVIS).
    """

    seed: int
    epochs: Count
    batch: Count
    window_tokens: Annotated[int, msgspec.Meta(ge=8, le=512)]
    learning_rate: float
    warmup: Share = 0.06
    weight_decay: float = 0.01
    dropout: Share = 0.1
    label_smoothing: Share = 0.1
    consistency: float = 0.0
    masked: Share = 0.0
    rare_below: Share = 0.0


class ClassifierAdapter(AdapterShape, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Adapters from transformer layer `first_layer` on; what lies below stays as published and is computed once."""

    first_layer: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0


class Abstention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Abstain below the score that this share of in-scope development texts stays under; 0: never abstain."""

    in_scope_share: Share = 0.0


class ClassifierRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One TOML file. `unit`: one prediction for a whole text, or for each sentence of a document."""

    id: str
    version: str
    task: Literal["classify"]
    collection: str
    unit: Unit = "text"
    multi_label: bool = False
    context: Context = "none"
    context_name: str = ""
    post: Post = "none"
    card: Card
    adapter: ClassifierAdapter
    schedule: ClassifierSchedule
    abstention: Abstention = Abstention()
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class ReadClassifierRecipe:
    """A recipe and the SHA-256 of the file it came from."""

    recipe: ClassifierRecipe
    digest: str


def read_classifier_recipe(path: Path) -> ReadClassifierRecipe:
    """Raises `ConfigInvalid` naming the key."""
    try:
        content = path.read_bytes()
        if len(content) > RECIPE_BYTES_MAX:
            raise ConfigInvalid(f"{path} is larger than {RECIPE_BYTES_MAX} bytes")
        recipe = msgspec.toml.decode(content, type=ClassifierRecipe)
    except OSError as error:
        raise ConfigInvalid(f"cannot read the recipe {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"the recipe {path} is not valid: {error}") from None
    return ReadClassifierRecipe(recipe, hashlib.sha256(content).hexdigest())
