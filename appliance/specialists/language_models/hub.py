"""Fetching a model that writes from the Hugging Face hub or a mirror inside the site, on a connected machine.

    choice = choose(hub, "Qwen/Qwen3-4B-GGUF", file="", revision="main")     # Choice: file, commit, size, SHA-256
    path = download(hub, choice, folder, progress)                           # resumes, checked against that SHA-256

What is taken is pinned before the first byte: the commit that the revision names now, and the SHA-256 that the hub
lists for the file. Never imported when serving.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import HFValidationError, disable_progress_bars
from tqdm.auto import tqdm

from appliance.config import ModelsConfig
from appliance.errors import HomeFull, ModelFileRefused, ModelNotFound, ModelSourceUnavailable, UnknownOption
from appliance.specialists.language_models.library import Progress, sha256_of

# The bases of the hub's own HTTP error are the root errors of whichever HTTP library it uses.
_HUB_ERRORS: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Hub:
    """Where models are asked for. `token`: for repositories that want one; never stored."""

    config: ModelsConfig
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One file of one commit."""

    repository: str
    revision: str
    file: str
    size: int
    sha256: str
    licence: str


def choose(hub: Hub, repository: str, *, file: str = "", revision: str = "main") -> Choice:
    """Pin what is to be fetched. Without `file` the repository must hold one GGUF file only.

    Raises `ModelNotFound` (no such repository, revision or file, with what there is), `UnknownOption`,
    `ModelSourceUnavailable`, `ModelFileRefused` (the hub lists no SHA-256, or the model is split).
    """
    info = _asked(hub, repository, lambda api: _info(api, hub, repository, revision))
    files = {sibling.rfilename: sibling for sibling in info.siblings or () if sibling.rfilename.endswith(".gguf")}
    if not files:
        raise ModelNotFound(
            f"{repository} holds no GGUF file", hint="look for a repository of the model whose name ends in -GGUF"
        )
    wanted = file or _only(repository, files)
    if wanted not in files:
        raise ModelNotFound(f"{repository} has no file {wanted[:100]!r}", hint=f"it has {_named(files)}")
    if _PART.search(wanted):
        raise ModelFileRefused(
            f"{wanted} is one part of a model that was split",
            hint="choose a file that is whole, or join the parts elsewhere and use: appliance models import",
        )
    lfs = files[wanted].lfs
    if lfs is None or not _SHA256.fullmatch(lfs.sha256 or ""):
        raise ModelFileRefused(
            f"{repository} lists no SHA-256 for {wanted}", hint="download it yourself and use: appliance models import"
        )
    card: Any = info.card_data
    licence = card.get("license", "") if card is not None else ""
    return Choice(repository, str(info.sha), wanted, int(lfs.size), lfs.sha256, str(licence or "")[:100])


def download(hub: Hub, choice: Choice, folder: Path, progress: Progress) -> Path:
    """The file in `folder`; what an earlier try left there is continued. Its SHA-256 is the one that was pinned.

    Raises `HomeFull` before anything is fetched, `ModelSourceUnavailable`, `ModelFileRefused` (nothing is kept).
    """
    free = shutil.disk_usage(folder).free
    if free < choice.size + hub.config.disk_free_bytes_min:
        raise HomeFull(
            f"the model needs {choice.size // 2**20} MiB and the disk of {folder} has {free // 2**20} MiB left",
            hint="free some space; the audit log on the same disk must never run out of it",
        )

    def fetch(_: HfApi) -> str:
        disable_progress_bars()  # ours is shown instead; the hub's own would be drawn beside it
        return hf_hub_download(
            choice.repository,
            choice.file,
            revision=choice.revision,
            local_dir=folder,
            token=hub.token or False,
            endpoint=hub.config.hub_url,
            etag_timeout=hub.config.connect_s,
            tqdm_class=_reporting(progress, choice.size),
        )

    path = Path(_asked(hub, choice.repository, fetch))
    digest = sha256_of(path, progress)
    if digest != choice.sha256:
        path.unlink()
        raise ModelFileRefused(
            f"{choice.file} is not the file that {choice.repository} lists: its SHA-256 is {digest}",
            hint=f"expected {choice.sha256}; nothing was kept",
        )
    return path


def _info(api: HfApi, hub: Hub, repository: str, revision: str) -> Any:
    return api.model_info(repository, revision=revision, files_metadata=True, timeout=hub.config.connect_s)


def _asked(hub: Hub, repository: str, work: Callable[[HfApi], Any]) -> Any:
    """Ask, and say in our words why there is no answer."""
    try:
        return work(HfApi(endpoint=hub.config.hub_url, token=hub.token or False))
    except HFValidationError:
        raise UnknownOption(
            f"{repository[:100]!r} cannot be a repository", hint="repositories are named OWNER/NAME"
        ) from None
    except GatedRepoError:
        raise ModelSourceUnavailable(
            f"{repository} is given only to those who accepted its terms",
            hint="accept them on the hub, and give the token of that account with --token-file",
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise ModelNotFound(
            f"{hub.config.hub_url} has no repository {repository[:100]!r} with that revision",
            hint="check the spelling of OWNER/NAME and --revision; a private one needs --token-file",
        ) from None
    except _HUB_ERRORS as error:
        raise ModelSourceUnavailable(
            f"{hub.config.hub_url} cannot be reached ({type(error).__name__})",
            hint="pull on a connected machine, `appliance models export` there, carry the folder, and import it here",
        ) from None


def _only(repository: str, files: dict[str, Any]) -> str:
    if len(files) > 1:
        raise UnknownOption(
            f"{repository} holds {len(files)} GGUF files: {_named(files)}", hint=f"name one: {repository}:FILE"
        )
    return next(iter(files))


def _named(files: dict[str, Any]) -> str:
    shown = sorted(files)[:_SHOWN_MAX]
    return ", ".join(shown) + (f" and {len(files) - len(shown)} more" if len(files) > len(shown) else "")


def _reporting(progress: Progress, size: int) -> type[tqdm]:
    """The class of progress bar that the library is to use: it draws nothing and passes numbers on."""

    class Reporting(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options["disable"] = True
            self._done = int(options.get("initial") or 0)
            super().__init__(*arguments, **options)

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            progress(min(self._done, size), size)
            return None

    return Reporting
