"""A specialist's task decides how its material is prepared and its outputs are finished: one table, pure.

    prepared = prepare(material, manifest, wordpiece, config.specialists)
    outputs = await engine.encode(key, prepared.inputs) if prepared.inputs else []
    findings = finish(prepared, outputs)

A new task is a module beside this one, a case in each function here, and a row in `material.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliance.config import SpecialistsConfig
from appliance.specialists.manifest import Manifest
from appliance.specialists.tasks import answer, classify, embed, tag
from appliance.specialists.tasks.material import check_material
from appliance.specialists.tokenization import WordPiece
from appliance.types import Findings, FindingsKind, Material, Task

Prepared = (
    tag.PreparedTag
    | classify.PreparedClassify
    | classify.PreparedSentences
    | answer.PreparedAnswer
    | embed.PreparedEmbed
)


def prepare(material: Material, manifest: Manifest, wordpiece: WordPiece, config: SpecialistsConfig) -> Prepared:
    """The engine's inputs (`.inputs`, which may be none) and what `finish` needs.

    Raises `InvalidRequest` for material that the task does not take or lacks, and what the task raises.
    """
    check_material(material, manifest)
    text, sentences = material.text or "", material.sentences or ()
    match manifest.task:
        case Task.TAG:
            return tag.prepare(text, manifest, wordpiece, config)
        case Task.ANSWER:
            return answer.prepare(material.question or "", material.context or "", manifest, wordpiece, config)
        case Task.EMBED:
            return embed.prepare(text, manifest, wordpiece, config)
        case Task.CLASSIFY if manifest.unit == "sentence":
            return classify.prepare_sentences(sentences, manifest, wordpiece, config)
        case Task.CLASSIFY:
            about = dict(material.about).get(manifest.context_name, "")
            return classify.prepare(text, manifest, wordpiece, config, context=about)


def finish(prepared: Prepared, outputs: Sequence[np.ndarray]) -> Findings:
    """What the specialist says. Raises `SpecialistFileInvalid` for outputs that cannot be its head's."""
    match prepared:
        case tag.PreparedTag():
            return Findings("spans", spans=tag.finish(prepared, outputs))
        case answer.PreparedAnswer():
            return Findings("answer", quote=answer.finish(prepared, outputs))
        case embed.PreparedEmbed():
            return Findings("embedding", embedding=tuple(embed.finish(prepared, outputs).tolist()))
        case classify.PreparedSentences():
            decisions = classify.finish_sentences(prepared, outputs)
            return Findings("sentences", sentences=tuple(None if one.abstains else one.best for one in decisions))
        case classify.PreparedClassify():
            decision = classify.finish(prepared, outputs)
            kind: FindingsKind = "labels" if prepared.manifest.multi_label else "label"
            return Findings(kind, labels=decision.labels, best=decision.best)
