"""The format of backups: pinned by a vector that is opened with a kit, and read strictly.

`vectors/backup.json` holds one archive of two small files, its kit and what must come out. Its wrapped keys were sealed
under random nonces once; everything else follows from them.
"""

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.recovery_kit import BackupAccess, backup_key_from_kit, kit_text, parse_kit
from appliance.crypto import keys
from appliance.errors import BackupInvalid, InvalidRequest
from appliance.service.backup import archive
from appliance.service.backup.archive import About, Member, make_header, read_archive, read_header, write_archive

VECTOR = json.loads((Path(__file__).parent / "vectors" / "backup.json").read_text())
SEALED = base64.b64decode(VECTOR["archive"])
ABOUT = About(1_764_000_000_000, 1_767_000_000_000, "a.example/audit/u/e1", 42, "0.1.0", "0003_specialist_life")
SLOTS = (archive.RecoverySlot(1, bytes(72), bytes(16)),)


def read(content: bytes, backup_key: bytes):
    file, found = io.BytesIO(content), {}
    header = read_header(file)
    manifest = read_archive(
        file, header, backup_key, lambda path, size, reader: found.update({path: reader.read(size)})
    )
    return header, manifest, found


def written(folder: Path, files: dict[str, bytes], backup_key: bytes = bytes(32)) -> bytes:
    members = []
    for number, (path, content) in enumerate(files.items()):
        (folder / str(number)).write_bytes(content)
        members.append(Member(path, folder / str(number)))
    header, file_key = archive.new_header(BackupAccess(backup_key, SLOTS), ABOUT)
    out = io.BytesIO()
    write_archive(out, header, file_key, members, "a note\n")
    return out.getvalue()


def test_the_published_archive_opens_with_its_kit():
    header = read_header(io.BytesIO(SEALED))
    backup_key = backup_key_from_kit(header.slots, parse_kit(VECTOR["kit"]))
    assert backup_key.hex() == VECTOR["backup_key"]
    header, manifest, found = read(SEALED, backup_key)
    assert {path: content.decode() for path, content in found.items()} == VECTOR["files"]
    assert manifest.note == VECTOR["note"]
    assert header.about.records == VECTOR["records"] and header.backup_id.hex() == VECTOR["backup"]


def test_the_published_archive_is_what_the_writer_writes(tmp_path):
    header = read_header(io.BytesIO(SEALED))
    assert make_header(header.backup_id, header.about, header.slots, header.wrapped) == header
    backup_key = bytes.fromhex(VECTOR["backup_key"])
    file_key = keys.unwrap_key(backup_key, header.wrapped, b"cloister-backup-1/key" + header.backup_id)
    members = []
    for number, (path, text) in enumerate(VECTOR["files"].items()):
        (tmp_path / str(number)).write_text(text)
        members.append(Member(path, tmp_path / str(number)))
    out = io.BytesIO()
    write_archive(out, header, file_key, members, VECTOR["note"])
    assert out.getvalue() == SEALED


@pytest.mark.parametrize(
    "path",
    [
        "keys/root.key",
        "../etc/passwd",
        "/etc/passwd",
        "audit/e0/log.db",
        "models/..",
        "run/server.lock",
        "db/./appliance.db",
    ],
)
def test_a_path_of_no_data_folder_is_refused(tmp_path, path):
    with pytest.raises(BackupInvalid, match="belongs to no data folder"):
        read(written(tmp_path, {path: b"x"}), bytes(32))


def test_the_same_file_twice_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    header, file_key = archive.new_header(BackupAccess(bytes(32), SLOTS), ABOUT)
    out = io.BytesIO()
    twice = [
        Member("home.json", tmp_path / "a"),
        Member("config.toml", tmp_path / "a"),
        Member("home.json", tmp_path / "a"),
    ]
    write_archive(out, header, file_key, twice, "")
    with pytest.raises(BackupInvalid):
        read(out.getvalue(), bytes(32))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_every_altered_byte_is_found(at, change):
    altered = bytearray(SEALED)
    altered[at] ^= change
    with pytest.raises(BackupInvalid):
        read(bytes(altered), bytes.fromhex(VECTOR["backup_key"]))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_what_is_no_backup_is_refused_in_words(content):
    with pytest.raises(BackupInvalid):
        read_header(io.BytesIO(archive.MAGIC + content))


@given(st.binary(min_size=32, max_size=32), st.sampled_from([str.lower, lambda text: text.replace("-", " "), str]))
def test_a_kit_reads_back_however_it_is_typed(key, typed):
    assert parse_kit(typed(kit_text(key)).replace("O", "0").replace("I", "1")) == key


@given(st.binary(min_size=32, max_size=32), st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_one_wrong_letter_in_a_kit_is_noticed(key, at, letter):
    letters = list(kit_text(key).replace("-", "").replace("\n", ""))
    if letters[at] == letter:
        return
    letters[at] = letter
    with pytest.raises(InvalidRequest, match="letter is wrong"):
        parse_kit("".join(letters))


@pytest.mark.parametrize("text", ["", "ABCD", "A" * 55, "A" * 57, "A" * 500, "!" * 56, "Ä" * 56, "9" * 56])
def test_what_is_no_kit_is_refused_in_words(text):
    with pytest.raises(InvalidRequest, match="no recovery kit") as refused:
        parse_kit(text)
    assert text[:8] not in refused.value.message or not text
