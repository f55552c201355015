"""Variants of training differ from the run in what their titles say, and in nothing else."""

import json

import numpy as np
import pandas as pd
import pytest
from jsonargparse import auto_cli

from kryptonite.core.errors import DataError
from kryptonite.core.files import copy_file
from kryptonite.data.audit.prepare import prepare
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.data.pairs import PAIR_COLUMNS, load_pairs, make_pairs, save_pairs
from kryptonite.robustness import variants
from kryptonite.robustness.variants import Tables, plan, prepare_variant
from kryptonite.runs.config import RunConfig
from kryptonite.runs.run_dir import RunDir

pytestmark = pytest.mark.slow


@pytest.fixture
def config(folders, tmp_path):
    """The configuration of a run on 16 people whose `k_` images are of two kinds.

    Its pairs are frozen, its stages empty.
    """
    species = {
        f"{person:08d}/k_{n}.jpg": kind
        for person in range(16)
        for n, kind in enumerate(("blend", "render"))
    }
    (folders / "data/train/species.json").write_text(json.dumps(species))
    config = auto_cli(
        RunConfig,
        as_positional=False,
        args=[
            "--data.root",
            str(folders),
            "--run",
            str(tmp_path / "run"),
            "--data.val_fraction",
            "0.5",
        ],
    )
    config.recognition.fit.ema_decay = 0.9
    for branch in ("recognition", "liveness"):
        (tmp_path / "run" / branch / "training").mkdir(parents=True)
        (tmp_path / "run" / branch / "stage.json").write_text("{}")
    save_pairs(
        tmp_path / "run/pairs_val.csv",
        make_pairs(load_images(config.data, "val"), config.data.pairs),
        folders,
    )
    return config


def planned(config, tmp_path):
    return {variant.name: variant for variant in plan(config, tmp_path / "runs")}


def test_plan_switches_options_and_says_which_way(config, tmp_path):
    found = planned(config, tmp_path)
    assert found["spoof-term"].title.startswith("with ") and found["spoof-term"].changes == {
        "recognition.spoof_weight": 0.1
    }
    assert found["pairing"].title.startswith("without ") and found["pairing"].changes == {
        "liveness.paired": False
    }
    assert found["ema"].changes == {"recognition.fit.ema_decay": 0.0, "liveness.fit.ema_decay": 0.0}
    assert {
        "unseen-blend",
        "unseen-render",
        "noise-05",
        "noise-10",
        "noise-20",
        "noise-20-cleaned",
        "seed",
        "forgeries",
    } <= set(found)
    config.recognition.spoof_weight, config.liveness.forgeries = 0.3, 0.5
    found = planned(config, tmp_path)
    assert found["spoof-term"].changes == {"recognition.spoof_weight": 0.0} and found[
        "forgeries"
    ].title.startswith("without ")


def test_plan_switches_averaging_off_when_it_is_on(config, tmp_path):
    assert "soup" not in planned(config, tmp_path)
    config.comparison.pairs, config.comparison.fit.epochs = 100, 2
    config.comparison.fit.soup, config.comparison.fit.ema_decay, config.liveness.fit.soup = (
        2,
        0.9,
        3,
    )
    config.recognition.fit.epochs = 0
    found = planned(config, tmp_path)
    assert found["soup"].changes == {"liveness.fit.soup": 1, "comparison.fit.soup": 1}
    assert found["ema"].changes == {"liveness.fit.ema_decay": 0.0, "comparison.fit.ema_decay": 0.0}


def test_plan_changes_what_decides_a_probe_and_nothing_else_of_the_detector(config, tmp_path):
    config.liveness.probe.passes, config.liveness.fit.soup = 1, 2
    found = planned(config, tmp_path)
    assert "pairing" not in found and "soup" not in found
    assert found["ema"].changes == {"recognition.fit.ema_decay": 0.0}
    assert found["forgeries"].title.startswith("without ")
    assert found["forgeries"].changes == {"liveness.probe.forgeries": 0}
    config.liveness.probe.forgeries = 0
    assert planned(config, tmp_path)["forgeries"].changes == {"liveness.probe.forgeries": 1}


def test_plan_leaves_recognition_alone_when_it_is_not_trained(config, tmp_path):
    config.recognition.fit.epochs = 0
    found = planned(config, tmp_path)
    assert "spoof-term" not in found and "noise-20-cleaned" not in found and "noise-20" in found


def test_prepare_variant_changes_a_copy_and_starts_from_the_runs_stages(config, tmp_path):
    variant = planned(config, tmp_path)["pairing"]
    changed = prepare_variant(variant, config, RunDir(tmp_path / "variant"), tmp_path / "cache")
    assert (
        not changed.liveness.paired
        and config.liveness.paired
        and changed.data.root == config.data.root
    )
    assert (
        changed.run == str(tmp_path / "variant")
        and (tmp_path / "variant/liveness/stage.json").exists()
    )
    assert not (tmp_path / "variant/liveness/training").exists()  # checkpoints are not its own
    pd.testing.assert_frame_equal(
        *(
            load_pairs(folder / "pairs_val.csv", config.data.root)
            for folder in (tmp_path / "run", tmp_path / "variant")
        )
    )


