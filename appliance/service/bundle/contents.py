"""What goes into a bundle: files by their paths in it, lock file of packages, list of software (SPDX), notices.

    contents = gather(wheels=Path("wheelhouse"), base_model=…, models=[…], debs=[…], runtime=…, source=…)
    lock = requirements(contents.wheels)            # name==version --hash=sha256:…, for pip --require-hashes
    sbom = spdx(contents.packages, version, created)

Licences and versions are read from the packages themselves, never from an index.
"""

from __future__ import annotations

import email
import hashlib
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from pathlib import Path
from typing import Any

from appliance.errors import InvalidRequest
from appliance.service.bundle.gpu_packs import read_pack
from appliance.specialists.base_model import MINILM, sha256_of_file

_INSTALLER = b"#!/bin/sh\n# Installs Cloister "
_WHEEL = re.compile(
    r"[A-Za-z0-9_.]+-[A-Za-z0-9_.+!]+(-[0-9][A-Za-z0-9_.]*)?-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+\.whl"
)
_LICENCE_FILE = re.compile(r"[^/]+\.dist-info/(licenses/.*|(LICEN[CS]E|COPYING|NOTICE)[^/]*)", re.IGNORECASE)
_SPDX_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_NOTICE_BYTES_MAX = 1024 * 1024
_METADATA_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Package:
    """One thing of somebody's in a bundle, as the list of software names it."""

    name: str
    version: str
    licence: str
    path: str
    sha256: str
    homepage: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """Files by their path in the bundle, and the packages among them."""

    files: dict[str, Path]
    packages: tuple[Package, ...]


def gather(
    *,
    wheels: Path,
    installer: Path,
    base_model: Path | None = None,
    models: Sequence[Path] = (),
    specialists: Sequence[Path] = (),
    debs: Sequence[Path] = (),
    runtime: Path | None = None,
    gpu_packs: Sequence[Path] = (),
) -> Contents:
    """Everything named, checked as far as it can be here. Raises `InvalidRequest` naming what is missing."""
    found = sorted(wheels.glob("*.whl"))
    if not any(path.name.startswith("cloister_appliance-") for path in found):
        raise InvalidRequest(f"{wheels} has no package cloister_appliance", hint="make the folder: make wheelhouse")
    packages = [read_wheel(path) for path in found]
    files = {f"wheels/{path.name}": path for path in found} | {"install.sh": _existing(installer)}
    with installer.open("rb") as script:
        if script.read(len(_INSTALLER)) != _INSTALLER:
            raise InvalidRequest(f"{installer} is not the install.sh of a release", hint="name that of this checkout")
    if base_model is not None:
        for name, size, digest in MINILM.files():
            path = _existing(base_model / name)
            if path.stat().st_size != size or sha256_of_file(path) != digest:
                raise InvalidRequest(f"{path} is not the published file of {MINILM.name}", hint="fetch it again")
            files[f"base/{name}"] = path
        weights = f"base/{MINILM.files()[0][0]}"
        packages.append(Package(MINILM.name, "1", "Apache-2.0", weights, MINILM.files()[0][2], ""))
    for folder in models:
        if not _existing(folder).is_dir():
            raise InvalidRequest(f"{folder} is no folder", hint="name one that `appliance models export` wrote")
        for path in sorted(folder.iterdir()):
            files[f"models/{folder.name}/{path.name}"] = path
            if path.suffix == ".gguf":
                inside = f"models/{folder.name}/{path.name}"
                packages.append(Package(folder.name, "1", "NOASSERTION", inside, sha256_of_file(path), ""))
    for where, several in (("specialists", specialists), ("debs", debs)):
        files |= {f"{where}/{path.name}": _existing(path) for path in several}
    if runtime is not None:
        files["runtime/python.tar.gz"] = _existing(runtime)
    for path in gpu_packs:
        packages.append(read_gpu_pack(path, packages))
        files[packages[-1].path] = path
    return Contents(files, tuple(packages))


