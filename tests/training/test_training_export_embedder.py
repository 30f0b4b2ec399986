"""Guaranteed here: the file of the base's own vectors says what its recipe says, carries no weights, and is the same
each time it is written."""

from pathlib import Path

import pytest

from appliance.errors import ConfigInvalid
from appliance.specialists.base_model import MINILM
from appliance.specialists.file_format import read_specialist
from appliance.training import export_embedder

RECIPE = Path(__file__).parents[2] / "appliance" / "training" / "recipes" / "embed.toml"


def test_the_file_is_its_card_over_the_bare_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_embedder.main([str(RECIPE), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'embed.gguf'}\n"
    file = read_specialist(tmp_path / "embed.gguf", bytes_max=1 << 20)
    assert (file.manifest.id, file.manifest.task, file.head.kind, file.has_adapter) == ("embed", "embed", "none", False)
    assert file.manifest.base.weights_sha256 == MINILM.weights_sha256
    assert file.manifest.recipe_sha256 == export_embedder.read_embedder_recipe(RECIPE).digest
    again = tmp_path / "again"
    assert export_embedder.main([str(RECIPE), "--out", str(again)]) == 0
    assert (again / "embed.gguf").read_bytes() == (tmp_path / "embed.gguf").read_bytes()


@pytest.mark.parametrize("content", [None, 'id = "embed"\n', "id = ", "x = 1\n" + RECIPE.read_text()])
def test_a_recipe_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "wrong.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigInvalid, match=r"wrong\.toml"):
        export_embedder.read_embedder_recipe(path)
