"""Whatever is wrong with a bundle or a machine is refused before anything was changed, with its exit status and the
remedy: every part of a bundle altered, media that lost something, bundles by others or of another time, and machines
that are too full, too small or not what was promised. The tree before and after is compared, in every case.

Machines are made wrong in a mount namespace of the test's own, which needs root: a small disk, other processors and
less memory in `/proc`.
"""

import os
import re
import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest

from appliance.service.bundle.contents import gather
from tests.e2e.offline import run_offline
from tests.install.install_site import PURGE, SCRIPT, snapshot, write_wheelhouse
from tests.install.test_install_bundle import ARCH, FOREVER, Site
from tests.service.bundle_maker import Maker, fingerprint

PLAN = {"arch": ARCH, "created": "2020-01-01", **FOREVER}
PARTS = (
    "root",
    "MANIFEST",
    "install.sh",
    "requirements.lock",
    "sbom.spdx.json",
    "NOTICES.txt",
    "wheels/llama_cpp_python-0.3.36-py3-none-any.whl",
    "models/small/weights.gguf",
    "debs/tool_1.0_all.deb",
    "specialists/ours.gguf",
    "runtime/python.tar.gz",
)
MODEL_MIB = 48


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    return Maker(tmp_path_factory.mktemp("maker"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model as far as its size goes."""
    folder = tmp_path_factory.mktemp("models") / "small"
    folder.mkdir()
    (folder / "weights.gguf").write_bytes(b"not a model")
    os.truncate(folder / "weights.gguf", MODEL_MIB * 2**20)
    return folder


@pytest.fixture(scope="module")
def contents(maker, model, tmp_path_factory):
    """One of everything that a bundle may hold. What is in it does not matter: it is never looked into."""
    folder = tmp_path_factory.mktemp("contents")
    for name in ("tool_1.0_all.deb", "ours.gguf", "python.tar.gz"):
        (folder / name).write_bytes(name.encode() * 50)
    return gather(
        wheels=maker.wheels,
        installer=SCRIPT,
        models=[model],
        debs=[folder / "tool_1.0_all.deb"],
        specialists=[folder / "ours.gguf"],
        runtime=folder / "python.tar.gz",
    )


@pytest.fixture(scope="module")
def bundles(maker):
    """Bundles by name, made when they are asked for."""
    made = {}

    def bundle(name, *, root=None, **more):
        if name not in made:
            root = root or maker.root(**FOREVER)
            made[name] = maker.bundle(name, root=root, **PLAN | {"serial": 17} | more)
        return made[name]

    return bundle


@pytest.fixture
def site(maker, tmp_path):
    return Site(tmp_path / "site", fingerprint(maker.root(**FOREVER)))


@pytest.fixture
def refused(site, tmp_path):
    """The installer refuses, says why and what to do, and nothing is there that was not there before."""
    site.folder.mkdir()

    def check(source, code, *words, verb="install", options=()):
        before = snapshot(site.folder)
        done = site.install(source, *options, verb=verb)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "hint: " in done.stderr and all(word in said for word in words), said
        assert snapshot(site.folder) == before

    return check


def unpacked(bundle, folder):
    with tarfile.open(bundle.path) as archive:
        archive.extractall(folder, filter="data")
    return folder


def altered(folder, part):
    """The bundle as a folder, with one bit of one file changed."""
    place = folder / part
    with place.open("r+b") as file:
        file.seek(place.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    return folder


@pytest.mark.parametrize("part", PARTS)
def test_one_altered_bit_in_any_part_of_a_bundle(bundles, contents, refused, tmp_path, part):
    whole = bundles("everything", contents=contents)
    with tarfile.open(whole.path) as archive:
        assert {name for name in archive.getnames() if not name.startswith("wheels/cloister")} == set(PARTS)
    refused(altered(unpacked(whole, tmp_path / "usb"), part), 4)


def test_a_bundle_by_another_key(maker, bundles, refused, tmp_path):
    """Its root is another one; and where that is replaced by ours, nobody whom ours names has signed."""
    theirs = bundles("theirs", key="stranger", root=maker.root(release=("stranger",), **FOREVER))
    refused(theirs.path, 4, "another fingerprint", "do not install; report it")
    folder = unpacked(theirs, tmp_path / "usb")
    (folder / "root").write_text(maker.root(**FOREVER))
    refused(folder, 4, "no release key signed")


def test_a_root_that_too_few_signed(maker, bundles, refused, tmp_path):
    folder = unpacked(bundles("n"), tmp_path / "usb")
    (folder / "root").write_text(maker.root("root-a", **FOREVER))
    refused(folder, 4, "too few root keys")


def test_a_stick_without_one_of_its_parts(bundles, refused):
    split = bundles("split", part_bytes=20_000)
    whole = split.parts[1].read_bytes()
    for left in (whole[:-1], whole[: len(whole) // 2], b"", None):
        split.parts[1].unlink()
        if left is not None:
            split.parts[1].write_bytes(left)
        refused(split.path.parent, 4, split.parts[1].name, "copy that part again")
        split.parts[1].touch()
    split.parts[1].write_bytes(bytes(len(whole)))
    refused(split.path.parent, 4)


def test_a_bundle_of_another_time_than_the_installed_one(bundles, site, refused):
    assert site.install(bundles("new", serial=18).path).returncode == 0
    refused(bundles("old", serial=16).path, 5, "older than the installed one, 18", verb="upgrade")
    refused(bundles("old").path, 5, "--allow-downgrade")
    refused(bundles("far", serial=30, min_from=25).path, 3, "install the bundle with serial 25 first", verb="upgrade")
    done = site.install(bundles("old").path, "--allow-downgrade", verb="upgrade")
    assert done.returncode == 0, done.stdout + done.stderr


# --- machines -----------------------------------------------------------------------------------------------------


def on_a_machine(site, preparation, verb, *options):
    """The installer where `preparation`, shell commands, changed what the machine looks like; for this run alone."""
    assert os.geteuid() == 0, "changing what a machine looks like needs root"
    words = ["sh", str(SCRIPT), *site.command(verb, *options)[2:]]
    script = f"mount --make-rprivate /\n{preparation}\nexec {shlex.join(words)}"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script], capture_output=True, text=True, timeout=600, cwd=site.folder
    )


def shown(path, content, tmp_path):
    """A preparation: `path` reads as this."""
    fake = tmp_path / Path(path).name
    fake.write_text(content)
    return f"mount --bind {fake} {path}"


def with_memory(mib):
    return re.sub(r"MemTotal: +\d+", f"MemTotal: {mib * 1024}", Path("/proc/meminfo").read_text())


def with_bundle(site, bundle):
    return ["--yes", "--bundle", str(bundle.path), "--trust-fingerprint", site.fingerprint]


@pytest.fixture
def place(site):
    site.folder.mkdir()
    return site


@pytest.mark.parametrize("which", ["prefix", "data", "both and the copy of the bundle"])
def test_a_disk_that_is_full(place, bundles, which):
    options = ["--yes", "--wheels", str(write_wheelhouse(place.folder.parent / "wheels"))]
    folder = place.folder
    if which.startswith("both"):
        options = with_bundle(place, bundles("n"))
    else:
        folder = getattr(place, which)
        folder.mkdir()
    before = snapshot(place.folder)
    done = on_a_machine(place, f"mount -t tmpfs -o size=3m none {folder}", "install", *options)
    assert done.returncode == 3, done.stdout + done.stderr
    if which.startswith("both"):
        assert "are needed at" in done.stderr and "free some space" in done.stderr
    else:
        assert re.search(rf"^FAIL  {which} folder .*: \d MiB free\n      make room: \d+ MiB", done.stdout, re.MULTILINE)
    assert snapshot(place.folder) == before


def test_a_disk_that_has_no_room_for_another_release(place, bundles):
    """What is installed goes on, and finds at the next run that nothing is to be done."""
    assert place.install(bundles("n").path).returncode == 0
    before = snapshot(place.folder)
    small = f"cp -a {place.prefix}/. {place.folder.parent}/kept; mount -t tmpfs -o size=400m none {place.prefix}\n"
    small += f"cp -a {place.folder.parent}/kept/. {place.prefix}"
    (place.folder.parent / "kept").mkdir()
    done = on_a_machine(place, small, "upgrade", *with_bundle(place, bundles("new", serial=18)))
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.search(r"^FAIL  prefix folder .*: \d+ MiB free\n      make room: 2048 MiB", done.stdout, re.MULTILINE)
    again = on_a_machine(place, small, "install", *with_bundle(place, bundles("n")))
    assert again.returncode == 0 and "no change" in again.stdout, again.stdout + again.stderr
    assert snapshot(place.folder) == before


def test_default_folders_that_are_links_are_followed_to_the_end(place, bundles):
    """A site whose large disk is elsewhere: later runs find what the first one made, and purging deletes it there."""
    program, data = place.folder / "large" / "program", place.folder / "large" / "data"
    for folder in (program, data):
        folder.mkdir(parents=True)
    links = [("/opt", "cloister", program), ("/var/lib", "cloister", data)]
    there = "\n".join(f"mount -t tmpfs none {at}; ln -s {to} {at}/{name}" for at, name, to in links)
    bundle = ["--bundle", str(bundles("n").path)]
    options = ["--yes", "--user", "root", "--no-service", "--port", "8947"]
    runs = [
        ["sh", SCRIPT, "install", *options, *bundle, "--trust-fingerprint", place.fingerprint],
        ["sh", "/opt/cloister/install.sh", "install", *bundle],
        ["sh", "/opt/cloister/install.sh", "uninstall", *PURGE],
    ]
    script = "\n".join(["mount --make-rprivate /", there, *(shlex.join(map(str, words)) for words in runs)])
    done = subprocess.run(["unshare", "--mount", "sh", "-euc", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"is installed in {program} already: no change" in done.stdout
    assert {path for path in place.folder.rglob("*") if path.name != "calls.txt"} == {program.parent, program}


def test_a_prefix_that_forbids_programs(place):
    place.prefix.mkdir()
    wheels = write_wheelhouse(place.folder.parent / "wheels")
    mount = f"mount -t tmpfs -o size=3g,noexec none {place.prefix}"
    done = on_a_machine(place, mount, "install", "--yes", "--wheels", str(wheels))
    assert done.returncode == 3 and "forbids running programs (noexec)" in done.stdout, done.stdout + done.stderr
    assert snapshot(place.prefix) == {}


@pytest.mark.parametrize(
    ("mib", "code", "words"),
    [
        (900, 3, "FAIL  900 MiB of memory"),
        (1024 + MODEL_MIB // 2, 3, "FAIL  the model small of the bundle needs"),
        (4096, 0, "PASS  4096 MiB of memory"),
    ],
)
def test_a_machine_with_too_little_memory_for_what_the_bundle_brings(
    place, maker, bundles, model, tmp_path, mib, code, words
):
    contents = gather(wheels=maker.wheels, installer=SCRIPT, models=[model])
    options = with_bundle(place, bundles("a-model", contents=contents))
    done = on_a_machine(place, shown("/proc/meminfo", with_memory(mib), tmp_path), "preflight", *options)
    assert done.returncode == code and words in done.stdout, done.stdout + done.stderr
    assert snapshot(place.folder) == {}


def test_a_processor_without_avx2_is_slow_and_is_told_so(place, bundles, tmp_path):
    cpus = re.sub(r" avx\w*", "", Path("/proc/cpuinfo").read_text())
    options = with_bundle(place, bundles("n"))
    done = on_a_machine(place, shown("/proc/cpuinfo", cpus, tmp_path), "preflight", *options)
    assert done.returncode == 0 and re.search(r"WARN  .*AVX2\n      .*slower", done.stdout), done.stdout + done.stderr
    assert snapshot(place.folder) == {}


def test_an_installation_from_a_bundle_sends_no_packet(place, bundles):
    bundle = bundles("n")
    words = place.command("install", *with_bundle(place, bundle))
    done, attempts = run_offline(place.folder.parent, *words, timeout_s=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(attempts.values()) == {0}, attempts
