"""Margin losses and the spoof-aware term against naive loops, and the gradients of both."""

import math

import pytest
import torch

from kryptonite.core.errors import ConfigError
from kryptonite.recognition.config import RecognitionConfig
from kryptonite.recognition.losses import LOSSES, SUB_CENTRES, SpoofAwareMarginLoss

PEOPLE, DIM = 5, 7


def loss_of(name, margin=None, scale=16.0, spoof_weight=0.5, dtype=torch.float32):
    torch.manual_seed(1)
    margin = margin if margin is not None else (0.2 if name == "cosface" else 20.0)
    config = RecognitionConfig(
        loss=name,
        embedding_dim=DIM,
        margin=margin,
        scale=scale,
        spoof_weight=spoof_weight,
        spoof_margin=0.1,
    )
    return SpoofAwareMarginLoss(config, PEOPLE).to(dtype)


def batch(dtype=torch.float32):
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(
        torch.randn(9, DIM, dtype=dtype), dim=1
    ).requires_grad_()
    return (
        embeddings,
        torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3]),
        torch.tensor([False] * 6 + [True] * 3),
    )


@torch.no_grad()
def cosines(loss, embedding, person):
    """Computes the cosine to each identity's nearest sub-centre, in a plain loop."""
    weights = loss.margin_loss.W
    each = weights.shape[1] // PEOPLE
    values = []
    for identity in range(PEOPLE):
        columns = [weights[:, identity * each + k] for k in range(each)]
        values.append(
            max(float(embedding @ column / column.norm() / embedding.norm()) for column in columns)
        )
    return values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
@torch.no_grad()
def test_spoof_aware_margin_loss_equals_naive_loop(name, dtype):
    loss = loss_of(name, dtype=dtype)
    embeddings, people, synthetic = batch(dtype)
    margin, spoof = [], []
    for embedding, person, forged in zip(
        embeddings, people.tolist(), synthetic.tolist(), strict=True
    ):
        cosine = cosines(loss, embedding, person)
        if forged:
            spoof.append(max(0.0, cosine[person] - 0.1) ** 2)
            continue
        own = (
            cosine[person] - 0.2
            if name == "cosface"
            else math.cos(math.acos(cosine[person]) + math.radians(20))
        )
        logits = [
            16 * (own if identity == person else value) for identity, value in enumerate(cosine)
        ]
        margin.append(math.log(sum(math.exp(value) for value in logits)) - logits[person])
    terms = loss(embeddings, people, synthetic)
    assert float(terms["margin"]) == pytest.approx(sum(margin) / len(margin), rel=1e-4)
    assert float(terms["spoof"]) == pytest.approx(sum(spoof) / len(spoof), rel=1e-4, abs=1e-7)
    assert float(terms["loss"]) == pytest.approx(
        float(terms["margin"]) + 0.5 * float(terms["spoof"]), rel=1e-6
    )


@pytest.mark.parametrize("name", LOSSES)
def test_spoof_aware_margin_loss_gives_each_term_its_gradient(name):
    loss = loss_of(name)
    embeddings, people, synthetic = batch()
    with torch.no_grad():  # forgeries that sit on their identity's centre
        embeddings[6:] = torch.nn.functional.normalize(
            loss.margin_loss.W.t().view(PEOPLE, -1, DIM)[people[6:], 0] + 0.1, dim=1
        )
    terms = loss(embeddings, people, synthetic)
    assert terms["spoof"].item() > 0.1
    of_margin = torch.autograd.grad(
        terms["margin"], [embeddings, loss.margin_loss.W], retain_graph=True
    )
    assert (
        (of_margin[0][:6].norm(dim=1) > 0).all()
        and (of_margin[0][6:] == 0).all()
        and of_margin[1].norm() > 0
    )
    of_spoof = torch.autograd.grad(
        terms["spoof"], [embeddings, loss.margin_loss.W], retain_graph=True, allow_unused=True
    )
    assert (of_spoof[0][6:].norm(dim=1) > 0).all() and (of_spoof[0][:6] == 0).all()
    assert of_spoof[1] is None or of_spoof[1].norm() == 0  # forgeries do not move the centres
    whole = torch.autograd.grad(terms["loss"], embeddings)[0]
    assert torch.allclose(whole, of_margin[0] + 0.5 * of_spoof[0])


def test_spoof_aware_margin_loss_pushes_forgery_off_its_centre():
    loss = loss_of("arcface", spoof_weight=50.0)
    embeddings, *_ = batch()
    forged = torch.nn.Parameter(
        torch.nn.functional.normalize(loss.margin_loss.W[:, 0].detach() + 0.05, dim=0)[None]
    )
    optimiser = torch.optim.SGD([forged], lr=0.5)
    for _ in range(60):
        terms = loss(
            torch.cat([embeddings[:2].detach(), forged]),
            torch.tensor([0, 1, 0]),
            torch.tensor([False, False, True]),
        )
        optimiser.zero_grad()
        terms["spoof"].backward()
        optimiser.step()
    assert cosines(loss, forged[0].detach(), 0)[0] < 0.25


@pytest.mark.parametrize("synthetic", [True, False])
def test_spoof_aware_margin_loss_has_finite_gradients_when_batch_has_one_class(synthetic):
    loss = loss_of("arcface")
    embeddings, people, _ = batch()
    terms = loss(embeddings, people, torch.full((9,), synthetic))
    terms["loss"].backward()
    assert torch.isfinite(embeddings.grad).all()
    assert terms["margin" if synthetic else "spoof"].item() == 0


def test_spoof_aware_margin_loss_checks_names_and_adds_sub_centres():
    with pytest.raises(ConfigError, match="arcface"):
        loss_of("triplet")
    assert loss_of("subcentre_arcface").margin_loss.W.shape == (DIM, PEOPLE * SUB_CENTRES)
