import errno
import json
import os
import shutil

import pytest

from kryptonite.core.files import (
    atomic_folder,
    atomic_path,
    copy_file,
    fingerprint,
    sha256_bytes,
    sha256_file,
    write_json,
)


def test_atomic_path_leaves_old_file_and_no_temporary_when_write_fails(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"x": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(target.read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_copy_file_copies_the_content_and_replaces_what_was_there(tmp_path):
    content = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(b"old")
    copy_file(tmp_path / "a", tmp_path / "b")
    copy_file(tmp_path / "a", tmp_path / "new/folder/c")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "new/folder/c").read_bytes() == content


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_copy_file_names_the_target_when_its_disk_is_full(tmp_path, monkeypatch):
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old")
    copy = shutil.copyfileobj

    def copy_to_full_disk(content, copied, length):
        with open("/dev/full", "wb", buffering=0) as full:
            copy(content, full, length)

    monkeypatch.setattr(shutil, "copyfileobj", copy_to_full_disk)
    with pytest.raises(OSError) as caught:
        copy_file(tmp_path / "source", tmp_path / "target")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_copy_file_names_the_source_when_it_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        copy_file(tmp_path / "nowhere", tmp_path / "target")
    assert str(caught.value.filename) == str(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_atomic_folder_shows_nothing_until_it_is_whole(tmp_path):
    target = tmp_path / "new/folder"
    with atomic_folder(target) as made:
        write_json(made / "deep/a.json", 1)
        assert not target.exists() and made.parent.name.startswith(".folder-")
    assert (target / "deep/a.json").read_text() == "1\n"
    assert list(target.parent.iterdir()) == [target]
    plain = tmp_path / "plain"
    plain.mkdir()
    assert target.stat().st_mode == plain.stat().st_mode


def test_atomic_folder_names_the_file_to_be_and_leaves_nothing_when_a_write_fails(tmp_path):
    target = tmp_path / "folder"
    with pytest.raises(OSError) as caught, atomic_folder(target) as made:
        write_json(made / "a.json", 1)
        raise OSError(errno.ENOSPC, "full", str(made / "deep/b.json"))
    assert caught.value.filename == str(target / "deep/b.json")
    assert not list(tmp_path.iterdir())


def test_atomic_folder_names_the_folder_when_files_are_there_already(tmp_path):
    target = tmp_path / "folder"
    with pytest.raises(OSError) as caught, atomic_folder(target):
        write_json(target / "a.json", 1)  # of another process
    assert caught.value.filename == str(target)
    assert [path.name for path in target.iterdir()] == ["a.json"]
    assert list(tmp_path.iterdir()) == [target]


def test_write_json_raises_and_keeps_old_file_when_value_is_nan(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", float("nan"))
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_sha256_bytes_matches_fips_180_2_example():
    # Appendix B.1: SHA-256 of "abc".
    assert (
        sha256_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_fingerprint_depends_on_values_but_not_on_order_of_keys():
    assert (
        fingerprint({"a": 1, "b": 2})
        == fingerprint({"b": 2, "a": 1})
        != fingerprint({"a": 1, "b": 3})
    )


def test_sha256_file_equals_hash_of_its_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f") == sha256_bytes(b"abc")
