"""A bundle is believed only as a whole and only by who trusts its root: every other one is refused before anything of
it is executed, with the exit status that says why, and nothing on the machine has changed.

The verifier runs as the program that it is, without the product. Its signatures are compared with `cryptography`.
"""

import json
import os
import re
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.crypto import signing
from appliance.errors import HomeExists, InvalidRequest
from appliance.service.bundle import bundleverify
from appliance.service.bundle.contents import gather, requirements
from appliance.service.bundle.create import create_bundle, hashes_of
from appliance.service.bundle.release_keys import add_signature, read_key
from tests.service.bundle_maker import Maker, commit, fingerprint, verify


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    return Maker(tmp_path_factory.mktemp("maker"))


@pytest.fixture(scope="module")
def whole(maker):
    return maker.bundle("whole")


def trusted(maker, **options):
    return ("--fingerprint", fingerprint(maker.root(**options)))


def unpacked(bundle, folder):
    folder.mkdir()
    with tarfile.open(bundle.path) as archive:
        archive.extractall(folder, filter="data")
    return folder


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refused(code, found, place, *words):
    status, said, error = found
    assert (status, said) == (code, None), error
    assert error.startswith("bundle: error: ") and "\nhint: " in error and all(word in error for word in words), error
    assert not (place / "trust").exists()


def test_a_bundle_verifies_and_its_copy_holds_what_was_signed_and_nothing_else(maker, whole, tmp_path):
    status, said, _ = verify(whole.path, tmp_path, *trusted(maker))
    assert (status, said["version"], said["serial"], said["warnings"]) == (0, "0.1.0", 17, [])
    staged = files_below(tmp_path / "stage")
    assert staged == sorted(
        ["root", "MANIFEST", "install.sh", "requirements.lock", "sbom.spdx.json", "NOTICES.txt"]
        + [f"wheels/{path.name}" for path in maker.wheels.iterdir()]
    )
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "stage").rglob("*") if path.is_file())


def test_the_same_contents_give_the_same_bytes(maker, whole):
    again = maker.bundle("again")
    assert again.path.read_bytes() == whole.path.read_bytes()


def test_a_serial_is_given_once(maker, whole):
    inputs = (maker.contents(), maker.plan(), maker.people["release-1"], maker.root(), whole.path.parent)
    with pytest.raises(HomeExists, match="exists already"):
        create_bundle(*inputs, progress=lambda _: None)
    assert [path.name for path in whole.path.parent.iterdir()] == [whole.path.name]


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"arch": "x/y"}, "'x/y' is no arch"),
        ({"glibc": "2 34"}, "'2 34' is no glibc"),
        ({"python": ""}, "'' is no python"),
        ({"serial": 5, "min_from": 6}, "serial 5 cannot follow serial 6"),
        ({"expires": "2026-10-31"}, "2026-10-31 is over"),
    ],
)
def test_a_bundle_that_cannot_be_meant_is_not_made(maker, plan, why):
    with pytest.raises(InvalidRequest, match=re.escape(why)):
        maker.bundle(f"not-meant-{why.replace('/', '-')}", **plan)


def test_what_is_no_installer_and_no_folder_of_a_model_is_named(maker, tmp_path):
    (tmp_path / "other").write_text("#!/bin/sh\nrm -rf /\n")
    for installer, why in ((tmp_path / "other", "is not the install.sh"), (tmp_path / "none", "there is no")):
        with pytest.raises(InvalidRequest, match=why):
            gather(wheels=maker.wheels, installer=installer)
    with pytest.raises(InvalidRequest, match="other is no folder"):
        maker.contents(models=[tmp_path / "other"])


def test_a_disk_that_takes_no_bundle_is_named_as_that(maker, tmp_path):
    closed = tmp_path / "closed"
    closed.write_text("a file where a folder was meant")
    with pytest.raises(InvalidRequest, match=r"cannot make .*-77-x86_64\.bundle: Not a directory"):
        create_bundle(
            maker.contents(), maker.plan(77), maker.people["release-1"], maker.root(), closed, progress=lambda _: None
        )


def test_a_folder_with_the_files_is_as_good_as_the_bundle(maker, whole, tmp_path):
    folder = unpacked(whole, tmp_path / "usb")
    assert verify(folder, tmp_path, *trusted(maker))[0] == 0


