"""A GPU pack travels as it was made, and goes only into a bundle whose llama.cpp is its own."""

import gzip
import io
import tarfile

import pytest

from appliance.engine.gpu_pack import FORMAT, GGML_API, PackManifest, decode_manifest
from appliance.errors import InvalidRequest
from appliance.service.bundle.gpu_packs import describe, main, read_pack, told, write_pack
from tests.service.bundle_maker import Maker, fingerprint, verify

FILES = {"libcudart.so.13": b"runtime", "libggml-cuda.so": b"kernels" * 1000, "LICENSE.txt": b"May be passed on."}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pack").mkdir()
    for name, content in FILES.items():
        (tmp_path / "pack" / name).write_bytes(content)
    return tmp_path / "pack"


def manifest(folder, *, llama="0.3.36", libraries=("libcudart.so.13", "libggml-cuda.so"), **changed) -> PackManifest:
    values = {"kind": "cuda", "toolkit": "13.0.88", "driver_min": "580", "architectures": ("90-real",)} | changed
    described = describe(folder, libraries), describe(folder, ("LICENSE.txt",))
    return PackManifest(FORMAT, values.pop("kind"), llama, "0.25.3-0c1e570", GGML_API, *values.values(), *described)


def test_a_pack_reads_back_as_it_was_written_and_the_same_files_give_the_same_bytes(folder, tmp_path):
    made = manifest(folder)
    path = write_pack(folder, made, tmp_path)
    first = path.read_bytes()
    assert (read_pack(path).manifest, read_pack(path).notices) == (made, ("May be passed on.",))
    assert path.name.startswith("cloister-gpu-cuda-0.3.36-")
    assert write_pack(folder, made, tmp_path).read_bytes() == first
    with tarfile.open(path) as archive:
        names = archive.getnames()
        assert decode_manifest(archive.extractfile("pack.json").read()) == made
    assert names == ["pack.json", "libcudart.so.13", "libggml-cuda.so", "LICENSE.txt"]


def test_a_pack_is_told_in_one_line(folder):
    assert told(manifest(folder)) == (
        "cuda 13.0.88, for 90-real, for llama-cpp-python 0.3.36, needs NVIDIA's driver 580 or later"
    )


def test_what_the_build_wrote_is_packed_by_the_command_that_it_calls(folder, tmp_path, capsys):
    words = ["--kind", "vulkan", "--toolkit", "2023.2", "--llama", "0.3.36", "--ggml", "0.25.3-0c1e570"]
    main([str(folder), str(tmp_path), *words, "--library", "libggml-cuda.so", "--notice", "LICENSE.txt"])
    (path,) = tmp_path.glob("*.tar.gz")
    assert read_pack(path).manifest.kind == "vulkan" and str(path) in capsys.readouterr().out


@pytest.mark.parametrize("changed", [{"libraries": ()}, {"driver_min": "newest"}])
def test_what_no_engine_would_read_is_not_written(folder, tmp_path, changed):
    with pytest.raises(InvalidRequest, match="make no GPU pack"):
        write_pack(folder, manifest(folder, **changed), tmp_path)


def rewritten(path, change):
    """The archive with its members changed by `change`, a function of name and content; None drops one."""
    packed = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=packed, mode="w") as new:
        for member in old:
            content = change(member.name, old.extractfile(member).read())
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue()))
    return path


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda name, content: content if name != "libggml-cuda.so" else b"?" + content[1:], "with another hash"),
        (lambda name, content: content if name != "libggml-cuda.so" else content + b"!", "not as it says"),
        (lambda name, content: content if name != "libcudart.so.13" else None, "lacks libcudart.so.13"),
        (lambda name, content: content if name != "pack.json" else None, "is no GPU pack"),
        (lambda name, content: content if name != "pack.json" else b"{}", "is no GPU pack"),
    ],
)
def test_a_pack_with_an_altered_missing_or_unnamed_file_is_refused(folder, tmp_path, change, why):
    path = rewritten(write_pack(folder, manifest(folder), tmp_path), change)
    with pytest.raises(InvalidRequest, match=why):
        read_pack(path)


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_half_a_pack_is_refused(folder, tmp_path, keep):
    path = write_pack(folder, manifest(folder), tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidRequest, match="GPU pack"):
        read_pack(path)


def test_a_bundle_carries_the_pack_of_its_own_llama_cpp_and_no_other(folder, tmp_path):
    maker = Maker(tmp_path / "maker")
    path = write_pack(folder, manifest(folder), tmp_path)
    root = maker.root()
    contents = maker.contents(gpu_packs=[path])
    made = maker.bundle("with-pack", root=root, contents=contents)
    status, _, _ = verify(made.path, tmp_path, "--fingerprint", fingerprint(root))
    assert status == 0 and (tmp_path / "stage" / "gpu-packs" / path.name).read_bytes() == path.read_bytes()
    named = {package.name: package for package in contents.packages}["cloister-gpu-cuda"]
    assert (named.version, named.licence) == ("0.3.36", "MIT AND LicenseRef-NVIDIA")
    assert "May be passed on." in (tmp_path / "stage" / "NOTICES.txt").read_text()
    other = write_pack(folder, manifest(folder, llama="0.3.35"), tmp_path)
    with pytest.raises(InvalidRequest, match=r"made for llama-cpp-python 0.3.35, the wheels have 0.3.36"):
        maker.contents(gpu_packs=[other])
