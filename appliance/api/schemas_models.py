"""JSON of `/v1/models`: who can be named as `model`, and what a client can do with each. Pure.

    local_model(entry)                           # {"id": "qwen3-4b", …, "endpoints": […], "features": […]}

`endpoints` are the routes that take the name, `features` what those routes honour with it beyond a plain answer; the
rest is refused. Members beyond OpenAI's are kept by its clients and mean nothing to them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from appliance.config import UpstreamModelConfig
from appliance.specialists.language_models.library import ModelEntry
from appliance.specialists.router import AUTO

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
_STREAMED = ("stream",)
_WRITTEN = ("stream", "tools", "json_schema", "stop", "seed", "logprobs")


def local_model(entry: ModelEntry) -> dict[str, Any]:
    """A model of this machine. Without a chat template it continues texts and nothing else."""
    facts = entry.manifest.facts
    chat = (CHAT, RESPONSES) if facts.chat_template else ()
    features = _WRITTEN if facts.chat_template else ("stream", "stop", "seed", "logprobs")
    about = _body(entry.id, entry.manifest.added_ms // 1000, "model", (*chat, "/v1/completions"), features)
    return about | {"context_tokens": facts.context_tokens, "parameters": facts.parameters}


def local_model_facts(entry: ModelEntry, memory_bytes: int) -> dict[str, Any]:
    """What its file says of it, and where it came from. `memory_bytes`: what one conversation takes."""
    facts, origin = entry.manifest.facts, entry.manifest.origin
    return {
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "quantization": facts.quantization,
        "context_tokens": facts.context_tokens,
        "chat_template": facts.chat_template,
        "licence": entry.manifest.licence,
        "sha256": entry.manifest.sha256,
        "repository": origin.repository,
        "revision": origin.revision,
        "memory_bytes": memory_bytes,
    }


def upstream_model(name: str, upstream: UpstreamModelConfig) -> dict[str, Any]:
    """A model of another server inside the site. Some of its features are that server's to honour."""
    about = _body(name, 0, "model", (CHAT, RESPONSES, "/v1/completions"), _WRITTEN)
    return about | {"owned_by": "upstream", "upstream_model": upstream.model}


def specialist(card: dict[str, Any]) -> dict[str, Any]:
    """A specialist: its own route takes all that it reads; in a chat it reads the last message of the user."""
    run = f"/v1/specialists/{card['id']}/run"
    if card["task"] == "embed":
        endpoints: tuple[str, ...] = ("/v1/embeddings", run)
    else:
        endpoints = (run,)
        if card["task"] != "answer" and card["unit"] == "text" and card["context"] != "required":
            endpoints = (CHAT, RESPONSES, *endpoints)
        if card["post"] == "deid":
            endpoints = (*endpoints, "/v1/deidentify")
    installed = int(datetime.fromisoformat(card["installed_at"]).timestamp())
    about = _body(card["id"], installed, "specialist", endpoints, _STREAMED if CHAT in endpoints else ())
    return about | {"name": card["name"], "task": card["task"], "version": card["version"]}


def router() -> dict[str, Any]:
    """`auto`: who answers is chosen for each request; what only models do is left to a model."""
    return _body(AUTO, 0, "router", (CHAT, RESPONSES), _WRITTEN)


def _body(model: str, created: int, kind: str, endpoints: tuple[str, ...], features: tuple[str, ...]) -> dict[str, Any]:
    head = {"id": model, "object": "model", "created": created, "owned_by": "site", "kind": kind}
    return {**head, "endpoints": list(endpoints), "features": list(features)}
