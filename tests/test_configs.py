"""Every configuration in configs/ parses whole, names networks that exist, and those that need no hub build."""

import os
from pathlib import Path

import pytest
import timm
from jsonargparse import auto_cli

from kryptonite.fusion.fuse import fuser_class
from kryptonite.nn.weights import BackboneConfig, build_timm
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.losses import SpoofAwareMarginLoss
from kryptonite.runs.config import RunConfig

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_parses_and_its_networks_exist(path):
    config = auto_cli(RunConfig, as_positional=False, args=["--config", str(path)])
    recognition, liveness = config.recognition, config.liveness
    assert fuser_class(config.fusion.name)
    assert SpoofAwareMarginLoss(recognition.loss, 2, 4, recognition.margin, recognition.scale, 0, 0)
    for branch, backbone in (
        ("recognition", recognition.backbone),
        ("liveness", liveness.backbone),
    ):
        if backbone.weights == "hub":
            assert backbone.name.startswith("hf_hub:") or backbone.name in timm.list_pretrained()
        else:
            weights = (
                "scratch" if os.path.splitext(backbone.weights)[1] else backbone.weights
            )  # the user's own file is not here
            build = build_backbone if branch == "recognition" else build_timm
            network = build(BackboneConfig(backbone.name, weights), 8).network
            assert network.num_classes == 8
    assert (
        liveness.template.margin >= recognition.template.margin
    )  # the detector sees at least as much


def test_the_configurations_the_readme_promises_are_there():
    assert {"default", "cpu", "edgeface-cpu", "edgeface-gpu", "demo"} <= {
        path.stem for path in CONFIGS
    }
