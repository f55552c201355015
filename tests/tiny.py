"""The smallest whole system: scratch networks of some thousand weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.core.files import write_json
from kryptonite.fusion.abstention import fit_abstention
from kryptonite.fusion.calibration import Calibration
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import fit_fuser
from kryptonite.fusion.matcher import CalibratedFuser
from kryptonite.fusion.verifier import STORED, Verifier, save_verifiers
from kryptonite.liveness.detector import Detector
from kryptonite.nn.weights import BackboneConfig, build_timm
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.comparer import Comparer
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.runs.load import load
from kryptonite.runs.origin import describe_branches
from kryptonite.runs.run_dir import RunDir

BACKBONE = BackboneConfig("test_efficientnet", "scratch")
FIT = {"epochs": 2, "workers": 0, "accelerator": "cpu"}
CONFIG = {
    "aligner": {"device": "cpu"},
    "data": {"val_fraction": 0.5, "pairs": {"count": 96}},
    "recognition": {
        "backbone": {"name": BACKBONE.name, "weights": BACKBONE.weights},
        "embedding_dim": 16,
        "template": {"size": 32},
        "people_per_batch": 4,
        "photos_per_person": 2,
        "spoof_weight": 0.1,
        "fit": FIT,
    },
    "liveness": {
        "backbone": {"name": BACKBONE.name, "weights": BACKBONE.weights},
        "template": {"size": 32, "margin": 0.2},
        "pairs_per_batch": 4,
        "fit": {**FIT, "epochs": 4, "ema_decay": 0.9, "patience": 9},
    },
    "comparison": {
        "pairs": 60,
        "networks": 2,
        "epochs": 2,
        "people_per_batch": 4,
        "photos_per_person": 2,
        "fit": FIT,
    },
    "fusion": {"folds": 8, "resamples": 20},
}


def write_gate(path: Path, run: Path) -> Path:
    """A gate for such a run, fitted on drawn evidence."""
    pipeline = load(run, path.parent / "cache", "cpu")
    fuser = CalibratedFuser(pipeline.verifiers["multinomial"].fuser, Calibration(1.0, 0.0))
    branches = describe_branches(RunDir(run), pipeline.extractor.cache.aligner)
    gate = {"fuser": fuser.to_dict(), "thresholds": {"fmr=0.01": 1.0}, "branches": branches}
    write_json(path, gate)
    return path


def write_run(run: Path) -> Path:
    """A finished run with untrained networks."""
    torch.manual_seed(0)
    recogniser = build_backbone(BACKBONE, 16)
    recogniser = Recogniser(
        recogniser.network, recogniser.blueprint, InputSpec(CropTemplate(32)), "scratch", "cpu"
    )
    recogniser.save(run / "recognition")
    detector = build_timm(BACKBONE, 1)
    Detector(
        detector.network, detector.blueprint, InputSpec(CropTemplate(32, 0.2)), "scratch", "cpu"
    ).save(run / "liveness")
    generator = np.random.default_rng(0)
    noise = Crops(generator.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8), CropTemplate(32))
    pairs = np.arange(20), np.arange(20, 40), np.arange(20) % 2 == 0
    comparer = Comparer.fit(
        ComparisonConfig(networks=2, hidden=4, epochs=3), recogniser.extract_maps(noise), *pairs
    )
    DifferentialDetector(recogniser.channels, comparer).save(run / "comparison")
    kind = np.repeat(["same", "different", "synthetic"], 20)
    seen = (
        generator.normal(kind != "different"),
        generator.normal(size=60),
        generator.normal(kind == "synthetic"),
    )
    evidence = Evidence(*seen, generator.normal(kind == "same"))
    verifiers = {}
    for name in ("none", "detector", "llr", "multinomial"):
        fitted = fit_fuser(name, evidence, kind)
        rule = fit_abstention(kind, fitted.score(evidence), {STORED: 0.1}, 0.25)
        verifiers[name] = Verifier(fitted, 0.1, abstention=rule)
    fuser = replace(verifiers["llr"].fuser, genuine_agreement_slope=0.1)
    save_verifiers(run / "fusion.json", "llr", verifiers, several={2: Verifier(fuser, 0.2)})
    seeds = {branch: {"seed": 0} for branch in ("recognition", "liveness")}
    data = {"root": "nowhere", "seed": 0, "pairs": {"seed": 0}}
    config = {
        "aligner": {"min_face": 40},
        "comparison": {"pairs": 20},
        "fusion": {"folds": 4},
        "data": data,
        **seeds,
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "images.csv").write_text("key,label,split,is_synthetic,species\n")
    rates = ("eer_challenge", "sv_eer", "spf_eer", "sasv_eer")
    fused = {**dict.fromkeys(rates, 0.125), "intervals": dict.fromkeys(rates, (0.1, 0.2))}
    metrics = {"split_hash": "0123456789abcdef", "validation": {"fused": fused}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "model_card.md").write_text("# Model card: run\n\nUntrained.\n")
    return run
