"""The crop cache: by content, never half-written, never a crop of what could not be read."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import DataError
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import CENTRE_CROP, UNREADABLE, AlignedFaces

TEMPLATE = CropTemplate(16)


class Counting:
    """In the aligner's place: cuts the corner and counts what it was asked for."""

    def __init__(self):
        self.asked, self.settings = 0, {"revision": 0}

    def __call__(self, images):
        self.asked += len(images)
        crops = np.stack([image[:16, :16] for image in images])
        count = len(images)
        return AlignedFaces(
            {TEMPLATE: crops},
            np.zeros((count, 5, 2)),
            np.ones((count, 4)),
            np.full(count, 0.5),
            [CENTRE_CROP] * count,
        )


@pytest.fixture
def photos(tmp_path, save):
    generator = np.random.default_rng(0)
    return [
        str(save(tmp_path / f"{n}.png", generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)))
        for n in range(5)
    ]


def test_every_content_is_aligned_once(tmp_path, photos, save):
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


def test_crops_come_back_as_they_were_cut(tmp_path, photos):
    from kryptonite.core.images import read_rgb

    cache = FaceCache(tmp_path / "cache", Counting())
    rows = cache.ensure(photos)
    batch = cache.read_batch(list(rows["key"]), TEMPLATE)
    assert batch.template == TEMPLATE
    assert np.array_equal(batch.pixels, np.stack([read_rgb(path)[:16, :16] for path in photos]))
    assert cache.read_batch([], TEMPLATE).pixels.shape == (0, 16, 16, 3)


def test_other_settings_are_other_entries(tmp_path, photos):
    first, second = Counting(), Counting()
    second.settings = {"revision": 1}
    keys = FaceCache(tmp_path / "cache", first).ensure(photos)["key"]
    other = FaceCache(tmp_path / "cache", second).ensure(photos)["key"]
    assert second.asked == 5 and not set(keys) & set(other)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_what_cannot_be_read_is_a_row_without_a_crop(tmp_path, photos, content):
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    rows = FaceCache(tmp_path / "cache", Counting()).ensure([photos[0], str(bad), photos[1]])
    assert rows["status"].tolist() == [CENTRE_CROP, UNREADABLE, CENTRE_CROP]
    assert rows["key"][1] == "" and rows[["x1", "y1"]].iloc[1].isna().all()


def test_a_damaged_entry_is_made_again_and_a_deleted_one_is_named(tmp_path, photos):
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


def test_two_processes_at_once(tmp_path, photos):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        one, two = [
            job.result()
            for job in [pool.submit(_fill, tmp_path / "cache", photos) for _ in range(2)]
        ]
    assert one.equals(two)
    assert (
        len(list((tmp_path / "cache").rglob("*"))) == len({key[:2] for key in one["key"]}) + 5
    )  # entries and folders, no litter


def test_a_real_face_through_the_real_aligner(tmp_path, faces, save):
    aligner = Aligner(AlignerConfig(device="cpu"), [CropTemplate(), CropTemplate(96, 0.2)])
    cache = FaceCache(tmp_path / "cache", aligner)
    rows = cache.ensure([str(save(tmp_path / "f.png", faces[0]))])
    assert np.array_equal(
        cache.read(rows["key"][0], CropTemplate(96, 0.2)),
        aligner([faces[0]]).crops[CropTemplate(96, 0.2)][0],
    )
