"""Every task of the table takes its own parts of a request and no others, and its findings speak in one field only."""

import numpy as np
import pytest

from appliance.config import SpecialistsConfig
from appliance.errors import InputEmpty, InvalidRequest
from appliance.specialists.file_format import read_specialist
from appliance.specialists.tasks import dispatch
from appliance.specialists.tokenization import WordPiece
from appliance.types import Findings, Material
from tests.specialist_files import (
    CLASSES,
    STATES,
    TAGS,
    write_answerer,
    write_classifier,
    write_embedder,
    write_sentence_classifier,
    write_tagger,
)

WORDPIECE = WordPiece.from_tokens(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abc"))
WRITERS = {
    "tag": write_tagger,
    "classify": write_classifier,
    "several": lambda path: write_classifier(path, multi_label=True),
    "about": lambda path: write_classifier(path, context="optional", context_name="entity"),
    "sentences": write_sentence_classifier,
    "answer": write_answerer,
    "embed": write_embedder,
}
MATERIAL = {
    "answer": Material(question="a", context="b c"),
    "sentences": Material(sentences=("a b", "c")),
    "about": Material("a b c", about=(("entity", "a"),)),
}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dispatch")
    written = {name: write(folder / f"{name}.gguf") for name, write in WRITERS.items()}
    return {name: read_specialist(path, bytes_max=1 << 20).manifest for name, path in written.items()}


def prepared(manifest, material):
    return dispatch.prepare(material, manifest, WORDPIECE, SpecialistsConfig())


def outputs_of(manifest, case):
    columns = {"tag": 1 + 2 * len(TAGS), "answer": 2, "embed": STATES}.get(manifest.task, len(CLASSES))
    by_token = manifest.task in ("tag", "answer") or manifest.unit == "sentence"
    shapes = [(len(item.token_ids), columns) if by_token else (columns,) for item in case.inputs]
    return [np.linspace(1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape) for shape in shapes]


SPEAKS = {
    "tag": ("spans", "spans"),
    "classify": ("label", "labels"),
    "several": ("labels", "labels"),
    "about": ("label", "labels"),
    "sentences": ("sentences", "sentences"),
    "answer": ("answer", "quote"),
    "embed": ("embedding", "embedding"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_findings_speak_in_the_field_of_their_task(manifests, name):
    case = prepared(manifests[name], MATERIAL.get(name, Material("a b c")))
    found = dispatch.finish(case, outputs_of(manifests[name], case))
    kind, field = SPEAKS[name]
    assert found.kind == kind and getattr(found, field)
    empty = Findings(kind)
    silent = {"spans", "labels", "sentences", "quote", "embedding"} - {field}
    assert all(getattr(found, other) == getattr(empty, other) for other in silent)
    assert (found.best is not None) == (kind in ("label", "labels"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_part_that_is_missing_or_would_be_ignored_is_refused_by_its_name(manifests, name):
    given = MATERIAL.get(name, Material("a b c"))
    parts = {"text": "a", "sentences": ("a",), "question": "a", "context": "a", "about": (("concept", "a"),)}
    for field, value in parts.items():
        if not getattr(given, field):
            material = Material(**{**{part: getattr(given, part) for part in parts}, field: value})
            with pytest.raises(InvalidRequest, match="concept" if field == "about" else field):
                prepared(manifests[name], material)
    with pytest.raises(InvalidRequest, match="needs"):
        prepared(manifests[name], Material())


def test_no_sentence_at_all_is_empty(manifests):
    with pytest.raises(InputEmpty):
        prepared(manifests["sentences"], Material(sentences=()))


def test_material_counts_every_part():
    material = Material("ab", (("entity", "c"),), ("d", "ef"), "g", "hi")
    assert material.texts() == ("ab", "c", "d", "ef", "g", "hi") and material.chars == 9
