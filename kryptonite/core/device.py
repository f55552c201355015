"""Choose where tensors are computed, and say so."""

import logging
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kryptonite.core.errors import ConfigError

# Where Linux lists PCI devices, and NVIDIA's driver itself; other systems have neither.
_PCI, _DRIVER = Path("/sys/bus/pci/devices"), Path("/proc/driver/nvidia/version")
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # vendor; class of graphics and 3D controllers

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch


def only_cpu(device: str) -> bool:
    """Whether a configured device comes to the CPU.

    On a Linux machine without GPU drivers it answers without importing torch, which takes seconds.
    """
    if device == "cpu":
        return True
    drivers = (_DRIVER, Path("/dev/kfd"), Path("/dev/dxg"))  # NVIDIA's, AMD's, Windows's
    bare = sys.platform.startswith("linux") and "torch" not in sys.modules
    if device == "auto" and bare and not any(map(Path.exists, drivers)) and not _nvidia_gpu():
        return True
    return choose_device(device).type == "cpu"


def cpu_threads() -> int:
    """Threads of one operation on the CPU: torch's number, without importing torch for it."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked):
        return int(asked)
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def choose_device(device: str) -> "torch.device":
    """Turns a configured device into a torch device.

    With `auto`, a GPU that is there but cannot be used is warned of, once a process. On a GPU, the
    whole process computes float32 convolutions in full precision from then on.

    Args:
        device: `auto` (CUDA if available, else the CPU), `cpu` or `cuda`.

    Raises:
        ConfigError: There is no such device, or not on this machine.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        reason = unused_gpu() if device == "cpu" else ""
        if reason:
            _say(logging.WARNING, f"{reason} (the device cpu, chosen explicitly, silences this)")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r}: must be auto, cpu or cuda") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device}: torch finds no CUDA GPU here; use cpu or auto")
    if chosen.type == "cuda":
        # In TF32, which torch takes for convolutions unless told otherwise, a landmark was found
        # 1.2 pixels away from where the CPU finds it.
        torch.backends.cudnn.allow_tf32 = False
    return chosen


def unused_gpu() -> str:
    """Says why torch cannot use this machine's GPU, and what to do.

    Only Linux lists NVIDIA's GPUs without a driver; elsewhere those are not noticed.

    Returns:
        One clause; empty where torch can use the GPU, none is seen, or `CUDA_VISIBLE_DEVICES` hides
        it.
    """
    import torch

    if torch.cuda.is_available() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ""
    if torch.backends.mps.is_available():
        return "Apple's GPU is not used: scoring runs on CUDA or the CPU"
    if not _nvidia_gpu():
        return ""
    found = "an NVIDIA GPU is here but not used: "
    if torch.version.cuda is None:
        return f"{found}torch {torch.__version__} is built without CUDA; install a CUDA build"
    if not _DRIVER.exists():
        return f"{found}no NVIDIA driver is loaded; install it, or give the container the GPU"
    return (
        f"{found}torch, built for CUDA {torch.version.cuda}, cannot use the driver; update the "
        "driver, or give the container the GPU"
    )


def _nvidia_gpu() -> bool:
    def is_one(device: Path) -> bool:
        try:
            kind = (device / "class").read_text()
            return kind.startswith(_DISPLAY) and (device / "vendor").read_text().strip() == _NVIDIA
        except OSError:
            return False

    return _PCI.is_dir() and any(map(is_one, _PCI.iterdir()))


def describe_device(device: "torch.device | str") -> str:
    """Names a device for people: `cuda (NVIDIA H100)`, `cpu (2 threads)`."""
    kind = device if isinstance(device, str) else device.type
    if kind == "cuda":
        import torch

        return f"cuda ({torch.cuda.get_device_name(device)})"
    if kind != "cpu":
        return kind
    threads = cpu_threads()
    return f"cpu ({threads} {'thread' if threads == 1 else 'threads'})"


def state_device(work: str, device: "torch.device | str", engine: str = "torch") -> None:
    """Logs which engine and device do a piece of work; the same text once a process."""
    _say(logging.INFO, f"{work}: {engine} on {describe_device(device)}")


@lru_cache(256)  # texts; bounds the memory of a long-lived process
def _say(level: int, text: str) -> None:
    _log.log(level, "%s", text)
