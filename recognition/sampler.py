"""Identity-balanced batches."""

import numpy as np

from kryptonite.core.errors import DataError
from kryptonite.core.groups import rows_by_group
from kryptonite.nn.train.batches import RankedBatches


class IdentityBalanced(RankedBatches[int]):
    """Batches of rows with equally many images of each of several identities.

    An epoch deals every bona fide image about once. Identities come in shuffled rounds, each with
    the next of its shuffled images, so an identity with few images appears as often as one with
    many.

    Args:
        identity: N, identity of each row.
        synthetic: N bool.
        identities: Identities per batch, or all of them where there are fewer.
        bona_fide: Bona fide images of each identity.
        forged: Synthetic images of each identity that has any.
        seed: Seeds the draws.

    Raises:
        DataError: No identity has a bona fide image.
    """

    def __init__(
        self,
        identity: np.ndarray,
        synthetic: np.ndarray,
        identities: int,
        bona_fide: int,
        forged: int,
        seed: int,
    ):
        super().__init__(seed)
        identity, synthetic = np.asarray(identity), np.asarray(synthetic).astype(bool)
        sides = [
            (rows[~synthetic[rows]], rows[synthetic[rows]]) for rows in rows_by_group(identity)
        ]
        present = [(genuine, generated) for genuine, generated in sides if len(genuine)]
        if not present:
            raise DataError(
                "recognition cannot be trained: no training identity has a genuine image"
            )
        self._rows = present
        self._identities = min(identities, len(present))
        self._bona_fide, self._forged = bona_fide, forged
        self._batches = max(1, round(int((~synthetic).sum()) / (self._identities * bona_fide)))

    def count(self) -> int:
        """Returns the number of batches in an epoch."""
        return self._batches

    def draw(self, generator: np.random.Generator) -> list[list[int]]:
        """Draws one epoch."""
        decks = [[_Deck(rows, generator) for rows in sides] for sides in self._rows]
        identities = _Deck(np.arange(len(decks)), generator)
        batches = []
        for _ in range(self._batches):
            batch: list[int] = []
            for one in identities.deal(self._identities):
                bona_fide, forged = decks[one]
                batch += bona_fide.deal(self._bona_fide) + forged.deal(self._forged)
            batches.append(batch)
        return batches


class _Deck:
    """Deals shuffled cards, each once before any comes again.

    A hand repeats a card only if it is larger than the deck.
    """

    def __init__(self, cards: np.ndarray, generator: np.random.Generator):
        self._cards, self._generator = cards, generator
        self._left: list[int] = []  # the next card is the last

    def deal(self, number: int) -> list[int]:
        hand: list[int] = []
        while len(hand) < number and len(self._cards):
            if not self._left:
                fresh = self._generator.permutation(self._cards).tolist()
                # Cards already in the hand go last, so that a hand across two shuffles repeats
                # none while others are left.
                held = [card for card in fresh if card in hand]
                self._left = [*[card for card in fresh if card not in hand], *held][::-1]
            hand.append(self._left.pop())
        return hand
