"""What a run reads: its own images and the genuine photos of further roots."""

import shutil

import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.core.files import sha256_file
from kryptonite.detection.faces import FOUND
from kryptonite.runs import data as data_module
from kryptonite.runs.config import RunConfig
from kryptonite.runs.data import prepare_training_data
from kryptonite.runs.run_dir import RunDir

PEOPLE = "data/train/images"


@pytest.fixture
def config(folders, tmp_path, monkeypatch):
    """A run on 16 people, whose faces count as found wherever they are."""

    def align(cache, images, source):
        keys = [sha256_file(path) for path in images["path"]]
        failures = dict.fromkeys(("images", "unreadable", "failure_to_acquire"), len(images))
        return images.assign(key=keys, status=FOUND, source=source), failures

    monkeypatch.setattr(data_module, "_align", align)
    config = RunConfig(run=str(tmp_path / "run"), cache=str(tmp_path / "cache"))
    config.data.root, config.data.val_fraction = str(folders), 0.5
    config.aligner.device, config.fusion.folds = "cpu", 8
    return config


@pytest.fixture
def further(folders, tmp_path, people, save):
    """Another root: mirrored photos of eight of the people."""
    root = tmp_path / "further"
    for person, photos in enumerate(people[:8]):
        for number in (0, 1):
            save(root / PEOPLE / f"{person:08d}/{number}.jpg", photos[number, :, ::-1])
    return root


def test_prepare_training_data_keeps_sources_apart_and_lists_all_images(config, further, caplog):
    config.data.genuine = [str(further)]
    data = prepare_training_data(config)
    assert set(data.train["source"]) == set(data.val["source"]) == {0}
    assert set(data.genuine["source"]) == {1} and len(data.genuine) == 16
    assert not set(data.genuine["label"]) & set(data.with_genuine("val")["label"][:40])
    assert "validation figures will flatter" not in caplog.text
    run = RunDir(further.parent / "run")
    data.save(run, config.data.root)
    listed = run.read_images().groupby("split")["key"].agg(set)
    for split in ("train", "val"):
        assert listed[split] == set(data.with_genuine(split)["key"])


def test_prepare_training_data_names_a_further_root_before_it_aligns(config, monkeypatch):
    monkeypatch.setattr(data_module, "_align", pytest.fail)
    config.data.genuine = ["/nowhere"]
    with pytest.raises(DataError, match=r"/nowhere: neither train\.csv nor .*--data\.genuine"):
        prepare_training_data(config)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("lacking", ["genuine photos", "people"])
def test_prepare_training_data_names_root_and_split_when_it_shows_too_little(
    config, further, split, lacking
):
    photos = sorted((further / PEOPLE).glob("*/*.jpg"))
    lines = {
        each: [f"{path.parent.name},{path}" for path in part]
        for each, part in (("train", photos[:8]), ("val", photos[8:]))
    }
    if lacking == "people":
        lines[split] = lines[split][:2]
    else:
        for path in photos[:8] if split == "train" else photos[8:]:
            path.rename(path.with_name(f"k_{path.name}"))
        lines[split] = [line.replace("/0.jpg", "/k_0.jpg") for line in lines[split][::2]]
    for each, rows in lines.items():
        (further / f"{each}.csv").write_text("\n".join(["label,path", *rows]))
    config.data.genuine = [str(further)]
    message = f"{further}: too few readable genuine photos in the {split} split"
    with pytest.raises(DataError, match=message):
        prepare_training_data(config)


def test_prepare_training_data_warns_when_a_further_root_trains_on_validation_photos(
    config, further, caplog
):
    config.data.genuine = [str(further)]
    data = prepare_training_data(config)
    own = data.val.loc[~data.val["is_synthetic"], "path"].iloc[0]
    trained = data.genuine.loc[data.genuine["split"] == "train", "path"].iloc[0]
    shutil.copy(own, trained)
    prepare_training_data(config)
    assert f"1 training photos are also validation images (first {trained})" in caplog.text


def test_with_genuine_is_the_run_itself_when_there_is_no_further_root(config):
    data = prepare_training_data(config)
    pd.testing.assert_frame_equal(data.with_genuine("train"), data.train)