def read_wheel(path: Path) -> Package:
    """What a wheel says of itself. Raises `InvalidRequest`."""
    try:
        if not _WHEEL.fullmatch(path.name):
            raise ValueError
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            (metadata,) = [name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            said = email.message_from_bytes(wheel.read(metadata)[:_METADATA_BYTES_MAX])
            notices = tuple(
                wheel.read(name)[:_NOTICE_BYTES_MAX].decode(errors="replace")
                for name in sorted(names)
                if _LICENCE_FILE.fullmatch(name) and not name.endswith("/")
            )
        name, version = str(said["Name"]), str(said["Version"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise InvalidRequest(f"{path} is no package that can be installed", hint="make the folder again") from None
    page = str(said.get("Home-page") or _project_page(said) or "")
    return Package(name, version, _licence(said), f"wheels/{path.name}", sha256_of_file(path), page, notices)


def read_gpu_pack(path: Path, packages: Iterable[Package]) -> Package:
    """A pack as the list of software names it. Raises `InvalidRequest` unless it is of the packages' llama.cpp."""
    found = read_pack(_existing(path))
    its = found.manifest.llama_cpp_python
    ours = {package.version for package in packages if package.name.replace("_", "-") == "llama-cpp-python"}
    if its not in ours:
        raise InvalidRequest(
            f"{path.name} was made for llama-cpp-python {its}, the wheels have {', '.join(ours) or 'none'}",
            hint="make it again from this release: make gpu-pack-cuda or make gpu-pack-vulkan",
        )
    licence = "MIT AND LicenseRef-NVIDIA" if found.manifest.kind == "cuda" else "MIT"
    name, inside = f"cloister-gpu-{found.manifest.kind}", f"gpu-packs/{path.name}"
    return Package(name, its, licence, inside, sha256_of_file(path), "", found.notices)


def requirements(packages: Iterable[Package]) -> str:
    """The lock file: every wheel with its hash. One package has one version."""
    versions: dict[str, str] = {}
    hashes: dict[str, list[str]] = {}
    for package in packages:
        if not package.path.startswith("wheels/"):
            continue
        name = re.sub(r"[-_.]+", "-", package.name).lower()
        if versions.setdefault(name, package.version) != package.version:
            raise InvalidRequest(
                f"the wheels have {name} in two versions: {versions[name]} and {package.version}",
                hint="empty the folder and make it again: make wheelhouse",
            )
        hashes.setdefault(name, []).append(package.sha256)
    return "".join(
        f"{name}=={versions[name]}" + "".join(f" --hash=sha256:{digest}" for digest in sorted(hashes[name])) + "\n"
        for name in sorted(versions)
    )


def notices(packages: Iterable[Package]) -> str:
    """Licence texts of everything, each text once, under the names of what has it."""
    by_text: dict[str, list[str]] = {}
    for package in packages:
        for text in package.notices:
            by_text.setdefault(text.strip(), []).append(f"{package.name} {package.version}")
    parts = ["Licences of the software in this bundle.\n"]
    for text, names in by_text.items():
        parts.append("=" * 79 + "\n" + ", ".join(sorted(set(names))) + "\n" + "=" * 79 + "\n\n" + text + "\n")
    return "\n".join(parts)


def spdx(packages: Sequence[Package], version: str, created: datetime) -> dict[str, Any]:
    """The list of software: SPDX 2.3, every package with its hash and, where it says one, its licence."""
    named = [(f"SPDXRef-Package-{number}", package) for number, package in enumerate(packages)]
    root = "SPDXRef-Bundle"
    digest = hashlib.sha256("".join(package.sha256 for package in packages).encode()).hexdigest()
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"cloister-appliance-{version}",
        "documentNamespace": f"https://cloister.example/spdx/cloister-appliance-{version}-{digest[:16]}",
        "creationInfo": {
            "created": f"{created:%Y-%m-%dT%H:%M:%SZ}",
            "creators": [f"Tool: cloister-appliance-{version}"],
        },
        "documentDescribes": [root],
        "packages": [
            {
                "SPDXID": root,
                "name": "cloister-appliance",
                "versionInfo": version,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": False,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "Apache-2.0",
                "copyrightText": "NOASSERTION",
            },
            *(_spdx_package(reference, package) for reference, package in named),
        ],
        "relationships": [
            {"spdxElementId": root, "relationshipType": "CONTAINS", "relatedSpdxElement": reference}
            for reference, _ in named
        ],
    }


def _spdx_package(reference: str, package: Package) -> dict[str, Any]:
    said: dict[str, Any] = {
        "SPDXID": reference,
        "name": package.name,
        "versionInfo": package.version,
        "packageFileName": package.path,
        "downloadLocation": package.homepage if package.homepage.startswith("http") else "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": package.sha256}],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": package.licence if _SPDX_EXPRESSION.fullmatch(package.licence) else "NOASSERTION",
        "copyrightText": "NOASSERTION",
    }
    if package.path.startswith("wheels/"):
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', package.name).lower()}@{package.version}"
        said["externalRefs"] = [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
        ]
    return said


def _licence(said: Message) -> str:
    """The licence expression, or the short text that older packages have in its place."""
    for name in ("License-Expression", "License"):
        text = str(said.get(name) or "").strip()
        if text and len(text) < 100 and "\n" not in text:
            return text
    return "NOASSERTION"


def _project_page(said: Message) -> str | None:
    for line in said.get_all("Project-URL") or ():
        label, _, url = str(line).partition(",")
        if label.strip().lower() in ("homepage", "repository", "source", "source code"):
            return url.strip()
    return None


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InvalidRequest(f"there is no {path}", hint="check the name")
    return path
