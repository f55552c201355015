"""Licences of published weights, as far as their publishers state one."""

from pathlib import PurePath

# By the start of the weights' origin.
_LICENCES = {
    "efficientnet-lite0-": "Apache-2.0",
    "clip_encoder.": "MIT (OpenAI's CLIP; the mirror that the package names declares none)",
    "edgeface": "contradictory (BSD-3-Clause and CC BY-NC-SA 4.0): research only",
    "random initialisation": "none needed: trained from scratch",
}
UNKNOWN = "see their source; often non-commercial because of the training data"


def origin_of(source: str) -> str:
    """Shortens `nn.weights.LoadedNetwork.source` to what may be published: no folders."""
    name, mark, rest = source.partition(" sha256:")
    return PurePath(name).name + mark + rest if mark else source


def licence_of(source: str) -> str:
    """States the licence of the weights that a network was trained from.

    Args:
        source: As `nn.weights.LoadedNetwork.source`.
    """
    origin = origin_of(source)
    return next(
        (licence for start, licence in _LICENCES.items() if origin.startswith(start)), UNKNOWN
    )
