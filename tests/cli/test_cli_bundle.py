"""`appliance bundle` from the terminal: what is made is shown and verified in words, GPU packs among it."""

import json

from appliance.engine.gpu_pack import FORMAT, GGML_API, PackManifest
from appliance.service.bundle.gpu_packs import describe, write_pack
from tests.conftest import run_appliance
from tests.install.install_site import SCRIPT
from tests.service.bundle_maker import Maker, fingerprint


def test_a_bundle_with_a_gpu_pack_is_made_shown_and_verified(tmp_path):
    maker = Maker(tmp_path / "maker")
    root = maker.root()
    (tmp_path / "root").write_text(root)
    (tmp_path / "libggml-cuda.so").write_bytes(b"kernels")
    libraries = describe(tmp_path, ["libggml-cuda.so"])
    manifest = PackManifest(FORMAT, "cuda", "0.3.36", "0.25.3-x", GGML_API, "13.0", "580", ("90-real",), libraries)
    pack = write_pack(tmp_path, manifest, tmp_path)
    words = [
        "--out",
        tmp_path,
        "--serial",
        3,
        "--key",
        maker.folder / "keys" / "release-1",
        "--root",
        tmp_path / "root",
    ]
    words += ["--wheels", maker.wheels, "--installer", SCRIPT, "--gpu-pack", pack]
    made = run_appliance("bundle", "create", *map(str, words))
    assert made.returncode == 0, made.stderr
    bundle = made.stdout.decode().strip()
    shown = run_appliance("bundle", "show", bundle).stdout.decode()
    assert f"gpu packs    {pack.name}" in shown and f"gpu-packs/{pack.name}" in shown
    verify = ["bundle", "verify", bundle, "--fingerprint", fingerprint(root)]
    said = run_appliance(*verify).stdout.decode()
    told = "cuda 13.0, for 90-real, for llama-cpp-python 0.3.36, needs NVIDIA's driver 580 or later"
    assert said.startswith("verified: ") and f"GPU pack: {told}\n" in said
    assert json.loads(run_appliance(*verify, "--json").stdout)["gpu_packs"] == [told]
    pack.write_bytes(pack.read_bytes()[:-30])
    refused = run_appliance("bundle", "create", *map(str, words))
    assert refused.returncode == 4 and b"cannot be read as a GPU pack" in refused.stderr
