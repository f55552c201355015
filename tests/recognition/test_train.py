"""What the recognition stage selects and fingerprints, and that it trains what is scored."""

import numpy as np
import pandas as pd
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.recognition.config import RecognitionConfig
from kryptonite.recognition.pairs import ValidationPairs
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.train import RecognitionInputs, RecognitionModule
from tests.tiny import BACKBONE

TRAIN = pd.DataFrame(
    [("bob", "b0", False), ("ann", "a0", False), ("ann", "k0", True), ("cid", "k1", True)],
    columns=["label", "key", "is_synthetic"],
)
VAL = pd.DataFrame(
    [("dan", "d0", False), ("eve", "e0", False), ("eve", "e1", False), ("eve", "k2", True)],
    columns=["label", "key", "is_synthetic"],
)
VAL = VAL.assign(path=VAL["key"] + ".jpg")
PAIRS = pd.DataFrame(
    [
        ("e1.jpg", "e0.jpg", "eve", "eve", "same"),
        ("e0.jpg", "k2.jpg", "eve", "eve", "synthetic"),
        ("d0.jpg", "e1.jpg", "dan", "eve", "different"),
    ],
    columns=["path_a", "path_b", "label_a", "label_b", "kind"],
)


@pytest.mark.parametrize(
    ("weight", "keys", "identity"),
    [(0.0, ["b0", "a0"], [1, 0]), (0.1, ["b0", "a0", "k0", "k1"], [1, 0, 0, 2])],
)
def test_recognition_inputs_select_synthetic_images_when_spoof_term_is_on(weight, keys, identity):
    inputs = RecognitionInputs.select(RecognitionConfig(spoof_weight=weight), TRAIN, VAL, PAIRS)
    assert inputs.images["key"].tolist() == keys
    assert inputs.images["identity"].tolist() == identity
    assert inputs.identities == 3
    assert inputs.val_pairs["kind"].tolist() == ["same", "different"]
    assert inputs.val_images["key"].tolist() == ["d0", "e0", "e1"]


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_recognition_inputs_fingerprint_covers_exactly_what_is_selected(weight):
    config = RecognitionConfig(spoof_weight=weight)

    def fingerprint(train=TRAIN, val=VAL, pairs=PAIRS):
        return RecognitionInputs.select(config, train, val, pairs).fingerprint(config, {})

    synthetic_changed = TRAIN.assign(key=["b0", "a0", "other", "k1"])
    assert (fingerprint(train=synthetic_changed) == fingerprint()) == (weight == 0)
    assert fingerprint(train=TRAIN.assign(key=["other", "a0", "k0", "k1"])) != fingerprint()
    assert fingerprint(pairs=PAIRS.drop(index=1)) == fingerprint()
    assert fingerprint(pairs=PAIRS.drop(index=2)) != fingerprint()
    assert fingerprint(val=VAL.assign(key=["d0", "other", "e1", "k2"])) != fingerprint()


def test_validation_pairs_refer_to_rows_of_the_images():
    pairs = ValidationPairs.of(PAIRS, VAL)
    assert np.array_equal(pairs.rows, [[2, 1], [1, 3], [0, 2]])
    assert pairs.mated.tolist() == [True, False, False]


def test_recognition_module_embeds_as_recogniser_does():
    """RGB in training and BGR in scoring, or two normalisations, would show here."""
    torch.manual_seed(0)
    config = RecognitionConfig(BACKBONE, 16, CropTemplate(32), colour="BGR", mean=(0.2, 0.4, 0.6))
    recogniser = Recogniser.pretrained(config, "cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    pairs = ValidationPairs(np.zeros((1, 2), int), np.ones(1, bool))
    module = RecognitionModule(config, recogniser.network, recogniser.spec, 1, pairs).eval()
    with torch.inference_mode():
        trained = module.embed(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).numpy()
    assert recogniser.embed(Crops(pixels, CropTemplate(32))) == pytest.approx(trained, abs=1e-5)
