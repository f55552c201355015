"""The improved ResNet of ArcFace (Deng et al. 2019), layers named as in insightface's `iresnet`.

AdaFace (Kim et al. 2022) uses the same network with parameterless shortcuts. It is implemented here
because no maintained package on PyPI has it.
"""

import re

import torch
from torch import nn

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    101: (3, 13, 30, 3),
}
WIDTHS = (64, 128, 256, 512)
_EPS = 1e-5


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int, pooled_shortcut: bool):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before, eps=_EPS)
        self.conv1 = nn.Conv2d(before, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=_EPS)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width, eps=_EPS)
        if before == width and (stride == 1 or pooled_shortcut):
            self.downsample = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width, eps=_EPS)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv1(self.bn1(x))
        out = self.conv2(self.prelu(self.bn2(out)))
        return self.bn3(out) + self.downsample(x)


class IResNet(nn.Module):
    """Maps 112×112 crops to embeddings.

    Args:
        depth: 18, 34, 50 or 100 (101 for AdaFace, the same layers).
        outputs: Length of the embedding.
        pooled_shortcut: Subsample equal-width shortcuts without parameters, as AdaFace does,
            instead of with a 1×1 convolution.
    """

    def __init__(self, depth: int, outputs: int = 512, pooled_shortcut: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64, eps=_EPS)
        self.prelu = nn.PReLU(64)
        before = 64
        for number, (blocks, width) in enumerate(zip(DEPTHS[depth], WIDTHS, strict=True), 1):
            stage = [
                _Block(
                    before if index == 0 else width, width, 2 if index == 0 else 1, pooled_shortcut
                )
                for index in range(blocks)
            ]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
            before = width
        self.bn2 = nn.BatchNorm2d(512, eps=_EPS)
        self.fc = nn.Linear(512 * 7 * 7, outputs)
        self.features = nn.BatchNorm1d(outputs, eps=_EPS)
        nn.init.ones_(self.features.weight)
        self.features.weight.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps normalised N×3×112×112 to N×outputs, not normalised to unit length."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


_STEM = {"input_layer.0": "conv1", "input_layer.1": "bn1", "input_layer.2": "prelu"}
_HEAD = {"output_layer.0": "bn2", "output_layer.3": "fc", "output_layer.4": "features"}
_INSIDE = {"0": "bn1", "1": "conv1", "2": "bn2", "3": "prelu", "4": "conv2", "5": "bn3"}


def from_adaface(state: dict[str, torch.Tensor], depth: int) -> dict[str, torch.Tensor]:
    """Renames AdaFace's published tensors to this module's names.

    Its last norm has no affine part, which equals weight 1 and bias 0. Tensors with unknown names
    are kept, so that strict loading reports them; those of the training head (`head.*`) are
    dropped.
    """
    place = [
        f"layer{stage}.{index}"
        for stage, blocks in enumerate(DEPTHS[depth], 1)
        for index in range(blocks)
    ]
    renamed = {}
    for published, tensor in state.items():
        if published.startswith("head."):
            continue
        name = published.removeprefix("model.")
        block = re.fullmatch(r"body\.(\d+)\.(res_layer|shortcut_layer)\.(\d)\.(\w+)", name)
        if block and int(block[1]) < len(place):
            inside = _INSIDE[block[3]] if block[2] == "res_layer" else f"downsample.{block[3]}"
            renamed[f"{place[int(block[1])]}.{inside}.{block[4]}"] = tensor
            continue
        module, _, leaf = name.rpartition(".")
        renamed[f"{ {**_STEM, **_HEAD}.get(module, module) }.{leaf}"] = tensor
    if "features.running_mean" in renamed:
        renamed.setdefault("features.weight", torch.ones_like(renamed["features.running_mean"]))
        renamed.setdefault("features.bias", torch.zeros_like(renamed["features.running_mean"]))
    return renamed
