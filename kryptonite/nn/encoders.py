"""Vision transformers as encoders of images of one size, without a head."""

from pathlib import Path

import torch

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.nn.weights import (
    BackboneConfig,
    LoadedNetwork,
    create_timm,
    describe_timm,
    load_strict,
    read_weights,
)


def build_encoder(config: BackboneConfig, side: int) -> LoadedNetwork:
    """Builds a timm vision transformer without head, for square images, and loads its weights.

    The position embedding is resampled to the images' grid of patches. A file's head is dropped;
    everything else is loaded strictly.

    Args:
        config: A vision transformer and the origin of its weights.
        side: Height and width of the images in pixels, a multiple of the patch's.

    Returns:
        The network maps N×3×side×side to N×width; `rebuild_timm` builds it from the blueprint.

    Raises:
        ConfigError: timm has no such model, it is no vision transformer, or its patches do not
            tile the image.
        WeightsError: The weights are unavailable or do not fit; never a silent start from scratch.
    """
    hub = config.weights == "hub"
    network = create_timm(config.name, pretrained=hub, num_classes=0, img_size=side)
    _check_patches(network, config.name, side)
    path = None
    if not hub and config.weights != "scratch":
        state, path = read_weights(config)
        load_strict(network, _fitted(state, network, path), str(path))
    return describe_timm(network, config, path)


def _check_patches(network: torch.nn.Module, name: str, side: int) -> None:
    """Checks that a network is a vision transformer whose patches tile the image.

    Raises:
        ConfigError: It is not.
    """
    from timm.models import Eva, VisionTransformer

    if not isinstance(network, VisionTransformer | Eva):
        raise ConfigError(f"{name}: has no patch tokens, so is no vision transformer")
    height, width = network.patch_embed.patch_size
    if side % height or side % width:
        raise ConfigError(f"{name}: patches of {height}×{width} pixels do not tile {side}×{side}")


def _fitted(
    state: dict[str, torch.Tensor], network: torch.nn.Module, path: Path
) -> dict[str, torch.Tensor]:
    """Resamples weights to an encoder's grid of patches, and drops their head.

    Raises:
        WeightsError: The weights have other patches, or positions that form no grid.
    """
    from timm.models.vision_transformer import checkpoint_filter_fn

    expected = network.patch_embed.proj.weight.shape
    found = state.get("patch_embed.proj.weight", network.patch_embed.proj.weight).shape
    # timm would resample these as well, which makes another network's weights fit.
    if found != expected:
        raise WeightsError(f"{path}: patch embedding is {tuple(found)}, not {tuple(expected)}")
    try:
        state = checkpoint_filter_fn(state, network)
    # Depending on what is wrong, timm fails in a conversion, an assertion or a reshape.
    except Exception as error:
        raise WeightsError(f"{path}: does not fit images of another size ({error})") from error
    heads = network.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    return {name: value for name, value in state.items() if name.rpartition(".")[0] not in heads}
