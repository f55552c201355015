"""Margin losses over identities, with a term that keeps synthetic images away from them."""

import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, SubCenterArcFaceLoss
from torch import nn

from kryptonite.core.errors import ConfigError
from kryptonite.recognition.config import RecognitionConfig

SUB_CENTRES = 3
LOSSES = {"arcface": ArcFaceLoss, "cosface": CosFaceLoss, "subcentre_arcface": SubCenterArcFaceLoss}


class SpoofAwareMarginLoss(nn.Module):
    """A margin softmax on bona fide images plus `spoof_weight` times a hinge on synthetic ones.

    The margin loss is ArcFace (Deng et al. 2019), CosFace (Wang et al. 2018) or sub-centre ArcFace
    (Deng et al. 2020) of pytorch-metric-learning. The hinge is
    mean(max(0, cos(synthetic image, nearest centre of its identity) − spoof_margin)²). It leaves
    the centres fixed: bona fide images alone decide where an identity lies.

    Args:
        config: Gives the loss, its margin and scale, the length of the embedding, and weight and
            margin of the hinge.
        identities: Number of training identities.

    Raises:
        ConfigError: There is no loss of this name.
    """

    def __init__(self, config: RecognitionConfig, identities: int):
        super().__init__()
        if config.loss not in LOSSES:
            raise ConfigError(
                f"no margin loss is called {config.loss!r}; there are {', '.join(LOSSES)}"
            )
        extra = {"sub_centers": SUB_CENTRES} if config.loss == "subcentre_arcface" else {}
        self.margin_loss = LOSSES[config.loss](
            num_classes=identities,
            embedding_size=config.embedding_dim,
            margin=config.margin,
            scale=config.scale,
            **extra,
        )
        self._spoof_weight = config.spoof_weight
        self._spoof_margin = config.spoof_margin

    def forward(
        self, embeddings: torch.Tensor, identity: torch.Tensor, synthetic: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Returns the scalars `margin`, `spoof` (unweighted) and `loss`.

        Args:
            embeddings: N×D, of any length.
            identity: int64, N, 0..identities−1; of a synthetic image, the person it imitates.
            synthetic: bool, N.
        """
        zero = embeddings.sum() * 0  # keeps every parameter in the graph, as DDP requires
        bona_fide = ~synthetic
        margin = zero
        if bona_fide.any():
            margin = self.margin_loss(embeddings[bona_fide], identity[bona_fide])
        spoof = zero
        if synthetic.any():
            spoof = self._hinge(embeddings[synthetic], identity[synthetic])
        return {"margin": margin, "spoof": spoof, "loss": margin + self._spoof_weight * spoof}

    def _hinge(self, embeddings: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        centres = nn.functional.normalize(self.margin_loss.W.detach(), dim=0)
        cosine = nn.functional.normalize(embeddings, dim=1) @ centres.to(embeddings.dtype)
        # The sub-centres of an identity are adjacent columns.
        cosine = cosine.view(len(embeddings), self.margin_loss.num_classes, -1).amax(2)
        own = cosine.gather(1, identity[:, None]).squeeze(1)
        return (own - self._spoof_margin).clamp(min=0).square().mean()
