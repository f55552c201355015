"""Looking at images: each content once, in shares; what was seen is found again, and never that of other weights."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kryptonite.inference.extractor as looks_module
from kryptonite.core.errors import DataError
from kryptonite.detection.faces import UNREADABLE
from kryptonite.inference.extractor import ImageFeatures, Shard
from kryptonite.inference.pipeline import Pipeline


@pytest.fixture
def photos(tmp_path, faces, save, monkeypatch):
    """Eight photos, one of them under two names, one that is not there, one that is no image; shares of three."""
    monkeypatch.setattr(looks_module, "SHARE", 3)
    paths = [str(save(tmp_path / "photos" / f"{n}.png", face)) for n, face in enumerate(faces)]
    shutil.copy(paths[0], tmp_path / "photos/again.png")
    (tmp_path / "photos/broken.png").write_bytes(b"no image")
    return [
        *paths[:4],
        str(tmp_path / "photos/again.png"),
        "/nowhere.png",
        str(tmp_path / "photos/broken.png"),
        *paths[4:],
        paths[2],
    ]


def same(one, other):
    assert one.keys.tolist() == other.keys.tolist() and one.status.tolist() == other.status.tolist()
    for name in ("boxes", "embeddings", "log_odds"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert np.array_equal(one.perception.pooled, other.perception.pooled) and np.array_equal(
        one.perception.cells, other.perception.cells
    )
    assert one.perception.channels == other.perception.channels


def test_rows_lead_from_paths_to_what_was_seen(pipeline, photos):
    looks = pipeline.eyes.look(photos)
    rows = looks.rows(photos)
    assert looks.paths.tolist() == photos[:-1] and len(looks.seen.keys) == 8
    assert rows[[5, 6]].tolist() == [-1, -1] and rows[4] == rows[0] and rows[-1] == rows[2]
    assert looks.seen.keys[rows[:5]].tolist() == pipeline.cache.identify(photos[:5])
    faces = pipeline.cache.ensure(photos)
    assert (
        looks.seen.status[rows[rows >= 0]].tolist()
        == faces.loc[faces["status"] != UNREADABLE, "status"].tolist()
    )
    alone = pipeline.recogniser.embed(
        pipeline.cache.read_batch([looks.seen.keys[rows[9]]], pipeline.recogniser.spec.template)
    )
    assert looks.seen.embeddings[rows[9]] == pytest.approx(alone[0], abs=1e-5)


def test_what_was_seen_is_found_again_without_a_network(
    pipeline, run, photos, tmp_path, monkeypatch
):
    first = pipeline.eyes.look(photos)
    again = Pipeline.load(run, tmp_path / "cache", "cpu")
    for part, call in (
        (again.recogniser, "outputs"),
        (again.detector, "outputs"),
        (again.cache, "ensure"),
    ):
        monkeypatch.setattr(part, call, lambda *_, **__: pytest.fail("looked again"))
    second = again.eyes.look(photos)
    same(first.seen, second.seen)
    assert np.array_equal(first.content, second.content)


def test_damaged_sights_are_seen_anew_and_a_longer_list_keeps_its_start(pipeline, photos, tmp_path):
    first = pipeline.eyes.look(photos)
    files = {file: file.read_bytes() for file in (tmp_path / "cache/sights").rglob("*.safetensors")}
    assert len(files) == 3  # of nine readable or broken contents
    for file, content in files.items():
        file.write_bytes(content[: len(content) // 2])
    same(first.seen, pipeline.eyes.look(photos).seen)
    assert {file: file.read_bytes() for file in files} == files
    stamps = {file: file.stat().st_mtime_ns for file in files}
    pipeline.eyes.look([*photos, __file__])  # which is no image
    assert len(list((tmp_path / "cache/sights").rglob("*.safetensors"))) == 4 and stamps == {
        f: f.stat().st_mtime_ns for f in files
    }


@pytest.mark.parametrize("name", ["log_odds", "keys"])
def test_sights_that_lack_something_are_seen_anew(pipeline, photos, tmp_path, name):
    first = pipeline.eyes.look(photos)
    for file in (tmp_path / "cache/sights").rglob("*.safetensors"):
        tensors = load_file(file)
        tensors["other"] = tensors.pop(name)
        if name == "keys":
            tensors["keys"] = np.zeros_like(tensors.pop("other"))
        save_file(tensors, file)
    same(first.seen, pipeline.eyes.look(photos).seen)


def test_a_machine_without_the_data_says_so(pipeline, photos):
    with pytest.raises(DataError, match=r"/nowhere\.png: .* not on this machine"):
        pipeline.eyes.share(Shard([photos[0], "/nowhere.png"], ["here", "gone"]))
    with pytest.raises(KeyError, match=r"/elsewhere\.png"):
        pipeline.eyes.look(photos).rows([photos[0], "/elsewhere.png"])


def test_the_same_weights_for_other_input_look_for_themselves(pipeline, run, photos, tmp_path):
    before = pipeline.eyes.look(photos).seen.embeddings
    described = json.loads((run / "recognition/model.json").read_text())
    described["input"]["colour"] = "BGR"
    (run / "recognition/model.json").write_text(json.dumps(described))
    after = Pipeline.load(run, tmp_path / "cache", "cpu").eyes.look(photos).seen.embeddings
    assert np.abs(after - before).max() > 1e-3


def test_other_weights_look_for_themselves(pipeline, run, photos, tmp_path):
    before = pipeline.eyes.look(photos).seen.log_odds
    detector = pipeline.detector
    for parameter in detector.network.parameters():
        parameter.data.add_(0.05)
    detector.save(run / "liveness")
    after = Pipeline.load(run, tmp_path / "cache", "cpu").eyes.look(photos).seen.log_odds
    assert np.abs(after - before).min() > 0


def test_sights_survive_packing_even_when_there_are_none(pipeline, photos):
    seen = pipeline.eyes.look(photos).seen
    same(ImageFeatures.unpacked(seen.packed()), seen)
    none = pipeline.eyes.look(["/nowhere.png"]).seen
    assert none.embeddings.shape == (0, 16) and len(none.keys) == 0
    same(ImageFeatures.unpacked(none.packed()), none)
