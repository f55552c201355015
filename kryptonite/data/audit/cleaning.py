"""Finds genuine photos filed under the wrong identity, from a face recogniser's embeddings.

1. Embeddings are centred on their common mean. Average linkage groups the photos of a folder into
   communities: two groups merge only when they are similar on average, so that a single look-alike
   pair cannot merge two people. (Louvain communities were tried: they split the photos of one
   person, and a fifth of what should be moved is dropped instead.)
2. A folder's largest community represents its identity. A photo's likeness to an identity is its
   mean similarity to that community, found without the photo itself, in units of the scatter of
   non-mated likenesses: 0 is a typical stranger, whatever the recogniser's range of cosines.
3. Likenesses to the own identity and to strangers follow two Student distributions; expectation
   maximisation fits the former and the share of mislabels. Together they give the probability that
   a photo shows its folder's identity, a particular other one, or somebody without a folder. Only
   photos above the required probability are moved or dropped, so a recogniser too weak to tell
   people apart changes nothing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.special import logsumexp
from scipy.stats import t as student

from kryptonite.core.chunks import chunked
from kryptonite.core.errors import ConfigError, DataError

KEEP, MOVE, DROP = "keep", "move", "drop"
# A community this large, relative to the folder's largest, may represent the folder just as well.
RIVAL = 2 / 3
# Degrees of freedom. Non-mated likenesses beyond 3, 4 and 5 standard deviations were measured to be
# about this frequent, many times more than under a Gaussian.
TAIL = 10
SAMPLE = 2000  # photos whose similarities represent those of all strangers
# Parts, at most, into which a folder's photos are divided to be left out together: leaving them out
# one by one would take time cubic in the size of the folder.
FOLDS = 20
CHUNK = 1024  # photos compared with all identities at a time; bounds memory
MAD = 1.4826  # scales a median absolute deviation to a standard deviation


@dataclass
class CleanConfig:
    """When a photo is taken from its folder.

    Args:
        certain: Required probability, 0.5..1, that a photo shows somebody else (to drop it) or one
            particular other identity (to move it).
    """

    certain: float = 0.9

    def __post_init__(self):
        if not 0.5 <= self.certain <= 1:
            raise ConfigError(f"certain must lie in 0.5..1, got {self.certain}")


def find_mislabels(
    label: np.ndarray,
    embeddings: np.ndarray,
    is_synthetic: np.ndarray,
    config: CleanConfig | None = None,
) -> pd.DataFrame:
    """Decides which photos to keep, to move to another identity and to drop.

    Synthetic images are kept and ignored: they are filed under the identity they imitate. A
    folder's only photo is kept too, since there is nothing to compare it with. Nothing is dropped
    from a folder whose other photos all differ from each other, such as a folder of two: either
    could be the wrong one. Where several identities have about equally many photos in a folder, one
    that has a folder elsewhere is moved there; otherwise all are kept and nothing is moved into
    that folder. Two folders of one identity are reported in the reason and left as they are. Poor
    genuine photos are kept as long as their likeness is plausible for a poor photo of their
    identity.

    Args:
        label: N identities.
        embeddings: N×D, rows of unit length.
        is_synthetic: N bool, true for synthetic images.
        config: Required certainty.

    Returns:
        N rows in order: action (`keep`, `move`, `drop`), label (the new one; the old one where
        dropped), probability (that the action is right; NaN for synthetic images), own (likeness to
        the folder's identity, in standard deviations of non-mated likenesses; NaN where there is no
        other photo), best and best_label (the greatest likeness to another identity), community
        (number of photos in this photo's community), core (whether that community represents the
        folder), reason.

    Raises:
        DataError: Fewer than three identities have genuine photos, or lengths differ.
    """
    config = config or CleanConfig()
    label, bona_fide = np.asarray(label).astype(str), ~np.asarray(is_synthetic).astype(bool)
    if len(embeddings) != len(label) or len(bona_fide) != len(label):
        raise DataError(
            f"{len(label)} labels, {len(embeddings)} embeddings and {len(bona_fide)} classes must "
            "be of one length"
        )
    rows = np.flatnonzero(bona_fide)
    decided = _decide(label[rows], np.asarray(embeddings, np.float64)[rows], config)
    found = decided.set_index(rows).reindex(np.arange(len(label)))
    blank = {
        "action": KEEP,
        "label": pd.Series(label),
        "best_label": "",
        "community": 0,
        "core": False,
        "reason": "synthetic: stays with the person it imitates",
    }
    return found.fillna(blank).astype(decided.dtypes.to_dict())


def clean_table(
    images: pd.DataFrame, embeddings: np.ndarray, config: CleanConfig | None = None
) -> pd.DataFrame:
    """Relabels moved photos of a table and leaves dropped ones out.

    Args:
        images: Columns label, is_synthetic and others.
        embeddings: N×D, one per row of `images`.
        config: Required certainty, as for `find_mislabels`.
    """
    found = find_mislabels(
        images["label"].to_numpy(), embeddings, images["is_synthetic"].to_numpy(), config
    )
    cleaned = images.assign(label=found["label"].to_numpy())
    return cleaned[(found["action"] != DROP).to_numpy()].reset_index(drop=True)


@dataclass(frozen=True)
class _Community:
    """A group of similar photos that may represent its folder's identity."""

    identity: int
    rows: np.ndarray
    centre: np.ndarray


