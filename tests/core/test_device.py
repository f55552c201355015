import logging

import pytest
import torch

from kryptonite.core import device as module
from kryptonite.core.device import choose_device, describe_device, state_device, unused_gpu
from kryptonite.core.errors import ConfigError


@pytest.fixture(autouse=True)
def said(monkeypatch):
    """Forgets what other tests made the process say."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    module._say.cache_clear()
    yield
    module._say.cache_clear()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Builds a machine that has devices on its PCI bus, a torch, and maybe a driver."""

    def build(*devices, cuda="12.8", driver=False, usable=False, apple=False):
        for number, (kind, vendor) in enumerate(devices):
            folder = tmp_path / "pci" / f"0000:0{number}:00.0"
            folder.mkdir(parents=True)
            (folder / "class").write_text(f"{kind}\n")
            (folder / "vendor").write_text(f"{vendor}\n")
        if driver:
            (tmp_path / "driver").write_text("NVRM version")
        monkeypatch.setattr(module, "_PCI", tmp_path / "pci")
        monkeypatch.setattr(module, "_DRIVER", tmp_path / "driver")
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)

    return build


GPU, COMPUTE_GPU, SOUND = ("0x030000", "0x10de"), ("0x030200", "0x10de"), ("0x040300", "0x10de")
OTHER_GPU, NETWORK = ("0x030000", "0x1002"), ("0x020000", "0x15b3")


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


@pytest.mark.parametrize(
    ("devices", "torch_and_driver", "reason"),
    [
        ([GPU], {"cuda": None}, "is built without CUDA; install a CUDA build"),
        ([COMPUTE_GPU], {}, "no NVIDIA driver is loaded"),
        ([NETWORK, GPU], {"driver": True}, "built for CUDA 12.8, cannot use the driver; update"),
        ([], {"apple": True}, "Apple's GPU is not used"),
    ],
)
def test_choose_device_warns_once_when_auto_cannot_use_the_gpu(
    devices, torch_and_driver, reason, machine, caplog
):
    machine(*devices, **torch_and_driver)
    assert [choose_device("auto").type for _ in range(3)] == ["cpu"] * 3
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and reason in record.message


@pytest.mark.parametrize(
    ("devices", "torch_and_driver"),
    [
        ([], {}),
        ([OTHER_GPU, SOUND, NETWORK], {}),
        ([GPU], {"driver": True, "usable": True}),
    ],
)
def test_choose_device_does_not_warn_when_no_gpu_is_left_unused(
    devices, torch_and_driver, machine, caplog
):
    machine(*devices, **torch_and_driver)
    choose_device("auto")
    assert unused_gpu() == "" and not caplog.records


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_choose_device_does_not_warn_when_the_cpu_is_chosen(hidden, machine, caplog, monkeypatch):
    machine(GPU)
    choose_device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    choose_device("auto")
    assert not caplog.records


def test_describe_device_names_threads_and_gpu(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert describe_device(torch.device("cpu")) == "cpu (1 thread)"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert describe_device(torch.device("cpu")) == "cpu (4 threads)"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert describe_device(torch.device("cuda")) == "cuda (NVIDIA H100)"
    assert describe_device(torch.device("mps")) == "mps"


def test_state_device_says_the_same_once(monkeypatch, caplog):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with caplog.at_level(logging.INFO, "kryptonite"):
        for engine in ("onnx", "onnx", "torch"):
            state_device("scoring", torch.device("cpu"), engine)
    assert caplog.messages == [f"scoring: {name} on cpu (2 threads)" for name in ("onnx", "torch")]