def test_prepare_variant_leaves_no_half_stage_when_copying_is_broken_off(
    config, tmp_path, monkeypatch
):
    """A kill would leave the hidden folder, too."""
    stage, seen = tmp_path / "variant/recognition", []
    for name in ("model.json", "model.safetensors"):
        (tmp_path / "run/recognition" / name).write_text("{}")

    def interrupt(source, target):
        copy_file(source, target)
        seen.append(stage.exists())
        if len(seen) == 2:
            raise KeyboardInterrupt

    variant = planned(config, tmp_path)["pairing"]
    arguments = variant, config, RunDir(tmp_path / "variant"), tmp_path / "cache"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(variants, "copy_file", interrupt)
        prepare_variant(*arguments)
    assert seen == [False, False] and not list(stage.parent.iterdir())
    prepare_variant(*arguments)
    names = {path.name for path in stage.iterdir()}
    assert names == {"model.json", "model.safetensors", "stage.json"}


def test_prepare_variant_removes_a_left_out_species_from_every_table(config, tmp_path):
    changed = prepare_variant(
        planned(config, tmp_path)["unseen-blend"],
        config,
        RunDir(tmp_path / "variant"),
        tmp_path / "cache",
    )
    for split in ("train", "val"):
        before, after = (load_images(each, split) for each in (config.data, changed.data))
        assert set(after["species"]) == {"", "render"}
        kept = before[before["species"] != "blend"].reset_index(drop=True)
        pd.testing.assert_frame_equal(after, kept)
    pairs = load_pairs(tmp_path / "variant/tables/pairs_val.csv", changed.data.root)
    assert "blend" not in set(pairs["species"]) and (pairs["kind"] == "synthetic").any()
    assert set(pairs["path_a"]) <= set(load_images(changed.data, "val")["path"])


def test_prepare_variant_mislabels_bona_fide_training_photos_only(config, tmp_path):
    changed = prepare_variant(
        planned(config, tmp_path)["noise-20"],
        config,
        RunDir(tmp_path / "variant"),
        tmp_path / "cache",
    )
    before, after = (load_images(each, "train") for each in (config.data, changed.data))
    moved = (before["label"] != after["label"]).to_numpy()
    assert before["path"].tolist() == after["path"].tolist() and moved.sum() == round(
        0.2 * (~before["is_synthetic"]).sum()
    )
    assert not before["is_synthetic"][moved].any()
    pd.testing.assert_frame_equal(
        *(load_images(each, "val") for each in (config.data, changed.data))
    )


def test_leave_out_refuses_the_only_species(config, tmp_path):
    leave_out = planned(config, tmp_path)["unseen-blend"].alter
    images = load_images(DataConfig(config.data.root), "train")
    only = images[images["species"].isin(["", "blend"])].reset_index(drop=True)
    with pytest.raises(DataError, match="no synthetic image is left"):
        leave_out(Tables(only, only, make_pairs(only, config.data.pairs)[PAIR_COLUMNS]))


def test_uncleaned_restores_the_first_labels(config, folders, tmp_path):
    before = {split: load_images(config.data, split) for split in ("train", "val")}
    genuine = before["train"].loc[~before["train"]["is_synthetic"], "path"].tolist()
    people = sorted(set(before["train"]["label"]))

    def embed(paths):
        """One photo of the first person shows the second, another of his nobody."""
        centres = np.random.default_rng(0).standard_normal((99, 64))
        who = [int(path.split("/")[-2]) for path in paths]
        who = [
            {genuine[0]: int(people[1]), genuine[4]: 98}.get(path, person)
            for path, person in zip(paths, who, strict=True)
        ]
        rows = centres[who] + 0.2 * np.random.default_rng(1).standard_normal((len(paths), 64))
        return np.ones(len(paths), bool), rows / np.linalg.norm(rows, axis=1, keepdims=True)

    report = prepare(config.data, tmp_path / "cleaned", embed)
    assert report["cleaning"]["move"] == 1 and report["cleaning"]["drop"] == 1
    assert "cleaning" not in planned(config, tmp_path)  # this run was not cleaned
    config.data.root = str(tmp_path / "cleaned")
    variant = planned(config, tmp_path)["cleaning"]
    cleaned = load_images(config.data, "train")
    restored = variant.alter(Tables(cleaned, before["val"], None)).train
    assert len(cleaned) == len(before["train"]) - 1 and variant.title == "without cleaning"
    columns = ["label", "path", "split", "is_synthetic"]
    both = [
        table.sort_values("path", ignore_index=True)[columns]
        for table in (restored, before["train"])
    ]
    pd.testing.assert_frame_equal(*both)
