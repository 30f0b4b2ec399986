"""The recipe of a specialist that answers questions: one TOML file, and its digest.

recipe = read_answer_recipe(Path("appliance/training/recipes/doc-answer.toml"))
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.errors import ConfigInvalid
from appliance.specialists.manifest import ANSWER_WINDOW_TOKENS_MIN, Source
from appliance.training.recipe import RECIPE_BYTES_MAX, AdapterShape, Card, Count, Share


class AnswerSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how fast. `tokens` counts training tokens, `batch_tokens` those of one step.

    A question is shown with a part of its context of `part_tokens_min` to as many tokens as a window has room for; with
    probability `elsewhere` it is a part that does not hold the answer. Of the questions that have none, the share
    `unanswerable` is shown in each round.
    """

    seed: int
    tokens: Count
    batch_tokens: Count
    window_tokens: Annotated[int, msgspec.Meta(ge=ANSWER_WINDOW_TOKENS_MIN, le=512)]
    part_tokens_min: Count
    part_tokens_max: Count
    elsewhere: Share
    unanswerable: Share = 1.0
    learning_rate: float
    warmup: Share
    cycles: Count = 1
    weight_decay: float = 0.01
    dropout: Share = 0.1
    pool: Count = 512  # questions drawn at a time, whose parts are sorted by length


class AnswerRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One TOML file."""

    id: str
    version: str
    task: Literal["answer"]
    card: Card
    adapter: AdapterShape
    schedule: AnswerSchedule
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class ReadAnswerRecipe:
    """A recipe and the SHA-256 of the file it came from."""

    recipe: AnswerRecipe
    digest: str


def read_answer_recipe(path: Path) -> ReadAnswerRecipe:
    """Raises `ConfigInvalid` naming the key."""
    try:
        content = path.read_bytes()
        if len(content) > RECIPE_BYTES_MAX:
            raise ConfigInvalid(f"{path} is larger than {RECIPE_BYTES_MAX} bytes")
        recipe = msgspec.toml.decode(content, type=AnswerRecipe)
    except OSError as error:
        raise ConfigInvalid(f"cannot read the recipe {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"the recipe {path} is not valid: {error}") from None
    return ReadAnswerRecipe(recipe, hashlib.sha256(content).hexdigest())
