"""The crop cache: keyed by content, atomic, and without crops of unreadable files."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import kryptonite.detection.cache as cache_module
from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import DataError
from kryptonite.core.files import sha256_bytes
from kryptonite.core.images import read_rgb
from kryptonite.core.tensors import load_tensors
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import CENTRE_CROP, UNREADABLE, AlignedFaces

pytestmark = pytest.mark.slow

TEMPLATE = CropTemplate(16)


class Counting:
    """Stands in for the aligner: cuts the corner of every image and counts the images."""

    def __init__(self):
        self.asked, self.settings, self.templates = 0, {"revision": 0}, [TEMPLATE]

    def __call__(self, images):
        self.asked += len(images)
        crops = np.stack([image[:16, :16] for image in images])
        count = len(images)
        return AlignedFaces(
            {TEMPLATE: crops},
            np.zeros((count, 5, 2), np.float32),
            np.ones((count, 4), np.float32),
            np.full(count, 0.5, np.float32),
            [CENTRE_CROP] * count,
        )


@pytest.fixture
def photos(tmp_path, save):
    generator = np.random.default_rng(0)
    return [
        str(save(tmp_path / f"{n}.png", generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)))
        for n in range(5)
    ]


def test_cache_ensure_aligns_every_content_once(tmp_path, photos, save):
    copy = tmp_path / "copy.png"
    shutil.copy(photos[0], copy)
    aligner = Counting()
    cache = FaceCache(tmp_path / "cache", aligner)
    rows = cache.ensure([*photos, str(copy), photos[0]])
    assert aligner.asked == 5 and rows["path"].tolist() == [*photos, str(copy), photos[0]]
    assert rows["key"].nunique() == 5 and rows["key"][0] == rows["key"][5] == rows["key"][6]
    again = Counting()
    assert FaceCache(tmp_path / "cache", again).ensure(photos).equals(rows[:5])
    assert again.asked == 0


def test_cache_decodes_few_images_at_a_time_when_they_are_large(tmp_path, photos, monkeypatch):
    sizes = []

    class Noting(Counting):
        def __call__(self, images):
            sizes.append(len(images))
            return super().__call__(images)

    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [*photos[:3], str(tmp_path / "broken.png"), *photos[3:]]
    expected = FaceCache(tmp_path / "cache", Noting()).ensure(paths)
    assert sizes == [5]
    for limit, groups in ((2 * 20 * 20, [2, 2, 1]), (1, [1] * 5)):
        sizes.clear()
        monkeypatch.setattr(cache_module, "_DECODED_PIXELS", limit)
        cache = FaceCache(tmp_path / str(limit), Noting())
        assert cache.ensure(paths).equals(expected) and sizes == groups


@pytest.mark.parametrize("kept", [1, 1500, 2**28])
def test_cache_reads_again_what_it_has_no_room_to_keep(tmp_path, photos, monkeypatch, kept):
    expected = FaceCache(tmp_path / "cache", Counting()).ensure(photos)
    files = sorted((tmp_path / "cache").rglob("*.safetensors"))
    monkeypatch.setattr(cache_module, "KEPT", kept)
    assert FaceCache(tmp_path / "other", Counting()).ensure(photos).equals(expected)
    for file in files:
        other = tmp_path / "other" / file.relative_to(tmp_path / "cache")
        assert other.read_bytes() == file.read_bytes()


def test_cache_ensure_refuses_a_file_that_changes_before_it_is_read_again(
    tmp_path, photos, save, monkeypatch, faces
):
    monkeypatch.setattr(cache_module, "KEPT", 1)
    cache = FaceCache(tmp_path / "cache", Counting())
    identify = FaceCache.identify_content

    def replaced(self, path):
        found = identify(self, path)
        save(Path(path), faces[7])
        return found

    monkeypatch.setattr(FaceCache, "identify_content", replaced)
    with pytest.raises(DataError, match=r"\.png: changed while it was being read"):
        cache.ensure(photos[:1])
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_cache_takes_in_a_group_of_a_process_that_was_killed(tmp_path, photos):
    rows = FaceCache(tmp_path / "cache", Counting()).ensure(photos)
    whole = {file: file.read_bytes() for file in (tmp_path / "cache").rglob("*.safetensors")}
    groups = [tmp_path / "cache" / name for name in (".group-unfinished", "group-killed")]
    for number, file in enumerate(sorted(whole)):
        groups[number % 2].mkdir(exist_ok=True)
        file.rename(groups[number % 2] / file.name)
    aligner = Counting()
    assert FaceCache(tmp_path / "cache", aligner).ensure(photos).equals(rows)
    assert aligner.asked == (len(whole) + 1) // 2
    assert {file: file.read_bytes() for file in whole} == whole
    assert not (tmp_path / "cache/group-killed").exists()


def test_cache_makes_an_entry_again_when_a_bit_of_a_crop_has_flipped(tmp_path, photos):
    rows = FaceCache(tmp_path / "cache", Counting()).ensure(photos)
    entry = next((tmp_path / "cache").rglob(f"{rows['key'][0]}.safetensors"))
    whole = entry.read_bytes()
    place = whole.index(read_rgb(photos[0])[:16, :16].tobytes())
    entry.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    with pytest.raises(DataError, match="does not have its checksum.*run the command again"):
        FaceCache(tmp_path / "cache", Counting()).read(rows["key"][0], TEMPLATE)
    aligner = Counting()
    assert FaceCache(tmp_path / "cache", aligner).ensure(photos).equals(rows)
    assert aligner.asked == 1 and entry.read_bytes() == whole


def test_cache_read_batch_gives_crops_as_cut(tmp_path, photos):
    cache = FaceCache(tmp_path / "cache", Counting())
    rows = cache.ensure(photos)
    batch = cache.read_batch(list(rows["key"]), TEMPLATE)
    assert batch.template == TEMPLATE
    assert np.array_equal(batch.pixels, np.stack([read_rgb(path)[:16, :16] for path in photos]))
    assert cache.read_batch([], TEMPLATE).pixels.shape == (0, 16, 16, 3)


def test_cache_keys_differ_when_aligner_settings_differ(tmp_path, photos):
    first, second = Counting(), Counting()
    second.settings = {"revision": 1}
    keys = FaceCache(tmp_path / "cache", first).ensure(photos)["key"]
    other = FaceCache(tmp_path / "cache", second).ensure(photos)["key"]
    assert second.asked == 5 and not set(keys) & set(other)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_cache_ensure_gives_row_without_crop_when_file_is_unreadable(tmp_path, photos, content):
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    rows = FaceCache(tmp_path / "cache", Counting()).ensure([photos[0], str(bad), photos[1]])
    assert rows["status"].tolist() == [CENTRE_CROP, UNREADABLE, CENTRE_CROP]
    assert rows["key"][1] == "" and rows[["x1", "y1"]].iloc[1].isna().all()


def test_cache_remakes_entry_when_damaged_and_names_it_when_deleted(tmp_path, photos):
    cache = FaceCache(tmp_path / "cache", Counting())
    rows = cache.ensure(photos)
    entry = next((tmp_path / "cache").rglob(f"{rows['key'][0]}.safetensors"))
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    aligner = Counting()
    assert FaceCache(tmp_path / "cache", aligner).ensure(photos).equals(rows)
    assert aligner.asked == 1 and entry.read_bytes() == whole
    entry.unlink()
    with pytest.raises(DataError, match="gone from the cache"):
        cache.read(rows["key"][0], TEMPLATE)


def _fill(folder, photos):
    return FaceCache(folder, Counting()).ensure(photos, progress=False)


def test_cache_ensure_leaves_whole_entries_when_two_processes_write(tmp_path, photos):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        one, two = [
            job.result()
            for job in [pool.submit(_fill, tmp_path / "cache", photos) for _ in range(2)]
        ]
    assert one.equals(two)
    assert (
        len(list((tmp_path / "cache").rglob("*"))) == len({key[:2] for key in one["key"]}) + 5
    )  # entries and their folders, no temporary files left


def test_cache_read_gives_what_the_real_aligner_cuts(tmp_path, faces, save):
    aligner = Aligner(AlignerConfig(device="cpu"), [CropTemplate(), CropTemplate(96, 0.2)])
    cache = FaceCache(tmp_path / "cache", aligner)
    rows = cache.ensure([str(save(tmp_path / "f.png", faces[0]))])
    assert np.array_equal(
        cache.read(rows["key"][0], CropTemplate(96, 0.2)),
        aligner([faces[0]]).crops[CropTemplate(96, 0.2)][0],
    )


def contents_of(cache, photos):
    return dict(cache.identify_content(photo) for photo in photos)


def test_cache_load_gives_what_ensure_and_read_batch_give(tmp_path, photos):
    ensured = FaceCache(tmp_path / "ensured", Counting())
    rows = ensured.ensure(photos)
    cache = FaceCache(tmp_path / "loaded", Counting())
    contents = contents_of(cache, photos)
    fresh, stored = cache.load(list(contents), contents), cache.load(list(contents), {})
    assert cache.aligner.asked == 5
    for faces in (fresh, stored):
        assert faces.keys == rows["key"].tolist() and faces.status == rows["status"].tolist()
        assert faces.confidence.dtype == faces.boxes.dtype == faces.landmarks.dtype == np.float32
        assert faces.confidence.tolist() == rows["confidence"].tolist()
        assert np.array_equal(faces.boxes, rows[["x1", "y1", "x2", "y2"]])
        assert np.array_equal(faces.landmarks, ensured.read_landmarks(faces.keys))
        assert np.array_equal(
            faces.crops_for(TEMPLATE).pixels, ensured.read_batch(faces.keys, TEMPLATE).pixels
        )
    for key in contents:
        name = f"{key[:2]}/{key}.safetensors"
        assert (tmp_path / "loaded" / name).read_bytes() == (
            tmp_path / "ensured" / name
        ).read_bytes()


def test_cache_load_keeps_order_and_opens_each_entry_once_when_some_are_stored(
    tmp_path, photos, monkeypatch
):
    cache = FaceCache(tmp_path / "cache", Counting())
    contents = contents_of(cache, photos)
    keys = list(contents)
    cache.ensure([photos[3], photos[1]])
    assert [cache.has(key) for key in keys] == [False, True, False, True, False]
    opened = []
    monkeypatch.setattr(
        cache_module,
        "load_tensors",
        lambda file, names: opened.append(file.stem) or load_tensors(file, names),
    )
    faces = cache.load(keys, {key: contents[key] for key in keys if not cache.has(key)})
    assert faces.keys == keys and sorted(opened) == sorted([keys[1], keys[3]])
    expected = np.stack([read_rgb(photo)[:16, :16] for photo in photos])
    assert np.array_equal(faces.crops[TEMPLATE], expected)
    assert all(cache.has(key) for key in keys) and cache.aligner.asked == 5


def test_cache_load_aligns_missing_contents_together_in_order_of_keys(tmp_path, photos):
    batches = []

    class Recording(Counting):
        def __call__(self, images):
            batches.append(images)
            return super().__call__(images)

    cache = FaceCache(tmp_path / "cache", Recording())
    contents = contents_of(cache, photos)
    order = [list(contents)[row] for row in (4, 0, 3, 1, 2)]
    cache.load(order, contents)
    [batch] = batches
    expected = [read_rgb(photos[row]) for row in (4, 0, 3, 1, 2)]
    assert np.array_equal(np.stack(batch), np.stack(expected))


def test_cache_load_omits_contents_when_they_cannot_be_decoded(tmp_path, photos):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not an image")
    cache = FaceCache(tmp_path / "cache", Counting())
    contents = contents_of(cache, [photos[0], str(bad), photos[1]])
    keys = list(contents)
    assert cache.load(keys, contents).keys == [keys[0], keys[2]] and not cache.has(keys[1])
    nothing = cache.load([keys[1]], contents)
    assert nothing.keys == nothing.status == [] and nothing.boxes.shape == (0, 4)
    assert nothing.landmarks.shape == (0, 5, 2) and nothing.confidence.shape == (0,)
    assert nothing.crops[TEMPLATE].shape == (0, 16, 16, 3)
    assert nothing.crops[TEMPLATE].dtype == np.uint8


def test_cache_load_rereads_an_entry_when_it_is_damaged(tmp_path, photos):
    cache = FaceCache(tmp_path / "cache", Counting())
    contents = contents_of(cache, photos)
    keys = list(contents)
    whole = cache.load(keys, contents)
    entry = next((tmp_path / "cache").rglob(f"{keys[2]}.safetensors"))
    entry.write_bytes(entry.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{keys[2]}.*damaged or gone"):
        cache.load(keys, {})
    asked = []
    again = cache.load(keys, {}, lambda key: asked.append(key) or contents[key])
    assert asked == [keys[2]] and again.keys == keys
    assert np.array_equal(again.crops[TEMPLATE], whole.crops[TEMPLATE])
    assert cache.load(keys, {}).keys == keys


def test_cache_identify_content_is_empty_when_file_is_gone(tmp_path, photos):
    cache = FaceCache(tmp_path / "cache", Counting())
    assert cache.identify_content(str(tmp_path / "gone.png")) == ("", b"")
    key, content = cache.identify_content(photos[0])
    assert [key] == cache.identify(photos[:1])
    assert content == (tmp_path / "0.png").read_bytes()
    assert FaceCache.content_of(key) == sha256_bytes(content)[:40]
