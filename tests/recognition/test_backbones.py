"""Backbones by name, their weights, and the formats they are published in."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.core.errors import ConfigError, InputContractError, WeightsError
from kryptonite.nn.weights import BackboneConfig
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.iresnet import DEPTHS, IResNet
from kryptonite.recognition.recogniser import Recogniser

pytestmark = pytest.mark.slow

TINY = "test_efficientnet"


def crops(count=3, size=112, seed=0):
    return Crops(
        np.random.default_rng(seed).integers(0, 255, (count, size, size, 3), dtype=np.uint8),
        CropTemplate(size),
    )


@pytest.mark.parametrize("name", [TINY, "inception_resnet_v1", "iresnet18", "adaface_ir18"])
def test_recogniser_saves_and_loads_to_the_bit(name, tmp_path):
    torch.manual_seed(0)
    loaded = build_backbone(BackboneConfig(name, "scratch"), 512)
    recogniser = Recogniser(
        loaded.network, loaded.blueprint, InputSpec(CropTemplate(112)), loaded.source, "cpu"
    )
    embeddings = recogniser.embed(crops())
    assert embeddings.shape == (3, 512) and embeddings.dtype == np.float32
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    recogniser.save(tmp_path)
    again = Recogniser.load(tmp_path, "cpu")
    assert np.array_equal(again.embed(crops()), embeddings)
    assert again.spec == recogniser.spec and again.source == recogniser.source
    assert recogniser.embed(crops(0)).shape == (0, 512)


def test_recogniser_raises_contract_error_when_crops_are_for_another_model():
    loaded = build_backbone(BackboneConfig(TINY, "scratch"), 16)
    recogniser = Recogniser(
        loaded.network, loaded.blueprint, InputSpec(CropTemplate(112)), "", "cpu"
    )
    for wrong in (
        Crops(crops().pixels, CropTemplate(112, 0.2)),
        Crops(crops(size=96).pixels, CropTemplate(112)),
    ):
        with pytest.raises(InputContractError):
            recogniser.embed(wrong)


def test_recogniser_reverses_channels_when_network_is_bgr():
    loaded = build_backbone(BackboneConfig(TINY, "scratch"), 16)
    rgb = Recogniser(loaded.network, loaded.blueprint, InputSpec(CropTemplate(112)), "", "cpu")
    bgr = Recogniser(
        loaded.network, loaded.blueprint, InputSpec(CropTemplate(112), colour="BGR"), "", "cpu"
    )
    turned = Crops(np.ascontiguousarray(crops().pixels[..., ::-1]), CropTemplate(112))
    assert bgr.embed(turned) == pytest.approx(rgb.embed(crops()), abs=1e-6)
    assert np.abs(bgr.embed(crops()) - rgb.embed(crops())).max() > 1e-3


def test_recogniser_loads_without_hub_repository_when_built_from_it(tmp_path):
    # As timm publishes on the hub: config.json (architecture, arguments) beside model.safetensors.
    network = timm.create_model(TINY, num_classes=32, drop_rate=0.25)
    folder = tmp_path / "repository"
    folder.mkdir()
    config = {"architecture": TINY, "num_classes": 32, "model_args": {"drop_rate": 0.25}}
    (folder / "config.json").write_text(
        json.dumps({**config, "pretrained_cfg": {**network.pretrained_cfg, "mean": [0.5] * 3}})
    )
    save_file(network.state_dict(), folder / "model.safetensors")
    loaded = build_backbone(BackboneConfig(f"local-dir:{folder}", "hub"), 32)
    assert loaded.mean == (0.5, 0.5, 0.5)
    assert loaded.blueprint["name"] == TINY and loaded.blueprint["arguments"]["drop_rate"] == 0.25
    recogniser = Recogniser(
        loaded.network, loaded.blueprint, InputSpec(CropTemplate(112)), loaded.source, "cpu"
    )
    assert np.array_equal(
        recogniser.outputs(crops(), "embedding")[0], recogniser.outputs(crops(), "embedding")[0]
    )
    recogniser.save(tmp_path / "run")
    (folder / "config.json").unlink()
    assert np.array_equal(
        Recogniser.load(tmp_path / "run", "cpu").embed(crops()), recogniser.embed(crops())
    )


def adaface_state(depth):
    """Returns a network and its weights under AdaFace's published names."""
    torch.manual_seed(depth)
    network = IResNet(depth, 512, pooled_shortcut=True).eval()
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    names = {"conv1": "input_layer.0", "bn1": "input_layer.1", "prelu": "input_layer.2"}
    names |= {"bn2": "output_layer.0", "fc": "output_layer.3", "features": "output_layer.4"}
    inside = {"bn1": "0", "conv1": "1", "bn2": "2", "prelu": "3", "conv2": "4", "bn3": "5"}
    starts = np.cumsum([0, *DEPTHS[depth]])
    state = {}
    for name, tensor in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if module == "features" and leaf in ("weight", "bias"):
            continue  # AdaFace's last norm has none
        if module.startswith("layer"):
            stage, block, *rest = module.split(".")
            number = starts[int(stage.removeprefix("layer")) - 1] + int(block)
            part = (
                f"shortcut_layer.{rest[1]}"
                if rest[0] == "downsample"
                else f"res_layer.{inside[rest[0]]}"
            )
            state[f"model.body.{number}.{part}.{leaf}"] = tensor
        else:
            state[f"model.{names[module]}.{leaf}"] = tensor
    return network, state


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_build_backbone_gives_same_embeddings_when_weights_are_adafaces(tmp_path, suffix):
    network, state = adaface_state(18)
    path = tmp_path / f"adaface.{suffix}"
    if suffix == "pt":  # as published: a checkpoint with the training head beside the model
        torch.save({"state_dict": {**state, "head.kernel": torch.zeros(512, 10)}}, path)
    else:
        save_file(state, path)
    loaded = build_backbone(BackboneConfig("adaface_ir18", str(path)), 512)
    images = torch.randn(2, 3, 112, 112)
    with torch.inference_mode():
        assert torch.allclose(loaded.network.eval()(images), network(images), atol=1e-5)
    assert "sha256:" in loaded.source


