"""What several tests of the API share: a model that writes, in the data folder of the one real server."""

import pytest

from appliance.config import Home, ModelsConfig
from appliance.specialists.language_models.library import ModelLibrary, Origin
from benchmarks.random_decoder import TINY, write_decoder


@pytest.fixture(scope="session")
def model(server, tmp_path_factory) -> str:
    """The id of a real decoder with random weights: its answers are nonsense that obeys every rule."""
    path = tmp_path_factory.mktemp("decoder") / "tiny-writer.gguf"
    write_decoder(path, TINY, seed=7)
    config = ModelsConfig(disk_free_bytes_min=0)
    return ModelLibrary(Home(server.home), config).add(path, Origin(kind="file", file=path.name), added_by="t").id
