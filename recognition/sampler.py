"""Identity-balanced batches."""

import numpy as np

from kryptonite.core.errors import DataError
from kryptonite.nn.train.batches import RankedBatches


class IdentityBalanced(RankedBatches):
    """Batches of `people` identities with `photos` genuine images each, and `forged` synthetic images of each that has any.

    An epoch deals every genuine image about once: people come in shuffled rounds, each with the next of their shuffled photos, so that a
    person with few photos is seen as often as one with many.

    Args:
        person: N, identity of each row.
        synthetic: N bool.
        people: Identities per batch; fewer where there are not as many.
        photos: Genuine images of each.
        forged: Synthetic images of each.
        seed: Of the draws.

    Raises:
        DataError: Nobody has a genuine image.
    """

    def __init__(
        self,
        person: np.ndarray,
        synthetic: np.ndarray,
        people: int,
        photos: int,
        forged: int,
        seed: int,
    ):
        super().__init__(seed)
        person, synthetic = np.asarray(person), np.asarray(synthetic).astype(bool)
        rows = np.arange(len(person))
        everyone = np.unique(person[~synthetic])
        if not len(everyone):
            raise DataError(
                "recognition cannot be trained: no training identity has a genuine image"
            )
        self._genuine = [rows[(person == one) & ~synthetic] for one in everyone]
        self._synthetic = [rows[(person == one) & synthetic] for one in everyone]
        self._people = min(people, len(everyone))
        self._photos, self._forged = photos, forged
        self._batches = max(1, round(int((~synthetic).sum()) / (self._people * photos)))

    def count(self) -> int:
        """Batches in an epoch."""
        return self._batches

    def draw(self, generator: np.random.Generator) -> list[list[int]]:
        """Draws one epoch."""
        photos = [_Deck(rows, generator) for rows in self._genuine]
        forged = [_Deck(rows, generator) for rows in self._synthetic]
        turn = _Deck(np.arange(len(photos)), generator)
        batches = []
        for _ in range(self._batches):
            batch: list[int] = []
            for one in turn.deal(self._people):
                batch += photos[one].deal(self._photos)
                batch += forged[one].deal(self._forged)
            batches.append(batch)
        return batches


class _Deck:
    """Deals shuffled cards without repeating one before all were dealt; within one hand only where the deck is smaller than the hand."""

    def __init__(self, cards: np.ndarray, generator: np.random.Generator):
        self._cards, self._generator, self._left = cards, generator, []

    def deal(self, number: int) -> list[int]:
        hand: list[int] = []
        while len(hand) < number and len(self._cards):
            if not self._left:
                fresh = self._generator.permutation(self._cards).tolist()
                # Cards already in the hand go last, so that a hand across two shuffles repeats none while others are left.
                self._left = [card for card in fresh if card not in hand] + [
                    card for card in fresh if card in hand
                ]
            hand.append(self._left.pop(0))
        return hand