def test_build_backbone_loads_arcface_weights_and_names_a_missing_tensor(tmp_path):
    torch.manual_seed(0)
    state = IResNet(18, 512).state_dict()
    save_file(state, tmp_path / "arcface.safetensors")
    loaded = build_backbone(BackboneConfig("iresnet18", str(tmp_path / "arcface.safetensors")), 512)
    assert all(
        torch.equal(loaded.network.state_dict()[name], tensor) for name, tensor in state.items()
    )
    save_file(
        {name: tensor for name, tensor in state.items() if name != "layer2.0.conv1.weight"},
        tmp_path / "less.safetensors",
    )
    with pytest.raises(WeightsError, match=r"layer2\.0\.conv1\.weight"):
        build_backbone(BackboneConfig("iresnet18", str(tmp_path / "less.safetensors")), 512)
    # ArcFace's shortcuts have parameters, AdaFace's have none.
    with pytest.raises(WeightsError, match="strictly"):
        build_backbone(BackboneConfig("adaface_ir18", str(tmp_path / "arcface.safetensors")), 512)


def test_build_backbone_drops_classifier_when_weights_are_inceptions(tmp_path):
    from facenet_pytorch import InceptionResnetV1

    network = InceptionResnetV1(pretrained=None, classify=True, num_classes=10)
    save_file(network.state_dict(), tmp_path / "inception.safetensors")
    loaded = build_backbone(
        BackboneConfig("inception_resnet_v1", str(tmp_path / "inception.safetensors")), 512
    )
    assert torch.equal(loaded.network.last_linear.weight, network.last_linear.weight)


@pytest.mark.parametrize(
    ("config", "outputs", "error"),
    [
        (BackboneConfig("iresnet19", "scratch"), 512, ConfigError),
        (BackboneConfig("inception_resnet_v1", "scratch"), 128, ConfigError),
        (BackboneConfig("iresnet50", "hub"), 512, WeightsError),
        (BackboneConfig("iresnet50", "pip"), 512, WeightsError),
        (BackboneConfig("iresnet50", "nowhere.safetensors"), 512, WeightsError),
        (BackboneConfig("no_such_network", "scratch"), 512, ConfigError),
    ],
)
def test_build_backbone_raises_typed_error_when_unavailable(config, outputs, error):
    with pytest.raises(error):
        build_backbone(config, outputs)


def test_recogniser_load_raises_weights_error_when_folder_is_damaged(tmp_path):
    loaded = build_backbone(BackboneConfig(TINY, "scratch"), 16)
    Recogniser(loaded.network, loaded.blueprint, InputSpec(CropTemplate(112)), "", "cpu").save(
        tmp_path
    )
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match="model.safetensors"):
        Recogniser.load(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(WeightsError, match="model.json"):
        Recogniser.load(tmp_path)
