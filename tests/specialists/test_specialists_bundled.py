"""Guaranteed here: what the release carries is what its list of hashes names, is valid in format 1, was trained with
this release's word shapes and for the pinned base, and states its sources and its evidence."""

import hashlib
from pathlib import Path

import pytest

from appliance.specialists.base_model import MINILM
from appliance.specialists.file_format import read_specialist
from appliance.specialists.word_shapes import FEATURE_COUNT, FEATURE_VERSION

BUNDLED = Path(__file__).parents[2] / "appliance" / "bundled"
FILES = sorted(BUNDLED.glob("*/*.gguf"))


def test_the_release_carries_the_de_identifier() -> None:
    assert "phi-deid" in {path.stem for path in FILES}


def test_the_list_of_hashes_names_every_file_and_nothing_else() -> None:
    lines = [line.split() for line in (BUNDLED / "SHA256SUMS").read_text().splitlines()]
    found = {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES}
    assert {name: digest for digest, name in lines} == found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_bundled_file_is_complete_and_fits_this_release(path: Path) -> None:
    file = read_specialist(path, bytes_max=8 * 1024 * 1024)
    manifest = file.manifest
    assert manifest.id == path.stem == path.parent.name
    assert (manifest.base.weights_sha256, manifest.base.vocabulary_sha256) == (
        MINILM.weights_sha256,
        MINILM.vocabulary_sha256,
    )
    assert manifest.feature_version in (0, FEATURE_VERSION)
    assert file.head.feature_count in (0, FEATURE_COUNT)
    assert file.has_adapter != (manifest.id == "embed")  # the base's own vectors: nothing was trained
    assert all(source.licence and source.attribution for source in manifest.sources)
    assert manifest.sources and manifest.evaluation and manifest.limits and manifest.recipe_sha256
