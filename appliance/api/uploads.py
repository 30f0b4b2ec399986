"""Files in a request (multipart/form-data), kept in memory: what people upload may be about patients.

    form = await read_form(request, files=("file", "signature"), fields=("reason",))
    form.files["file"].content, form.fields.get("reason", "")

Starlette would put what is larger than a megabyte into a folder for temporary files. How large a body may be, and so
how much is held, `limits.py` has enforced before a route begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from appliance.config import Config
from appliance.errors import InvalidRequest

ENVELOPE_BYTES = 256 * 1024  # boundaries, headers, a signature and small fields beside the file
_FIELD_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file, with the name it had on the client's machine."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """Files and fields by name; those that were not sent are missing."""

    files: dict[str, UploadedFile]
    fields: dict[str, str]


def upload_sizes(config: Config) -> dict[str, int]:
    """Which paths take files, and the bytes that the body of each may have."""
    return {
        "/v1/specialists": config.specialists.file_bytes_max + ENVELOPE_BYTES,
        "/v1/teaching/tables": config.teaching.table_bytes_max + ENVELOPE_BYTES,
    }


async def read_form(request: Request, *, files: Sequence[str], fields: Sequence[str] = ()) -> Form:
    """The files and fields of a form. Raises `InvalidRequest` for a missing first file or an unknown name."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequest(
            "the request body is not a form with a file", hint=f"send multipart/form-data with a file {files[0]!r}"
        )
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=len(files),
        max_fields=len(fields),
        max_part_size=_FIELD_BYTES_MAX,
    )
    parser.spool_max_size = 2**62  # never to the disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError):
        raise InvalidRequest("the form of the request cannot be read", hint="send it as browsers do") from None
    found = Form({}, {})
    try:
        for name, value in form.multi_items():
            if name not in (files if isinstance(value, UploadFile) else fields) or name in found.files | found.fields:
                raise InvalidRequest(
                    f"the form has an unexpected part {name[:32]!r}", hint=f"it takes {', '.join((*files, *fields))}"
                )
            if isinstance(value, UploadFile):
                found.files[name] = UploadedFile((value.filename or "")[:128], await value.read())
            else:
                found.fields[name] = value
    finally:
        await form.close()
    if files[0] not in found.files:
        raise InvalidRequest(f"the form has no file {files[0]!r}", hint="choose a file")
    return found


def form_description(files: Sequence[str], required: Sequence[str], fields: Sequence[str] = ()) -> dict[str, object]:
    """What `/openapi.json` says of such a request."""
    parts = {name: {"type": "string", "format": "binary"} for name in files}
    texts = {name: {"type": "string"} for name in fields}
    schema = {"type": "object", "properties": parts | texts, "required": list(required)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
