"""A model is pinned before it is fetched and checked after; a broken line is continued; and what the hub cannot give is
said with the remedy. The library that talks to the hub is the real one, the hub is one of the tests.
"""

import hashlib

import pytest

from appliance.config import ModelsConfig
from appliance.errors import HomeFull, ModelFileRefused, ModelNotFound, ModelSourceUnavailable, UnknownOption
from appliance.specialists.language_models.hub import Hub, choose, download
from appliance.specialists.language_models.library import no_progress
from tests.fake_hub import COMMIT, fake_hub

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def served():
    repositories = {
        "me/one-GGUF": {"one.gguf": CONTENT, "README.md": b"hello"},
        "me/two-GGUF": {"a.gguf": CONTENT, "b.gguf": CONTENT},
        "me/parts": {"big-00001-of-00002.gguf": CONTENT},
        "me/none": {"model.safetensors": CONTENT},
        "me/gated": {"g.gguf": CONTENT},
    }
    with fake_hub(repositories) as hub:
        hub.gated = {"me/gated"}
        yield hub


def asking(served, **values) -> Hub:
    return Hub(ModelsConfig(hub_url=served.url, connect_s=5, **{"disk_free_bytes_min": 0, **values}))


def test_file_is_pinned_by_commit_and_hash_then_fetched(served, tmp_path):
    choice = choose(asking(served), "me/one-GGUF")
    assert (choice.revision, choice.file, choice.size, choice.sha256) == (COMMIT, "one.gguf", len(CONTENT), DIGEST)
    assert choice.licence == "mit"
    seen = []
    path = download(asking(served), choice, tmp_path, lambda done, size: seen.append((done, size)))
    assert path.read_bytes() == CONTENT and seen[-1] == (len(CONTENT), len(CONTENT))
    assert {COMMIT in path for method, path, _ in served.requests if "/resolve/" in path} == {True}


def test_broken_download_is_continued_where_it_ended(served, tmp_path):
    piece = 10 * 1024 * 1024  # what the library writes at once
    long = CONTENT * (2 * piece // len(CONTENT) + 1)
    served.repositories["me/long"] = {"long.gguf": long}
    served.cut_after_bytes = piece + 1000
    path = download(asking(served), choose(asking(served), "me/long"), tmp_path, no_progress)
    assert path.read_bytes() == long
    ranges = [sent for method, _, sent in served.requests if method == "GET" and sent.startswith("bytes=")]
    assert any(sent.startswith(f"bytes={piece}-") for sent in ranges), ranges


def test_file_that_is_not_the_listed_one_is_refused_and_not_kept(served, tmp_path):
    served.lying = True
    choice = choose(asking(served), "me/one-GGUF")
    with pytest.raises(ModelFileRefused, match=DIGEST):
        download(asking(served), choice, tmp_path, no_progress)
    assert not list(tmp_path.glob("*.gguf"))


@pytest.mark.parametrize(
    ("repository", "options", "error", "words"),
    [
        ("me/two-GGUF", {}, UnknownOption, ("a.gguf", "b.gguf", "me/two-GGUF:FILE")),
        ("me/two-GGUF", {"file": "c.gguf"}, ModelNotFound, ("c.gguf", "a.gguf, b.gguf")),
        ("me/parts", {}, ModelFileRefused, ("split",)),
        ("me/none", {}, ModelNotFound, ("no GGUF",)),
        ("me/gated", {}, ModelSourceUnavailable, ("terms", "--token-file")),
        ("me/nowhere", {}, ModelNotFound, ("me/nowhere",)),
        ("me/one-GGUF", {"revision": "v9"}, ModelNotFound, ("revision",)),
        ("not a name", {}, UnknownOption, ("OWNER/NAME",)),
    ],
)
def test_what_the_hub_cannot_give_is_said_with_the_remedy(served, repository, options, error, words):
    with pytest.raises(error) as refused:
        choose(asking(served), repository, **options)
    said = f"{refused.value.message} {refused.value.hint}"
    assert all(word in said for word in words), said


def test_hub_that_cannot_be_reached_is_said_with_the_way_of_an_air_gapped_site(served):
    unreachable = Hub(ModelsConfig(hub_url="http://127.0.0.1:9", connect_s=0.5))
    with pytest.raises(ModelSourceUnavailable) as refused:
        choose(unreachable, "me/one-GGUF")
    assert "models export" in refused.value.hint and "import" in refused.value.hint


def test_model_that_does_not_fit_the_disk_is_refused_before_it_is_fetched(served, tmp_path):
    choice = choose(asking(served), "me/one-GGUF")
    with pytest.raises(HomeFull):
        download(asking(served, disk_free_bytes_min=2**62), choice, tmp_path, no_progress)
    assert not [path for _, path, _ in served.requests if "/resolve/" in path]
