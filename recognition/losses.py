"""Margin losses over identities, and the term that keeps generated images away from them."""

import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, SubCenterArcFaceLoss
from torch import nn

from kryptonite.core.errors import ConfigError

SUB_CENTRES = 3
LOSSES = {"arcface": ArcFaceLoss, "cosface": CosFaceLoss, "subcentre_arcface": SubCenterArcFaceLoss}


class SpoofAwareMarginLoss(nn.Module):
    """A margin softmax on genuine photos plus `spoof_weight` times a hinge on `k_` images.

    ArcFace (Deng et al. 2019), CosFace (Wang et al. 2018) or sub-centre ArcFace (Deng et al. 2020) of pytorch-metric-learning. The hinge is
    mean(max(0, cos(k_ image, nearest centre of its identity) − spoof_margin)²). Centres are held fixed in it: genuine photos alone say
    where an identity lies.

    Args:
        name: One of `LOSSES`.
        people: Number of training identities.
        dim: Length of the embedding.
        margin: Degrees for the ArcFace kinds, cosine for CosFace.
        scale: Of the logits.
        spoof_weight: Of the hinge.
        spoof_margin: Cosine a `k_` image may keep to the centre.
    """

    def __init__(
        self,
        name: str,
        people: int,
        dim: int,
        margin: float,
        scale: float,
        spoof_weight: float,
        spoof_margin: float,
    ):
        super().__init__()
        if name not in LOSSES:
            raise ConfigError(f"no margin loss is called {name!r}; there are {', '.join(LOSSES)}")
        extra = {"sub_centers": SUB_CENTRES} if name == "subcentre_arcface" else {}
        self.margin_loss = LOSSES[name](
            num_classes=people, embedding_size=dim, margin=margin, scale=scale, **extra
        )
        self._spoof_weight = spoof_weight
        self._spoof_margin = spoof_margin

    def forward(
        self, embeddings: torch.Tensor, people: torch.Tensor, synthetic: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Gives `margin`, `spoof` (unweighted) and `loss`, scalars.

        Args:
            embeddings: N×D, of any length.
            people: N, identity 0..people−1; of a `k_` image, the person it pretends to be.
            synthetic: N bool.
        """
        zero = embeddings.sum() * 0  # keeps every parameter in the graph, which DDP asks for
        genuine = ~synthetic
        margin = self.margin_loss(embeddings[genuine], people[genuine]) if genuine.any() else zero
        spoof = zero
        if synthetic.any():
            spoof = self._hinge(embeddings[synthetic], people[synthetic])
        return {"margin": margin, "spoof": spoof, "loss": margin + self._spoof_weight * spoof}

    def _hinge(self, embeddings: torch.Tensor, people: torch.Tensor) -> torch.Tensor:
        centres = nn.functional.normalize(self.margin_loss.W.detach(), dim=0)
        cosine = nn.functional.normalize(embeddings, dim=1) @ centres.to(embeddings.dtype)
        # Sub-centres of one identity lie side by side.
        cosine = cosine.view(len(embeddings), self.margin_loss.num_classes, -1).amax(2)
        own = cosine.gather(1, people[:, None]).squeeze(1)
        return (own - self._spoof_margin).clamp(min=0).square().mean()
