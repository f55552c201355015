import pytest
import torch

from kryptonite.core.device import choose_device
from kryptonite.core.errors import ConfigError


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_choose_device_takes_cuda_when_available_and_auto(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device("auto") == torch.device(expected)
    assert choose_device("cpu") == torch.device("cpu")
    if available:
        assert choose_device("cuda") == torch.device("cuda")


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "gpu", "", "abacus"])
def test_choose_device_names_device_when_it_is_not_there(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"device '?{device}"):
        choose_device(device)
