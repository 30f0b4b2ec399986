"""The files of installed specialists on the disk: read within a bound, written wholly and read-only, or not at all."""

from __future__ import annotations

from pathlib import Path

from appliance.errors import ModelFileRefused
from appliance.specialists import durable_files
from appliance.specialists.durable_files import disk_errors

_FILE_MODE = 0o400


def read_file(path: Path, bytes_max: int) -> bytes:
    """The content. Raises `ModelFileRefused` if it cannot be read or is larger than `bytes_max`."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise ModelFileRefused(
            f"cannot read the specialist file {path}: {error.strerror}", hint="check that the file exists and its mode"
        ) from None
    if len(content) > bytes_max:
        raise ModelFileRefused(
            f"{path} is larger than {bytes_max} bytes", hint="raise specialists.file_bytes_max if you trust it"
        )
    return content


def write_file(place: Path, content: bytes) -> None:
    """All of it under its final name, or nothing; on stable storage when this returns. Raises `HomeError`."""
    with disk_errors(place):
        durable_files.write_durably(place, content, mode=_FILE_MODE)


def delete_file(place: Path) -> None:
    """The file is gone when this returns; one that is gone already is no error. Raises `HomeError`."""
    with disk_errors(place):
        place.unlink(missing_ok=True)
        durable_files.sync_folder(place.parent)
