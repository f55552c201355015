"""Feature extraction: each content once, in shards, cached per networks."""

import json
import multiprocessing.forkserver
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from torch.utils.data import Dataset

from kryptonite.core.errors import DataError, ImageReadError
from kryptonite.detection import cache as cache_module
from kryptonite.detection import processes as processes_module
from kryptonite.detection.faces import UNREADABLE
from kryptonite.detection.mtcnn_export import export_cascade
from kryptonite.detection.processes import FaceProcesses
from kryptonite.inference import extractor as extractor_module
from kryptonite.inference.extractor import ImageFeatures, Shard
from kryptonite.runs.load import load


@pytest.fixture
def photos(tmp_path, faces, save, monkeypatch):
    """Eight photos, one of them under two names, a missing file, and one that is not an image.

    A shard holds three.
    """
    monkeypatch.setattr(extractor_module, "SHARD", 3)
    paths = [str(save(tmp_path / "photos" / f"{n}.png", face)) for n, face in enumerate(faces)]
    shutil.copy(paths[0], tmp_path / "photos/again.png")
    (tmp_path / "photos/broken.png").write_bytes(b"no image")
    again, broken = (str(tmp_path / "photos" / name) for name in ("again.png", "broken.png"))
    return [*paths[:4], again, "/nowhere.png", broken, *paths[4:], paths[2]]


