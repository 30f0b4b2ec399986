"""The configuration as a fact of the log: which one a server ran with, without a value of it.

configuration_sha256(config)      # the same for the same settings, whatever file or variable they came from
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

from pydantic import BaseModel

from appliance.config import Config


def configuration_sha256(config: Config) -> str:
    """SHA-256 (hex) of every setting in canonical JSON; the data folder's place is not part of it."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    sections = {name: value.model_dump(mode="json") for name, value in values.items() if isinstance(value, BaseModel)}
    text = json.dumps(sections, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