PARTS = [
    "root",
    "MANIFEST",
    "install.sh",
    "requirements.lock",
    "sbom.spdx.json",
    "wheels/llama_cpp_python-0.3.36-py3-none-any.whl",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("form", ["folder", "bundle"])
def test_one_altered_byte_anywhere_is_refused(maker, whole, tmp_path, part, form):
    if form == "folder":
        source = unpacked(whole, tmp_path / "usb")
        content = bytearray((source / part).read_bytes())
        content[len(content) // 2] ^= 1
        (source / part).write_bytes(content)
    else:
        source = tmp_path / whole.path.name
        content = bytearray(whole.path.read_bytes())
        with tarfile.open(whole.path) as archive:
            member = archive.getmember(part)
        content[member.offset_data + member.size // 2] ^= 1
        source.write_bytes(content)
    refused(4, verify(source, tmp_path, *trusted(maker)), tmp_path)


def link(folder):
    (folder / "wheels" / "evil.whl").symlink_to("/etc/passwd")


def replaced_by_link(folder):
    (folder / "NOTICES.txt").unlink()
    (folder / "NOTICES.txt").symlink_to("install.sh")


def setuid(folder):
    (folder / "install.sh").chmod(0o4755)


def pipe(folder):
    os.mkfifo(folder / "wheels" / "pipe.whl")


FOLDERS = {
    "a file too many": lambda folder: (folder / "wheels" / "evil.whl").write_bytes(b"x"),
    "a link": link,
    "a file that became a link": replaced_by_link,
    "a setuid bit": setuid,
    "a named pipe": pipe,
    "a missing file": lambda folder: (folder / "sbom.spdx.json").unlink(),
    "a file cut short": lambda folder: os.truncate(folder / "install.sh", 100),
    "no manifest": lambda folder: (folder / "MANIFEST").unlink(),
    "no root": lambda folder: (folder / "root").unlink(),
    "an empty manifest": lambda folder: (folder / "MANIFEST").write_bytes(b""),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_medium_that_was_changed_is_refused(maker, whole, tmp_path, kind):
    folder = unpacked(whole, tmp_path / "usb")
    FOLDERS[kind](folder)
    refused(4, verify(folder, tmp_path, *trusted(maker)), tmp_path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "wheels/../../evil", "wheels/.hidden"])
def test_a_path_that_leaves_the_folder_is_refused(maker, whole, tmp_path, name):
    source = tmp_path / whole.path.name
    with tarfile.open(whole.path) as old, tarfile.open(source, "w") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        member = tarfile.TarInfo(name)
        new.addfile(member)
    refused(4, verify(source, tmp_path, *trusted(maker)), tmp_path)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.8])
def test_a_half_copied_bundle_is_refused(maker, whole, tmp_path, keep):
    source = tmp_path / whole.path.name
    content = whole.path.read_bytes()
    source.write_bytes(content[: int(len(content) * keep)])
    refused(4, verify(source, tmp_path, *trusted(maker)), tmp_path, "copy")


def test_a_split_bundle_is_joined_and_a_missing_part_is_named(maker, whole, tmp_path):
    split = maker.bundle("split", part_bytes=20_000)
    assert len(split.parts) > 2 and b"".join(part.read_bytes() for part in split.parts) == whole.path.read_bytes()
    assert verify(split.path.parent, tmp_path, *trusted(maker))[0] == 0
    second = split.parts[1].read_bytes()
    split.parts[1].write_bytes(second[:-1])
    refused(4, verify(split.path, tmp_path / "b", *trusted(maker)), tmp_path / "b", split.parts[1].name)
    split.parts[1].write_bytes(second)


def test_without_trust_nothing_is_installed_and_the_fingerprint_is_shown(maker, whole, tmp_path):
    refused(4, verify(whole.path, tmp_path), tmp_path, fingerprint(maker.root()), "--trust-fingerprint")
    refused(4, verify(whole.path, tmp_path, "--fingerprint", "0" * 64), tmp_path, "another fingerprint")
    refused(4, verify(whole.path, tmp_path, "--root", str(tmp_path / "none")), tmp_path, "there is no file")
    (tmp_path / "given").write_text(maker.root())
    assert verify(whole.path, tmp_path, "--root", str(tmp_path / "given"))[0] == 0


def test_a_bundle_by_a_key_that_the_root_does_not_name_is_refused(maker, tmp_path):
    with pytest.raises(InvalidRequest, match="does not name"):
        maker.bundle("stranger", key="stranger")
    theirs = maker.bundle("theirs", key="stranger", root=maker.root(release=("stranger",)))
    refused(4, verify(theirs.path, tmp_path, *trusted(maker)), tmp_path, "fingerprint")
    folder = unpacked(theirs, tmp_path / "usb")
    (folder / "root").write_text(maker.root())
    refused(4, verify(folder, tmp_path, *trusted(maker)), tmp_path, "no release key")


def test_one_of_three_is_not_enough_and_one_key_under_two_names_is_one_key(maker, tmp_path):
    with pytest.raises(InvalidRequest, match="too few"):
        maker.bundle("alone", root=maker.root("root-a"))
    text = maker.root()
    doubled = text.replace(
        maker.people["root-b"].verifier_key, maker.people["root-a"].verifier_key.replace("root-a", "root-b")
    )
    with pytest.raises(bundleverify.Refused):
        bundleverify.Root(doubled.encode())


UNFIT = {
    "another processor": (3, {"arch": "aarch64"}, {}, "aarch64"),
    "a clock before it was made": (3, {}, {"today": "2026-10-31"}, "clock"),
    "a newer glibc": (3, {"glibc": "9.99"}, {}, "glibc"),
    "an expired root": (4, {"root": {"expires": "2026-11-30"}}, {}, "expired"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_bundle_that_does_not_fit_is_refused_with_the_reason(maker, tmp_path, kind):
    code, plan, machine, word = UNFIT[kind]
    root = plan.pop("root", {})
    bundle = maker.bundle(kind.replace(" ", "-"), root=maker.root(**root), **plan)
    refused(code, verify(bundle.path, tmp_path, *trusted(maker, **root), **machine), tmp_path, word)


def test_an_old_bundle_warns_and_is_installed(maker, whole, tmp_path):
    status, said, _ = verify(whole.path, tmp_path, *trusted(maker), today="2027-12-01")
    assert status == 0 and "out of date" in said["warnings"][0]


def test_a_full_disk_is_noticed_before_anything_is_copied(maker, whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundleverify, "LEFT_FREE_BYTES", 2**62)
    words = ["stage", str(whole.path), "--stage", str(tmp_path / "stage"), "--trust", str(tmp_path / "trust")]
    assert bundleverify.main([*words, "--today", "2026-12-01", "--machine", "x86_64", *trusted(maker)]) == 3
    assert "free some space" in capsys.readouterr().err
    assert list((tmp_path / "stage").iterdir()) == []


@pytest.mark.parametrize("kind", ["the copy", "what is trusted"])
def test_a_folder_of_this_machine_that_cannot_be_used_is_no_traceback(maker, whole, tmp_path, kind):
    place = tmp_path / "place"
    place.mkdir()
    (place / {"the copy": "stage", "what is trusted": "trust"}[kind]).write_text("a file")
    code, said, why = verify(whole.path, place, *trusted(maker))
    assert code in (3, 4) and said is None
    assert why.startswith("bundle: error: ") and "\nhint: " in why and "Traceback" not in why


def test_an_older_serial_is_refused_unless_it_is_wanted_and_a_stop_on_the_way_is_named(maker, whole, tmp_path):
    assert verify(whole.path, tmp_path, *trusted(maker))[0] == 0
    commit(tmp_path)
    for serial, min_from in ((16, 0), (18, 18), (18, 17)):
        bundle = maker.bundle(f"serial-{serial}-{min_from}", serial=serial, min_from=min_from)
        place = tmp_path / f"{serial}-{min_from}"
        place.mkdir()
        (place / "trust").symlink_to(tmp_path / "trust")
        before = files_below(tmp_path / "trust"), (tmp_path / "trust" / "state.json").read_bytes()
        status, said, error = verify(bundle.path, place)
        if serial == 16:
            assert status == 5 and "older than the installed one, 17" in error
            assert verify(bundle.path, place, "--allow-downgrade")[0] == 0
        elif min_from == 18:
            assert status == 3 and "install the bundle with serial 18 first" in error
        else:
            assert (status, said["installed_serial"]) == (0, 17)
        assert (files_below(tmp_path / "trust"), (tmp_path / "trust" / "state.json").read_bytes()) == before


def test_a_new_root_needs_enough_keys_of_the_old_one_and_never_goes_back(maker, whole, tmp_path):
    assert verify(whole.path, tmp_path, *trusted(maker))[0] == 0
    commit(tmp_path)
    later = {"version": 2, "release": ("release-2",), "roots": ("root-b", "root-c", "stranger")}
    alone = maker.root("stranger", "root-b", **later)
    enough = add_signature(alone, maker.people["root-c"])
    for name, root, good in (("alone-2", alone, False), ("enough-2", enough, True)):
        bundle = maker.bundle(name, root=root, key="release-2", serial=20)
        place = tmp_path / name
        place.mkdir()
        (place / "trust").symlink_to(tmp_path / "trust")
        status, _, error = verify(bundle.path, place)
        assert (status == 0) == good, error
        if good:
            commit(place)
    place = tmp_path / "back"
    place.mkdir()
    (place / "trust").symlink_to(tmp_path / "trust")
    back = maker.bundle("back", serial=21)  # by the old root, which names a key that was withdrawn
    status, _, error = verify(back.path, place)
    assert status == 4 and "older than" in error


def test_an_update_leaves_out_what_is_there_and_needs_it(maker, whole, tmp_path):
    known = hashes_of((unpacked(whole, tmp_path / "old") / "MANIFEST").read_text())
    (maker.folder / "note.deb").write_bytes(b"new")
    contents = maker.contents(debs=[maker.folder / "note.deb"])
    update = maker.bundle("update", serial=18, known=known, contents=contents)
    assert update.path.name.endswith("-update.bundle") and update.left_out == update.files - 1
    refused(4, verify(update.path, tmp_path, *trusted(maker)), tmp_path, "missing", "update")
    place = tmp_path / "b"
    assert verify(update.path, place, *trusted(maker), "--previous", str(tmp_path / "old"))[0] == 0
    assert (place / "stage" / "debs" / "note.deb").read_bytes() == b"new"
    (tmp_path / "old" / "install.sh").write_bytes(b"#" * (tmp_path / "old" / "install.sh").stat().st_size)
    found = verify(update.path, tmp_path / "c", *trusted(maker), "--previous", str(tmp_path / "old"))
    refused(4, found, tmp_path / "c", "altered on this machine")


def test_the_lock_file_and_the_list_of_software_name_every_package_with_its_hash(maker, tmp_path):
    bundle = maker.bundle("lists")
    folder = unpacked(bundle, tmp_path / "lists")
    packages = maker.contents().packages
    lock = (folder / "requirements.lock").read_text()
    assert lock == requirements(packages) and lock.count("--hash=sha256:") == len(packages) == 2
    sbom = json.loads((folder / "sbom.spdx.json").read_text())
    assert sbom["spdxVersion"] == "SPDX-2.3" and sbom["documentDescribes"] == [sbom["packages"][0]["SPDXID"]]
    listed = {one["name"]: one for one in sbom["packages"][1:]}
    for package in packages:
        assert listed[package.name]["checksums"] == [{"algorithm": "SHA256", "checksumValue": package.sha256}]
        assert package.sha256 in lock
    related = {row["relatedSpdxElement"] for row in sbom["relationships"]}
    assert related == {one["SPDXID"] for one in sbom["packages"][1:]}


def test_a_key_file_reads_back_and_is_its_owners_alone(maker, tmp_path):
    path = maker.folder / "keys" / "root-a"
    assert read_key(path) == maker.people["root-a"] and path.stat().st_mode & 0o777 == 0o400
    (tmp_path / "no-key").write_text("cloister-release-key/1 x")
    for wrong in (tmp_path / "no-key", tmp_path / "none"):
        with pytest.raises(InvalidRequest):
            read_key(wrong)


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511), st.booleans())
def test_signatures_are_judged_as_the_library_does(seed, message, bit, spoil):
    public, signature = signing.public_key(seed), signing.sign(seed, message)
    if spoil:
        altered = bytearray(signature)
        altered[bit // 8] ^= 1 << bit % 8
        signature = bytes(altered)
    assert bundleverify.verify_signature(public, message, signature) == signing.verify(public, message, signature)
    assert bundleverify.verify_signature(public, message, signature) != spoil


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_whatever_stands_in_a_note_is_refused_in_words(content):
    for parse in (bundleverify.Root, bundleverify.Manifest):
        with pytest.raises(bundleverify.Refused):
            parse(content)
