"""Example pairs for the page: the demo's generated people, and never anyone else's data."""

from dataclasses import dataclass
from pathlib import Path

from kryptonite.data.demo import MARKER
from kryptonite.data.protocol import load_protocol
from kryptonite.metrics.kinds import KINDS

PER_KIND = 2  # pairs of each kind, and of each kind of forgery


@dataclass(frozen=True)
class Example:
    """A pair whose truth is known.

    Args:
        name: Unique, as part of a file's name.
        kind: `same`, `different` or `synthetic`.
        species: Kind of forgery; empty for bona fide pairs.
        photos: The JPEG files' bytes, first and second.
    """

    name: str
    kind: str
    species: str
    photos: tuple[bytes, bytes]


def load_examples(root: Path) -> list[Example]:
    """Reads the first test pairs of each kind of a demo.

    Args:
        root: Folder of data.

    Returns:
        Pairs of people whom training never saw; none unless the folder holds the demo's people.

    Raises:
        DataError: The demo's files are damaged or missing.
    """
    if not (root / MARKER).is_file():
        return []
    pairs = load_protocol(root / "gt.csv", root)
    rows = [
        row
        for kind in KINDS
        for _, group in pairs[pairs["kind"] == kind].groupby("species")
        for row in group.head(PER_KIND).itertuples()
    ]
    return [
        Example(
            f"pair-{number}",
            pair.kind,
            pair.species,
            (Path(pair.path_a).read_bytes(), Path(pair.path_b).read_bytes()),
        )
        for number, pair in enumerate(rows, start=1)
    ]