def assert_same(one: ImageFeatures, other: ImageFeatures) -> None:
    for name in ("keys", "status", "boxes", "embeddings", "log_odds"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("embeddings", "pooled", "cells"):
        assert np.array_equal(getattr(one.maps, name), getattr(other.maps, name)), name
    assert one.maps.channels == other.maps.channels


def cached(folder):
    """Files of cached features."""
    return list((folder / "cache/sights").rglob("*.safetensors"))


def test_extract_maps_paths_to_rows_of_features(pipeline, photos):
    extractor = pipeline.extractor
    table = extractor.extract(photos)
    features, rows = table.features, table.rows(photos)
    assert table.paths.tolist() == photos[:-1] and len(features.keys) == 8
    assert rows[[5, 6]].tolist() == [-1, -1] and rows[4] == rows[0] and rows[-1] == rows[2]
    assert features.keys[rows[:5]].tolist() == extractor.cache.identify(photos[:5])
    faces = extractor.cache.ensure(photos)
    known = faces.loc[faces["status"] != UNREADABLE, "status"].tolist()
    assert features.status[rows[rows >= 0]].tolist() == known
    template = extractor.recogniser.spec.template
    crops = extractor.cache.read_batch([features.keys[rows[9]]], template)
    expected = extractor.recogniser.embed(crops)[0]
    assert features.embeddings[rows[9]] == pytest.approx(expected, abs=1e-5)


def test_extract_reads_and_hashes_each_file_once(pipeline, photos, monkeypatch):
    read = []
    identify = type(pipeline.extractor.cache).identify_content
    monkeypatch.setattr(
        type(pipeline.extractor.cache),
        "identify_content",
        lambda cache, path: read.append(path) or identify(cache, path),
    )
    pipeline.extractor.extract(photos)
    assert sorted(read) == sorted(photos[:-1])


def test_extract_uses_no_network_when_features_are_cached(
    pipeline, run, photos, tmp_path, monkeypatch
):
    first = pipeline.extractor.extract(photos)
    again = load(run, tmp_path / "cache", "cpu").extractor
    for part, call in (
        (again.recogniser, "outputs"),
        (again.detector, "outputs"),
        (again.cache, "load"),
    ):
        monkeypatch.setattr(part, call, lambda *_, **__: pytest.fail("extracted again"))
    second = again.extract(photos)
    assert_same(first.features, second.features)
    assert np.array_equal(first.content, second.content)


def test_extract_repairs_damaged_features_and_keeps_the_shards_of_a_longer_list(
    pipeline, photos, tmp_path
):
    first = pipeline.extractor.extract(photos)
    files = {file: file.read_bytes() for file in cached(tmp_path)}
    assert len(files) == 3  # of nine readable or broken contents
    for file, content in files.items():
        file.write_bytes(content[: len(content) // 2])
    assert_same(first.features, pipeline.extractor.extract(photos).features)
    assert {file: file.read_bytes() for file in files} == files
    stamps = {file: file.stat().st_mtime_ns for file in files}
    pipeline.extractor.extract([*photos, __file__])  # one more content, not an image
    assert len(cached(tmp_path)) == 4
    assert stamps == {file: file.stat().st_mtime_ns for file in files}


@pytest.mark.parametrize("name", ["log_odds", "keys"])
def test_extract_repairs_features_when_a_tensor_is_missing(pipeline, photos, tmp_path, name):
    first = pipeline.extractor.extract(photos)
    for file in cached(tmp_path):
        tensors = load_file(file)
        tensors["other"] = tensors.pop(name)
        if name == "keys":
            tensors["keys"] = np.zeros_like(tensors.pop("other"))
        save_file(tensors, file)
    assert_same(first.features, pipeline.extractor.extract(photos).features)


def test_extract_looks_again_at_images_that_could_not_be_read(
    pipeline, photos, tmp_path, monkeypatch
):
    whole = pipeline.extractor.extract(photos[:3])
    shutil.rmtree(tmp_path / "cache")
    with monkeypatch.context() as older:
        decode = cache_module.decode_rgb

        def fail_on_the_second(content, name):
            if content == Path(photos[1]).read_bytes():
                raise ImageReadError(f"{name}: an unknown format")
            return decode(content, name)

        older.setattr(cache_module, "decode_rgb", fail_on_the_second)
        older.setattr(extractor_module, "_can_be_read", lambda path: False)
        for _ in range(2):
            assert pipeline.extractor.extract(photos[:3]).content.tolist() == [0, -1, 1]
    again = pipeline.extractor.extract(photos[:3])
    assert again.content.tolist() == [0, 1, 2]
    assert again.features.keys.tolist() == whole.features.keys.tolist()


def test_extract_shard_names_the_file_when_it_is_not_on_this_machine(pipeline, photos):
    with pytest.raises(DataError, match=r"/nowhere\.png: .* not on this machine"):
        shard = Shard([photos[0], "/nowhere.png"], ["here", "gone"], {"here": b"no image"})
        pipeline.extractor.extract_shard(shard)
    with pytest.raises(KeyError, match=r"/elsewhere\.png"):
        pipeline.extractor.extract(photos).rows([photos[0], "/elsewhere.png"])


def test_extract_shard_refuses_a_file_when_it_has_changed(pipeline, photos):
    with pytest.raises(DataError, match=r"0\.png: changed while it was being read"):
        pipeline.extractor.extract_shard(Shard(photos[:1], ["another key"], {}))


def test_extract_shard_reads_files_when_contents_were_not_handed_over(pipeline, photos, tmp_path):
    """As a worker of a cluster does."""
    first = pipeline.extractor.extract(photos[:3])
    shutil.rmtree(tmp_path / "cache")
    shard = Shard(photos[:3], first.features.keys.tolist(), {})
    assert_same(first.features, pipeline.extractor.extract_shard(shard))


def test_extract_ignores_cached_features_when_the_input_contract_differs(
    pipeline, run, photos, tmp_path
):
    before = pipeline.extractor.extract(photos).features.embeddings
    described = json.loads((run / "recognition/model.json").read_text())
    described["input"]["colour"] = "BGR"
    (run / "recognition/model.json").write_text(json.dumps(described))
    other = load(run, tmp_path / "cache", "cpu").extractor
    assert np.abs(other.extract(photos).features.embeddings - before).max() > 1e-3


def test_extract_ignores_cached_features_when_the_weights_differ(pipeline, run, photos, tmp_path):
    before = pipeline.extractor.extract(photos).features.log_odds
    detector = pipeline.extractor.detector
    for parameter in detector.network.parameters():
        parameter.data.add_(0.05)
    detector.save(run / "liveness")
    other = load(run, tmp_path / "cache", "cpu").extractor
    assert np.abs(other.extract(photos).features.log_odds - before).min() > 0


def test_image_features_survive_encoding_even_when_empty(pipeline, photos):
    features = pipeline.extractor.extract(photos).features
    assert_same(ImageFeatures.from_tensors(features.to_tensors()), features)
    none = pipeline.extractor.extract(["/nowhere.png"]).features
    assert none.embeddings.shape == (0, 16) and len(none.keys) == 0
    assert_same(ImageFeatures.from_tensors(none.to_tensors()), none)


@pytest.fixture
def beside(pipeline, tmp_path, monkeypatch):
    """The pipeline's extractor, with two processes that find the faces of two photos at a time."""
    monkeypatch.setattr(extractor_module, "_PART", 2)
    export_cascade(tmp_path / "faces")
    processes = FaceProcesses(pipeline.extractor.cache, tmp_path / "faces", 2)
    return replace(pipeline.extractor, processes=processes)


@pytest.mark.slow
def test_extract_gives_the_same_when_processes_find_the_faces(pipeline, beside, photos, tmp_path):
    expected = pipeline.extractor.extract(photos)
    for gone in ("cache", "cache/sights", "nothing"):  # all is new, the crops are there, all is
        shutil.rmtree(tmp_path / gone, ignore_errors=True)
        found = beside.extract(photos)
        assert found.content.tolist() == expected.content.tolist()
        for name in ("keys", "status"):
            assert (
                getattr(found.features, name).tolist() == getattr(expected.features, name).tolist()
            )
        for name in ("boxes", "embeddings", "log_odds"):  # other batches, other rounding errors
            assert getattr(found.features, name) == pytest.approx(
                getattr(expected.features, name), abs=1e-3
            )


def test_extract_starts_no_process_when_features_are_cached_or_the_list_is_short(
    pipeline, beside, photos, monkeypatch
):
    monkeypatch.setattr(processes_module, "DataLoader", pytest.fail)
    beside.extract(photos[:3])  # a shard
    expected = pipeline.extractor.extract(photos)
    assert_same(beside.extract(photos).features, expected.features)


@pytest.mark.slow
def test_processes_end_when_they_are_no_longer_asked(beside, photos):
    keys = beside.cache.identify(photos)
    results = beside.processes(([key], [path]) for key, path in zip(keys, photos, strict=True))
    assert next(results).keys == keys[:1]
    begun = children()
    assert len(begun) >= 2
    results.close()
    assert not begun & children()


@pytest.mark.slow
def test_processes_end_when_the_command_is_killed(run, photos, tmp_path):
    export_cascade(tmp_path / "faces")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from kryptonite.detection.processes import FaceProcesses\n"
        "from kryptonite.runs.load import load\n"
        "if __name__ == '__main__':\n"
        "    run, place, *photos = sys.argv[1:]\n"
        "    cache = load(run, place, 'cpu').extractor.cache\n"
        "    keys = cache.identify(photos)\n"
        "    parts = (([key], [path]) for key, path in zip(keys, photos))\n"
        "    results = FaceProcesses(cache, Path(place).parent / 'faces', 2)(parts)\n"
        "    next(results)\n"
        "    print(*(each.pid for each in results.gi_frame.f_locals['results']._workers))\n"
        "    sys.stdout.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, script, run, tmp_path / "own", *photos]
    found = subprocess.run(command, capture_output=True, text=True)
    workers = [int(each) for each in found.stdout.split()]
    assert len(workers) == 2, found.stderr
    for _ in range(200):
        if not any(Path(f"/proc/{worker}").exists() for worker in workers):
            return
        time.sleep(0.1)
    pytest.fail(f"{workers} still run")


@pytest.mark.slow
def test_extract_names_the_file_when_it_vanishes_before_a_process_reads_it(
    beside, photos, monkeypatch
):
    identify = type(beside.cache).identify_content

    def identify_and_remove(cache, path):
        found = identify(cache, path)
        if path == photos[1]:
            Path(path).unlink()
        return found

    monkeypatch.setattr(type(beside.cache), "identify_content", identify_and_remove)
    with pytest.raises(DataError, match=r"1\.png: was there and cannot be read now"):
        beside.extract(photos)


def children() -> set[int]:
    """Processes of this one's server of forks, by id."""
    server = multiprocessing.forkserver._forkserver._forkserver_pid
    listed = Path(f"/proc/{server}/task/{server}/children").read_text()
    return set(map(int, listed.split()))


class Killed(Dataset):
    """What a process does that is killed, as for want of memory."""

    def __getitem__(self, part):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_extract_says_so_when_a_process_is_killed(beside, photos):
    beside.processes._faces = Killed()
    with pytest.raises(DataError, match="finding faces has ended: DataLoader worker"):
        beside.extract(photos)


def test_extractor_asks_its_executor_for_shards_in_order(pipeline, photos):
    local, asked = pipeline.extractor, []

    def executor(shards):
        for shard in shards:
            asked.append((len(shard.paths), shard.contents))
            yield local.extract_shard(shard)

    table = replace(local, executor=executor).extract(photos)
    assert asked == [(3, {}), (3, {}), (3, {})]
    assert_same(table.features, local.extract(photos).features)
