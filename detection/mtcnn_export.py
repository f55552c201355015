"""Export MTCNN's three networks for `detection.cascade_onnx`, and check them against PyTorch."""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import conv2d, relu

from kryptonite.core.errors import WeightsError
from kryptonite.core.files import atomic_path
from kryptonite.core.pinned import PINNED
from kryptonite.detection.boxes import SIDES
from kryptonite.detection.cascade import load_networks
from kryptonite.detection.cascade_onnx import INPUT_NAME, NETWORKS

_TOLERANCE = 1e-3  # largest difference from PyTorch, relative to values above one
_ON_MAPS = ("prelu1", "prelu2", "prelu3")  # PReLUs of feature maps in all three networks


class _PReLU(torch.nn.Module):
    """A PReLU of feature maps as two 1×1 convolutions of single channels.

    ONNX Runtime computes its own PRelu value by value, and takes the maps out of the layout of its
    convolutions for it, which takes half of MTCNN's time.
    """

    def __init__(self, slopes: torch.Tensor):
        super().__init__()
        self.slopes = torch.nn.Parameter(slopes.detach().view(-1, 1, 1, 1))
        self.rest = torch.nn.Parameter(1 - self.slopes.detach())
        self.channels = slopes.numel()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        positive = conv2d(relu(maps), self.rest, groups=self.channels)
        return positive + conv2d(maps, self.slopes, groups=self.channels)


class _Graph(torch.nn.Module):
    """A network from pixels, N×h×w×3 in 0..255."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.network((images.permute(0, 3, 1, 2) - 127.5) * 0.0078125)


def export_cascade(folder: Path) -> float:
    """Writes the networks as ONNX and returns their largest difference from PyTorch.

    Raises:
        WeightsError: The weights are not the pinned ones, or an export differs from PyTorch by more
            than rounding; that one is not written.
    """
    import onnx
    import onnxruntime

    folder.mkdir(exist_ok=True)
    largest = 0.0
    networks, _, _ = load_networks(torch.device("cpu"))
    for name, network, side in zip(NETWORKS, networks, SIDES, strict=True):
        graph = _Graph(network).eval()
        larger = 3 * side if name == "pnet" else side
        pixels = np.random.default_rng(0).uniform(0, 255, (5, larger, side, 3)).astype(np.float32)
        with torch.inference_mode():
            expected = [output.numpy() for output in graph(torch.from_numpy(pixels))]
        for part in _ON_MAPS:
            setattr(network, part, _PReLU(getattr(network, part).weight))
        free = {0: "n", 1: "h", 2: "w"} if name == "pnet" else {0: "n"}
        with atomic_path(folder / f"{name}.onnx") as temporary, torch.inference_mode():
            torch.onnx.export(
                graph,
                (torch.zeros(2, side, side, 3),),
                temporary,
                input_names=[INPUT_NAME],
                dynamic_axes={INPUT_NAME: free},
                dynamo=False,
            )
            written = onnx.load(temporary, load_external_data=False)
            facts = {"weights_sha256": PINNED[f"facenet_pytorch/{name}.pt"]}
            onnx.helper.set_model_props(written, {"facts": json.dumps(facts)})
            onnx.save(written, temporary)
            session = onnxruntime.InferenceSession(
                str(temporary), providers=["CPUExecutionProvider"]
            )
            for found, wanted in zip(
                session.run(None, {INPUT_NAME: pixels}), expected, strict=True
            ):
                apart = float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max())
                if not apart <= _TOLERANCE:  # so that NaN fails
                    raise WeightsError(f"{name}: would differ from PyTorch by {apart:.2g}")
                largest = max(largest, apart)
    return largest
