"""Stage fingerprints change with what decides the result, and with nothing else."""

from dataclasses import replace

import pandas as pd
import pytest

from kryptonite.liveness.config import LivenessConfig
from kryptonite.nn.train.config import FitConfig
from kryptonite.nn.train.fingerprints import (
    images_fingerprint,
    model_fingerprint,
    pairs_fingerprint,
    result_settings,
    weights_fingerprint,
)

IMAGES = pd.DataFrame(
    {
        "path": ["a.jpg", "b.jpg"],
        "key": ["c0ffee-settings", "f00d-settings"],
        "label": ["ann", "bob"],
        "is_synthetic": [False, True],
    }
)
PAIRS = pd.DataFrame(
    [("a.jpg", "b.jpg", "ann", "bob", "different")],
    columns=["path_a", "path_b", "label_a", "label_b", "kind"],
)


def test_result_settings_ignores_hardware_but_not_training_settings():
    config = LivenessConfig()
    slow = replace(
        config, fit=FitConfig(ema_decay=0.99, workers=9, devices=2, nodes=3, accelerator="cpu")
    )
    assert result_settings(slow) == result_settings(config)
    assert result_settings(replace(config, fit=FitConfig(epochs=1))) != result_settings(config)
    assert result_settings(replace(config, seed=1)) != result_settings(config)


def test_images_fingerprint_depends_on_contents_and_classes_only():
    same = IMAGES.assign(path=["x", "y"], key=["c0ffee-other", "f00d-other"], identity=[0, 1])
    assert images_fingerprint(same) == images_fingerprint(IMAGES)
    for changed in (
        IMAGES.assign(key=["c0ffee-settings", "beef-settings"]),
        IMAGES.assign(label=["ann", "ann"]),
        IMAGES.assign(is_synthetic=[False, False]),
        IMAGES[::-1],
        IMAGES[:1],
    ):
        assert images_fingerprint(changed) != images_fingerprint(IMAGES)


def test_pairs_fingerprint_depends_on_contents_labels_and_kind_only():
    expected = pairs_fingerprint(PAIRS, IMAGES)
    moved = PAIRS.assign(path_a=["/x/a.jpg"])
    images = IMAGES.assign(path=["/x/a.jpg", "b.jpg"], label=["other", "bob"])
    assert pairs_fingerprint(moved, images) == expected
    assert pairs_fingerprint(PAIRS.assign(kind="same"), IMAGES) != expected
    assert pairs_fingerprint(PAIRS.assign(label_b="ann"), IMAGES) != expected
    assert pairs_fingerprint(PAIRS, IMAGES.assign(key=["beef-s", "f00d-s"])) != expected


def test_weights_fingerprint_hashes_files_and_keeps_names(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(b"a")
    first = weights_fingerprint(str(file))
    file.write_bytes(b"b")
    assert weights_fingerprint(str(file)) != first and len(first) == 64
    assert weights_fingerprint("hub") == "hub"


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_model_fingerprint_changes_when_weights_or_description_change(name, tmp_path):
    for each in ("model.safetensors", "model.json"):
        (tmp_path / each).write_text("x")
    before = model_fingerprint(tmp_path)
    (tmp_path / name).write_text("y")
    assert model_fingerprint(tmp_path) != before