@dataclass(frozen=True)
class _Scale:
    """Converts similarities to likenesses, and likenesses to evidence.

    Args:
        stranger: Median similarity of a photo to an identity that it does not show.
        unit: Standard deviation of those similarities, robustly estimated.
        mean: Mean likeness of a photo to its own identity.
        spread: Scale of the likenesses to the own identity.
    """

    stranger: float
    unit: float
    mean: float
    spread: float

    def likeness(self, similarity: np.ndarray) -> np.ndarray:
        return (similarity - self.stranger) / self.unit

    def evidence(self, likeness: np.ndarray) -> np.ndarray:
        """Log-likelihood ratio of 'this identity' to 'a stranger'.

        Constant beyond the two centres, where the ratio of Student densities would turn back.
        """
        likeness = np.clip(likeness, 0, self.mean)
        mated = np.log1p(((likeness - self.mean) / self.spread) ** 2 / TAIL)
        non_mated = np.log1p(likeness**2 / TAIL)
        return (TAIL + 1) / 2 * (non_mated - mated) - np.log(self.spread)


def _decide(label: np.ndarray, embeddings: np.ndarray, config: CleanConfig) -> pd.DataFrame:
    """`find_mislabels` for the genuine photos alone."""
    names, own = np.unique(label, return_inverse=True)
    count = len(names)
    if count < 3:
        raise DataError(
            f"cleaning compares people with each other, but only {count} have genuine photos"
        )
    # The mean of all faces carries no identity, but raises the cosines of some recognisers a lot.
    embeddings = embeddings - embeddings.mean(0)
    embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    # Sort by content, so that the result does not depend on the order of rows.
    order = np.lexsort(embeddings.T[:8])
    folders = np.split(
        order[np.argsort(own[order], kind="stable")], np.cumsum(np.bincount(own))[:-1]
    )
    sample = order[:: -(-len(own) // SAMPLE)]

    threshold = _same_identity_threshold(embeddings, own, folders, sample)
    size, cores = _all_cores(embeddings, folders, threshold)
    similarity, corroborated = _own_similarity(embeddings, folders, folders, threshold)
    scale = _fit_scale(
        _identity_similarity(embeddings[sample], cores), own[sample], similarity[corroborated]
    )

    elsewhere = _folders_elsewhere(cores, count, scale)
    guests = _guests(cores, elsewhere)
    if guests.any():
        away = np.concatenate(
            [core.rows for core, guest in zip(cores, guests, strict=True) if guest]
        )
        hosts = [folders[identity] for identity in np.unique(own[away])]
        again, seen = _own_similarity(
            embeddings, hosts, [rows[~np.isin(rows, away)] for rows in hosts], threshold
        )
        rows = np.concatenate(hosts)
        similarity[rows], corroborated[rows] = again[rows], seen[rows]
        cores = [core for core, guest in zip(cores, guests, strict=True) if not guest]
        elsewhere = elsewhere[~guests]
    rivals = np.bincount([core.identity for core in cores], minlength=count)

    likeness = scale.likeness(similarity)
    evidence = np.where(np.isnan(likeness), 0, scale.evidence(likeness))
    evidence = np.where(corroborated, evidence, np.maximum(evidence, 0))
    best, best_likeness, best_evidence, all_evidence = _others(embeddings, own, cores, scale)
    stays, moves = _probabilities(evidence, corroborated, best_evidence, all_evidence, count)

    alone = np.bincount(own)[own] == 1
    moved = (moves >= config.certain) & (rivals == 1)[best] & ~alone
    action = np.where(
        moved, MOVE, np.where((1 - stays >= config.certain) & corroborated, DROP, KEEP)
    )
    in_core = np.zeros(len(own), bool)
    in_core[np.concatenate([core.rows for core in cores])] = True
    second_folder = np.full(count, -1)
    second_folder[[core.identity for core in cores]] = elsewhere
    reasons = [
        (
            action == MOVE,
            np.array([f"looks like {name}, unlike its folder" for name in names])[best],
        ),
        (action == DROP, "unlike its folder, with no certain match elsewhere"),
        (alone, "the only photo in its folder: nothing to compare it with"),
        (
            ~corroborated & (evidence <= 0),
            "undecided: too few similar photos in this folder",
        ),
        (
            (rivals > 1)[own] & in_core,
            "undecided: this folder holds several people with about equally many photos",
        ),
        (stays < 0.5, "unlike its folder, but not certainly enough to move or drop it"),
        (
            second_folder[own] >= 0,
            np.array(
                [
                    f"looks like its folder and like folder {names[other]}: the same person?"
                    for other in second_folder
                ]
            )[own],
        ),
    ]
    return pd.DataFrame(
        {
            "action": action,
            "label": np.where(action == MOVE, names[best], names[own]),
            "probability": np.select([action == MOVE, action == DROP], [moves, 1 - stays], stays),
            "own": likeness,
            "best": best_likeness,
            "best_label": names[best],
            "community": size,
            "core": in_core,
            "reason": np.select(
                [where for where, _ in reasons],
                [reason for _, reason in reasons],
                "looks like its folder",
            ),
        }
    )


def _same_identity_threshold(
    embeddings: np.ndarray, own: np.ndarray, folders: list[np.ndarray], sample: np.ndarray
) -> float:
    """The similarity at which mated pairs are split as often as non-mated pairs are merged.

    Corrects for the mislabels within folders.
    """
    within = np.sort(
        np.concatenate(
            [
                (embeddings[rows] @ embeddings[rows].T)[np.triu_indices(len(rows), 1)]
                for rows in folders
            ]
        )
    )
    between = np.sort(
        (embeddings[sample] @ embeddings[sample].T)[own[sample][:, None] != own[sample]]
    )
    if not len(within):
        return 1.0
    # Hardly any mated pair lies below the strangers' median; half of the non-mated pairs do. So the
    # pairs within folders that lie there are half of the non-mated ones.
    mislabelled = min(0.95, 2 * np.searchsorted(within, np.median(between)) / len(within))
    grid = np.linspace(np.median(between), within[-1], 1001)
    merged = 1 - np.searchsorted(between, grid) / len(between)
    split = np.clip(
        (np.searchsorted(within, grid) / len(within) - mislabelled * (1 - merged))
        / (1 - mislabelled),
        0,
        1,
    )
    return float(grid[np.argmin(np.abs(split - merged))])


def _communities(embeddings: np.ndarray, threshold: float) -> np.ndarray:
    """Groups a folder's photos; returns the community number of each photo."""
    if len(embeddings) == 1:
        return np.zeros(1, int)
    distance = np.clip(1 - embeddings @ embeddings.T, 0, None)
    np.fill_diagonal(distance, 0)
    return (
        fcluster(linkage(squareform(distance, checks=False), "average"), 1 - threshold, "distance")
        - 1
    )


def _representatives(community: np.ndarray) -> np.ndarray:
    """Numbers of the communities that may represent their folder: the largest and its rivals."""
    sizes = np.bincount(community)
    return np.flatnonzero(sizes >= RIVAL * sizes.max())


def _all_cores(
    embeddings: np.ndarray, folders: list[np.ndarray], threshold: float
) -> tuple[np.ndarray, list[_Community]]:
    """Groups the photos of every folder.

    Returns:
        The size of each photo's community, and all communities that may represent a folder, sorted
        by identity.
    """
    size, cores = np.ones(len(embeddings), int), []
    for identity, rows in enumerate(folders):
        community = _communities(embeddings[rows], threshold)
        size[rows] = np.bincount(community)[community]
        for number in _representatives(community):
            chosen = rows[community == number]
            cores.append(_Community(identity, chosen, embeddings[chosen].mean(0)))
    return size, cores


def _own_similarity(
    embeddings: np.ndarray, folders: list[np.ndarray], residents: list[np.ndarray], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Similarity of each photo to its folder's identity, without the photo's own influence.

    The communities are found anew without the photo: a photo that helped to choose what it is
    compared with would seem to belong, the more so the weaker the recogniser.

    Args:
        embeddings: N×D, centred, unit length.
        folders: Rows of the photos to assess, per folder.
        residents: Rows of the photos that may represent the folder, per folder.
        threshold: Similarity at which communities are cut.

    Returns:
        N similarities (NaN where there is no other photo), and N bool: whether at least two photos
        agree on whom the folder shows.
    """
    similarity, corroborated = np.full(len(embeddings), np.nan), np.zeros(len(embeddings), bool)
    for rows, resident in zip(folders, residents, strict=True):
        for part in np.array_split(rows, min(FOLDS, len(rows))):
            rest = resident[~np.isin(resident, part)]
            if not len(rest):
                continue
            community = _communities(embeddings[rest], threshold)
            numbers = _representatives(community)
            centres = np.stack(
                [embeddings[rest[community == number]].mean(0) for number in numbers]
            )
            similarity[part] = (embeddings[part] @ centres.T).max(1)
            corroborated[part] = np.bincount(community).max() > 1
    return similarity, corroborated


def _identity_similarity(embeddings: np.ndarray, cores: list[_Community]) -> np.ndarray:
    """N×K similarities to identities; to the most similar one among rival communities."""
    first = np.flatnonzero(np.diff([core.identity for core in cores], prepend=-1))
    return np.maximum.reduceat(
        embeddings @ np.stack([core.centre for core in cores]).T, first, axis=1
    )


def _fit_scale(similarity: np.ndarray, own: np.ndarray, to_own: np.ndarray) -> _Scale:
    """Fits the distributions of likenesses to strangers and to the own identity.

    Args:
        similarity: S×K similarities of a sample of photos to all identities.
        own: S identities in whose folders these photos are.
        to_own: M similarities of photos to their own folder's identity, mislabels among them.
    """
    strangers = similarity[own[:, None] != np.arange(similarity.shape[1])]
    stranger = float(np.median(strangers))
    unit = max(MAD * float(np.median(np.abs(strangers - stranger))), 1e-9)
    likeness = (to_own - stranger) / unit
    mean, spread, wrong = 0.0, 1.0, 0.1
    if len(likeness):
        mean = float(np.median(likeness))
        spread = MAD * float(np.median(np.abs(likeness - mean)))
    for _ in range(100 if len(likeness) else 0):
        before = mean
        mean, spread = max(mean, 0.1), max(spread, 0.1)
        right = (1 - wrong) * student.pdf(likeness, TAIL, mean, spread)
        right /= right + wrong * student.pdf(likeness, TAIL) + 1e-300
        # Weights of the Student distribution, which limit outliers (Lange, Little & Taylor 1989).
        weight = right * (TAIL + 1) / (TAIL + ((likeness - mean) / spread) ** 2)
        mean = float((weight * likeness).sum() / max(weight.sum(), 1e-12))
        spread = float(np.sqrt((weight * (likeness - mean) ** 2).sum() / max(right.sum(), 1e-12)))
        wrong = float(np.clip(1 - right.mean(), 1e-4, 0.5))
        if abs(mean - before) < 1e-6:
            break
    return _Scale(stranger, unit, max(mean, 0.1), max(spread, 0.1))


def _folders_elsewhere(cores: list[_Community], count: int, scale: _Scale) -> np.ndarray:
    """Finds, per community, another folder of the same identity; −1 where there is none.

    The evidence must exceed what the most similar of all strangers would reach by chance.
    """
    identity = np.array([core.identity for core in cores])
    centres = np.stack([core.centre for core in cores])
    several = np.array([len(core.rows) > 1 for core in cores])
    # A folder of rival communities represents none of them for certain, and a single photo cannot
    # show whom a folder represents.
    unambiguous = several & (np.bincount(identity, minlength=count)[identity] == 1)
    likeness = np.where(
        unambiguous & (identity[:, None] != identity), scale.likeness(centres @ centres.T), -np.inf
    )
    return np.where(
        several & (scale.evidence(likeness.max(1)) > np.log(count)),
        identity[likeness.argmax(1)],
        -1,
    )


def _guests(cores: list[_Community], elsewhere: np.ndarray) -> np.ndarray:
    """Marks communities whose folder is elsewhere, where a rival remains to own this folder."""
    identity = np.array([core.identity for core in cores])
    return (elsewhere >= 0) & np.isin(identity, identity[elsewhere < 0])


def _others(
    embeddings: np.ndarray, own: np.ndarray, cores: list[_Community], scale: _Scale
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compares each photo with all identities but its own.

    Returns:
        The most similar identity, the likeness to it, the evidence for it, and the log of the sum
        of all likelihood ratios.
    """
    parts = []
    for part, identity in zip(chunked(embeddings, CHUNK), chunked(own, CHUNK), strict=True):
        likeness = scale.likeness(_identity_similarity(part, cores))
        evidence = scale.evidence(likeness)
        rows = np.arange(len(likeness))
        likeness[rows, identity] = evidence[rows, identity] = -np.inf
        best = likeness.argmax(1)
        parts.append(
            (best, likeness[rows, best], evidence[rows, best], logsumexp(evidence, axis=1))
        )
    best, *rest = (np.concatenate(column) for column in zip(*parts, strict=True))
    return best, *rest


def _probabilities(
    own: np.ndarray, corroborated: np.ndarray, best: np.ndarray, all_others: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that a photo shows its folder's identity, and that it shows the best other one.

    Args:
        own: Evidence for the folder's identity.
        corroborated: Where that evidence may also be negative; only these photos inform the shares.
        best: Evidence for the best other identity.
        all_others: Log of the sum of the likelihood ratios of all other identities.
        count: Number of identities.
    """
    if not corroborated.any():
        return np.ones(len(own)), np.zeros(len(own))
    wrong = 0.1  # share of mislabels among photos
    nobody = 0.1  # share of mislabels whose identity has no folder
    for _ in range(100):
        joint = np.stack(
            [
                np.log1p(-wrong) + own,
                np.full(len(own), np.log(wrong * nobody)),
                np.log(wrong * (1 - nobody) / (count - 1)) + all_others,
            ]
        )
        probability = np.exp(joint - logsumexp(joint, axis=0))
        before = wrong, nobody
        mislabelled = 1 - probability[0, corroborated]
        # Keep off 0 and 1, where the estimate would be stuck.
        wrong = float(np.clip(mislabelled.mean(), 1e-4, 0.5))
        nobody = float(
            np.clip(probability[1, corroborated].sum() / max(mislabelled.sum(), 1e-12), 0.01, 0.99)
        )
        if abs(wrong - before[0]) + abs(nobody - before[1]) < 1e-6:
            break
    return probability[0], probability[2] * np.exp(best - all_others)
