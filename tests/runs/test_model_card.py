"""The model card names what a run was trained on."""

from types import SimpleNamespace

from kryptonite.core.crops import CropTemplate
from kryptonite.runs.config import RunConfig
from kryptonite.runs.model_card import model_card

RATES = ("eer_challenge", "sv_eer", "spf_eer", "sasv_eer")


def card(config, **failures):
    figures = {**dict.fromkeys(RATES, 0.1), "intervals": dict.fromkeys(RATES, (0.05, 0.15))}
    counts = {"images": 9, "unreadable": 0, "failure_to_acquire": 1}
    metrics = {
        "validation": {
            "pairs": {"same": 3, "different": 2, "synthetic": 1},
            "identities": 4,
            "threshold": 0.5,
            "recognition_alone": figures,
            "fused": figures,
        },
        "failures": {"train": counts, "val": counts, **failures},
        "split_hash": "0123456789abcdef",
        "stages": {},
    }
    model = SimpleNamespace(source="scratch", spec=SimpleNamespace(template=CropTemplate(32)))
    return model_card(config, metrics, model, model)


def test_model_card_counts_further_photos_when_there_are_some():
    config = RunConfig()
    assert "Further genuine photos" not in card(config)
    config.data.genuine, config.fusion.fmr = ["a", "b"], 1e-5
    counts = {"train of a": 5, "val of a": 2, "train of b": 30, "val of b": 10}
    text = card(config, **{name: {"images": count} for name, count in counts.items()})
    assert "of 2 other sources: 35 for training and 12 for validation" in text
    assert "(FMR 0.001% on genuine validation photos)" in text
