"""A frozen vision transformer with a linear classifier of kinds of images on its features.

A classifier on frozen features generalises to unseen generators far better than a network trained
on a few (Ojha et al. 2023); the features of every block, not the last one alone, carry the traces
of synthesis (Koutlis & Papadopoulos 2024).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from kryptonite.core.files import refuse_unknown
from kryptonite.nn.weights import rebuild_timm

# Kinds of images; forgeries made in training have names of their own.
BONA_FIDE, KNOWN = "bona_fide", "k_"
# Share of the kinds made in training in the log-odds. A larger one would find more of their kind,
# and call more photos of unknown sources synthetic (docs/robustness.md).
_MADE = 0.2


class Probe(nn.Module):
    """Maps normalised crops to the log-odds of 'synthetic'.

    The classifier tells apart K kinds of images: bona fide, and several kinds of forgeries. Two
    classes alone would need one direction in feature space that all kinds of forgeries share.

    Args:
        encoder: A timm vision transformer without head.
        kinds: Names of the K kinds, bona fide first; the data's own forgeries are `k_`.
    """

    def __init__(self, encoder: nn.Module, kinds: Sequence[str]):
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        depth = len(encoder.blocks)
        # Further blocks, those between and the last ones, added nothing on withheld forgeries.
        self._blocks = list(range(depth // 4, depth * 5 // 6, 2))
        self._class_token = encoder.cls_token is not None
        parts = (1 + self._class_token) * len(self._blocks)
        self.head = nn.Linear(parts * encoder.embed_dim, len(kinds))
        forged = range(1, len(kinds))
        self._made = [number for number in forged if kinds[number] != KNOWN] or list(forged)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Extracts float32, N×F, from normalised images, N×3×S×S.

        Of every second block, from the end of the first quarter to the last sixth: the class
        token, if there is one, and the mean of the patch tokens, each of unit length.
        """
        stages = self.encoder.forward_intermediates(
            images,
            indices=self._blocks,
            output_fmt="NLC",
            return_prefix_tokens=self._class_token,
            intermediates_only=True,
            stop_early=True,
        )
        parts = []
        for stage in stages:
            patches, prefix = stage if self._class_token else (stage, None)
            parts += [] if prefix is None else [prefix[:, 0]]
            parts.append(patches.mean(1))
        return torch.cat([normalize(part.float(), dim=1) for part in parts], 1)

    def log_odds(self, features: torch.Tensor) -> torch.Tensor:
        """Maps features, N×F, to log-odds, N.

        A weighted mean of two log-odds against bona fide: of any kind of forgery, and of the kinds
        made in training. Where photos resemble the data's own, `k_` outweighs every other kind in
        the first; the second keeps their traces in sight.
        """
        kinds = self.head(features)
        any_kind, made = (kinds[:, chosen].logsumexp(1) for chosen in (slice(1, None), self._made))
        return (1 - _MADE) * any_kind + _MADE * made - kinds[:, 0]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the log-odds of 'synthetic', float32, N×1."""
        return self.log_odds(self.features(images))[:, None]


def rebuild_probe(blueprint: dict[str, Any]) -> Probe:
    """Builds a probe with random weights.

    Args:
        blueprint: `encoder`, a timm blueprint, and `kinds`, their names.
    """
    refuse_unknown(blueprint, ("encoder", "kinds"))
    return Probe(rebuild_timm(blueprint["encoder"]), blueprint["kinds"])
