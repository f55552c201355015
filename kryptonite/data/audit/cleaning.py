"""Finds genuine photos that are filed under the wrong person, from the embeddings of a face recogniser.

1. Embeddings are centred on their common mean. A folder's photos are a graph weighted by similarity, dealt into communities by average
   linkage: two groups join only when they look alike on average, so that no single look-alike pair joins two people. (Louvain communities
   were tried: they part one person's photos, and a fifth of what should be moved is dropped.)
2. A folder's largest community stands for its person. A photo's likeness to a person is its mean similarity to that community, found
   without the photo itself, in units of how far strangers' likenesses scatter: 0 is a stranger, whatever the recogniser's cosines are.
3. Likenesses to one's own person and to strangers follow two Student distributions, the former and the share of mislabels estimated by
   expectation maximisation. Together they give the probability that a photo shows its folder's person, a certain other one, or somebody who
   has no folder. Only what is certain enough is moved or dropped; a recogniser too weak to tell people apart moves and drops nothing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.special import logsumexp
from scipy.stats import t as student

from kryptonite.core.errors import ConfigError, DataError

KEEP, MOVE, DROP = "keep", "move", "drop"
RIVAL = (
    2 / 3
)  # of the largest community's size: another one from there on leaves open whose folder it is
TAIL = 10  # degrees of freedom; strangers beyond 3, 4, 5 spreads were measured to be as frequent, many times more than Gaussian ones
SAMPLE = 2000  # photos whose similarities stand for those of all strangers
FOLDS = 20  # parts at most, whose photos are left out of their folder together; one by one the time would grow with the cube of its size
CHUNK = 1024  # photos compared with all people at a time: bounds memory
MAD = 1.4826  # makes a median of absolute deviations a standard deviation


@dataclass
class CleanConfig:
    """When a photo is taken from its folder.

    Args:
        certain: Probability, 0.5..1, that a photo shows somebody else (to drop it) or one certain other person (to move it).
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
    """Judges whose photos these are.

    Synthetic images stay where they are and say nothing: they are filed under the person they pretend to be. So does a folder's only photo,
    which has nothing to be compared with. Of a folder whose other photos are all unlike each other, such as a folder of two, nothing is
    dropped: which of them is wrong is not told. Where several people have about equally many photos in a folder, one who has a folder
    elsewhere is moved there; failing that all of them are kept and nothing is moved to that folder. Two folders of one person are reported
    in the reason and left as they are. Genuine photos of poor quality are kept as long as the likeness could be a poor one of their person.

    Args:
        label: N identities.
        embeddings: N×D, rows of unit length.
        is_synthetic: N bool.
        config: How sure to be.

    Returns:
        N rows in order: action (`keep`, `move`, `drop`), label (the new one; the old one where dropped), probability (that the action is
        right; NaN for synthetic images), own (likeness to the folder's person, in spreads of strangers' likenesses; NaN where there is no
        other photo), best and best_label (the greatest likeness among the others), community (photos of the folder that look like this
        one, itself included), core (whether that community stands for the folder's person), reason.

    Raises:
        DataError: Fewer than three people have genuine photos, or lengths differ.
    """
    config = config or CleanConfig()
    label, genuine = np.asarray(label).astype(str), ~np.asarray(is_synthetic).astype(bool)
    if len(embeddings) != len(label) or len(genuine) != len(label):
        raise DataError(
            f"{len(label)} labels, {len(embeddings)} embeddings and {len(genuine)} classes must be of one length"
        )
    rows = np.flatnonzero(genuine)
    judged = _judge(label[rows], np.asarray(embeddings, np.float64)[rows], config)
    found = judged.set_index(rows).reindex(np.arange(len(label)))
    blank = {
        "action": KEEP,
        "label": pd.Series(label),
        "best_label": "",
        "community": 0,
        "core": False,
        "reason": "synthetic: stays with the person it pretends to be",
    }
    return found.fillna(blank).astype(judged.dtypes.to_dict())


def clean_table(
    images: pd.DataFrame, embeddings: np.ndarray, config: CleanConfig | None = None
) -> pd.DataFrame:
    """A table of images without its mislabels: moved photos with their new label, dropped ones left out.

    Args:
        images: Columns label, is_synthetic and others.
        embeddings: N×D, of its rows.
        config: As `find_mislabels`.
    """
    found = find_mislabels(
        images["label"].to_numpy(), embeddings, images["is_synthetic"].to_numpy(), config
    )
    cleaned = images.assign(label=found["label"].to_numpy())
    return cleaned[(found["action"] != DROP).to_numpy()].reset_index(drop=True)


@dataclass(frozen=True)
class _Community:
    person: int
    rows: np.ndarray
    centre: np.ndarray


@dataclass(frozen=True)
class _Scale:
    """From similarities to likenesses, and from these to evidence.

    Args:
        stranger: Median similarity of a photo to a stranger's photos.
        unit: Its spread.
        mean: Likeness of a photo to its own person.
        spread: Its spread.
    """

    stranger: float
    unit: float
    mean: float
    spread: float

    def likeness(self, similarity: np.ndarray) -> np.ndarray:
        return (similarity - self.stranger) / self.unit

    def evidence(self, likeness: np.ndarray) -> np.ndarray:
        """Log-likelihood ratio of 'this very person' to 'a stranger'; level beyond the two centres, where it would turn back."""
        likeness = np.clip(likeness, 0, self.mean)
        person = np.log1p(((likeness - self.mean) / self.spread) ** 2 / TAIL)
        stranger = np.log1p(likeness**2 / TAIL)
        return (TAIL + 1) / 2 * (stranger - person) - np.log(self.spread)  # of Student densities


def _judge(label: np.ndarray, embeddings: np.ndarray, config: CleanConfig) -> pd.DataFrame:
    names, own = np.unique(label, return_inverse=True)
    people = len(names)
    if people < 3:
        raise DataError(
            f"mislabels are told by comparing people; only {people} have genuine photos"
        )
    # What all faces have in common says nothing about whose they are, and lifts some recognisers' cosines a long way.
    embeddings = embeddings - embeddings.mean(0)
    embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    # An order of the photos' own, so that it does not matter in which order they come.
    order = np.lexsort(embeddings.T[:8])
    folders = np.split(
        order[np.argsort(own[order], kind="stable")], np.cumsum(np.bincount(own))[:-1]
    )
    sample = order[:: -(-len(own) // SAMPLE)]

    threshold = _same_person(embeddings, own, folders, sample)
    size, cores = _all_cores(embeddings, folders, threshold)
    similarity, witnessed = _own_similarity(embeddings, folders, folders, threshold)
    scale = _fit_scale(
        _people_similarity(embeddings[sample], cores), own[sample], similarity[witnessed]
    )

    twin = _twins(cores, people, scale)
    visitors = _visitors(cores, twin)
    if visitors.any():
        away = np.concatenate(
            [core.rows for core, visits in zip(cores, visitors, strict=True) if visits]
        )
        hosts = [folders[person] for person in np.unique(own[away])]
        again, seen = _own_similarity(
            embeddings, hosts, [rows[~np.isin(rows, away)] for rows in hosts], threshold
        )
        rows = np.concatenate(hosts)
        similarity[rows], witnessed[rows] = again[rows], seen[rows]
        cores, twin = (
            [core for core, visits in zip(cores, visitors, strict=True) if not visits],
            twin[~visitors],
        )
    standing = np.bincount([core.person for core in cores], minlength=people)

    likeness = scale.likeness(similarity)
    evidence = np.where(np.isnan(likeness), 0, scale.evidence(likeness))
    evidence = np.where(witnessed, evidence, np.maximum(evidence, 0))
    best, best_likeness, best_evidence, all_evidence = _others(embeddings, own, cores, scale)
    stays, moves = _probabilities(evidence, witnessed, best_evidence, all_evidence, people)

    alone = np.bincount(own)[own] == 1
    moved = (moves >= config.certain) & (standing == 1)[best] & ~alone
    action = np.where(moved, MOVE, np.where((1 - stays >= config.certain) & witnessed, DROP, KEEP))
    mark = np.zeros(len(own), bool)
    mark[np.concatenate([core.rows for core in cores])] = True
    twins = np.full(people, -1)
    twins[[core.person for core in cores]] = twin
    in_words = [
        (
            action == MOVE,
            np.array([f"looks like {name}, unlike its folder" for name in names])[best],
        ),
        (action == DROP, "unlike its folder, and like nobody else for certain"),
        (alone, "the only photo of its folder: nothing to compare it with"),
        (
            ~witnessed & (evidence <= 0),
            "too few photos of its folder look alike: whose it is is not told",
        ),
        (
            (standing > 1)[own] & mark,
            "its folder holds several people about equally often: whose it is is not told",
        ),
        (stays < 0.5, "unlike its folder, but not certainly"),
        (
            twins[own] >= 0,
            np.array(
                [
                    f"looks like its folder and like folder {names[other]}: one person twice?"
                    for other in twins
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
            "core": mark,
            "reason": np.select(
                [where for where, _ in in_words],
                [words for _, words in in_words],
                "looks like its folder",
            ),
        }
    )


def _same_person(
    embeddings: np.ndarray, own: np.ndarray, folders: list[np.ndarray], sample: np.ndarray
) -> float:
    """The similarity at which two photos are as often wrongly parted as wrongly joined, mislabels in the folders allowed for."""
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
    # Hardly a pair of one person lies below the strangers' median, so those that do are half of the folders' strangers.
    strange = min(0.95, 2 * np.searchsorted(within, np.median(between)) / len(within))
    grid = np.linspace(np.median(between), within[-1], 1001)
    joined = 1 - np.searchsorted(between, grid) / len(between)
    parted = np.clip(
        (np.searchsorted(within, grid) / len(within) - strange * (1 - joined)) / (1 - strange), 0, 1
    )
    return float(grid[np.argmin(np.abs(parted - joined))])


def _communities(embeddings: np.ndarray, threshold: float) -> np.ndarray:
    """Numbers the communities of a folder's photos: for each photo the number of its own."""
    if len(embeddings) == 1:
        return np.zeros(1, int)
    distance = np.clip(1 - embeddings @ embeddings.T, 0, None)
    np.fill_diagonal(distance, 0)
    return (
        fcluster(linkage(squareform(distance, checks=False), "average"), 1 - threshold, "distance")
        - 1
    )


def _standing(community: np.ndarray) -> np.ndarray:
    """Numbers of the communities that may stand for their folder's person: the largest and its rivals."""
    sizes = np.bincount(community)
    return np.flatnonzero(sizes >= RIVAL * sizes.max())


def _all_cores(
    embeddings: np.ndarray, folders: list[np.ndarray], threshold: float
) -> tuple[np.ndarray, list[_Community]]:
    """The size of every photo's community, and all communities that may stand for a person, in the order of people."""
    size, cores = np.ones(len(embeddings), int), []
    for person, rows in enumerate(folders):
        community = _communities(embeddings[rows], threshold)
        size[rows] = np.bincount(community)[community]
        for number in _standing(community):
            chosen = rows[community == number]
            cores.append(_Community(person, chosen, embeddings[chosen].mean(0)))
    return size, cores


def _own_similarity(
    embeddings: np.ndarray, folders: list[np.ndarray], residents: list[np.ndarray], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """N similarities to the folder's person, and whether two photos or more agree on who that is; NaN where there is no other photo.

    The communities are found anew without the photo: a photo that helped to choose whom it is compared with would look at home, and all the
    more so the weaker the recogniser is.
    """
    similarity, witnessed = np.full(len(embeddings), np.nan), np.zeros(len(embeddings), bool)
    for rows, at_home in zip(folders, residents, strict=True):
        for part in np.array_split(rows, min(FOLDS, len(rows))):
            rest = at_home[~np.isin(at_home, part)]
            if not len(rest):
                continue
            community = _communities(embeddings[rest], threshold)
            standing = _standing(community)
            centres = np.stack(
                [embeddings[rest[community == number]].mean(0) for number in standing]
            )
            similarity[part] = (embeddings[part] @ centres.T).max(1)
            witnessed[part] = np.bincount(community).max() > 1
    return similarity, witnessed


def _people_similarity(embeddings: np.ndarray, cores: list[_Community]) -> np.ndarray:
    """N×K similarities to people; to the more like of rivals."""
    first = np.flatnonzero(np.diff([core.person for core in cores], prepend=-1))
    return np.maximum.reduceat(
        embeddings @ np.stack([core.centre for core in cores]).T, first, axis=1
    )


def _fit_scale(similarity: np.ndarray, own: np.ndarray, at_home: np.ndarray) -> _Scale:
    """Fits the distributions of likenesses to strangers and to one's own person.

    Args:
        similarity: S×K of a sample of photos to people.
        own: S people whose folders these are in.
        at_home: M similarities of photos to their own folder's person, mislabels among them.
    """
    strangers = similarity[own[:, None] != np.arange(similarity.shape[1])]
    stranger = float(np.median(strangers))
    unit = max(MAD * float(np.median(np.abs(strangers - stranger))), 1e-9)
    likeness = (at_home - stranger) / unit
    mean, spread, wrong = 0.0, 1.0, 0.1
    if len(likeness):
        mean = float(np.median(likeness))
        spread = MAD * float(np.median(np.abs(likeness - mean)))
    for _ in range(100 if len(likeness) else 0):
        before = mean
        mean, spread = max(mean, 0.1), max(spread, 0.1)
        right = (1 - wrong) * student.pdf(likeness, TAIL, mean, spread)
        right /= right + wrong * student.pdf(likeness, TAIL) + 1e-300
        # The Student distribution's own weights, which hold outliers down (Lange, Little & Taylor 1989).
        weight = right * (TAIL + 1) / (TAIL + ((likeness - mean) / spread) ** 2)
        mean = float((weight * likeness).sum() / max(weight.sum(), 1e-12))
        spread = float(np.sqrt((weight * (likeness - mean) ** 2).sum() / max(right.sum(), 1e-12)))
        wrong = float(np.clip(1 - right.mean(), 1e-4, 0.5))
        if abs(mean - before) < 1e-6:
            break
    return _Scale(stranger, unit, max(mean, 0.1), max(spread, 0.1))


def _twins(cores: list[_Community], people: int, scale: _Scale) -> np.ndarray:
    """Per community another folder whose person it shows, else −1: evidence beyond what the most like of all strangers would give."""
    person = np.array([core.person for core in cores])
    centres = np.stack([core.centre for core in cores])
    several = np.array([len(core.rows) > 1 for core in cores])
    # A folder of several people shows none of them for certain, and a single photo proves nothing about a folder.
    told = several & (np.bincount(person, minlength=people)[person] == 1)
    likeness = np.where(
        told & (person[:, None] != person), scale.likeness(centres @ centres.T), -np.inf
    )
    return np.where(
        several & (scale.evidence(likeness.max(1)) > np.log(people)), person[likeness.argmax(1)], -1
    )


def _visitors(cores: list[_Community], twin: np.ndarray) -> np.ndarray:
    """Which communities have their own folder elsewhere, while somebody is left to whom this one may belong."""
    person = np.array([core.person for core in cores])
    return (twin >= 0) & np.isin(person, person[twin < 0])


def _others(
    embeddings: np.ndarray, own: np.ndarray, cores: list[_Community], scale: _Scale
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per photo, among other people: the most like, how much, the evidence for that, and the log of the sum of all likelihood ratios."""
    parts = []
    for start in range(0, len(own), CHUNK):
        chunk = slice(start, start + CHUNK)
        likeness = scale.likeness(_people_similarity(embeddings[chunk], cores))
        evidence = scale.evidence(likeness)
        rows = np.arange(len(likeness))
        likeness[rows, own[chunk]] = evidence[rows, own[chunk]] = -np.inf
        best = likeness.argmax(1)
        parts.append(
            (best, likeness[rows, best], evidence[rows, best], logsumexp(evidence, axis=1))
        )
    best, *rest = (np.concatenate(column) for column in zip(*parts, strict=True))
    return best, *rest


def _probabilities(
    own: np.ndarray, witnessed: np.ndarray, best: np.ndarray, everybody: np.ndarray, people: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that a photo shows its folder's person, and that it shows the best of the others.

    Args:
        own: Evidence for the folder's person.
        witnessed: Where it can speak against the folder's person too; the others say nothing about the shares.
        best: Evidence for the best of the others.
        everybody: Log of the sum of the likelihood ratios of all others.
        people: How many there are.
    """
    if not witnessed.any():
        return np.ones(len(own)), np.zeros(len(own))
    wrong, nobody = (
        0.1,
        0.1,
    )  # shares: of mislabels among photos, of people without a folder among mislabels
    for _ in range(100):
        joint = np.stack(
            [
                np.log1p(-wrong) + own,
                np.full(len(own), np.log(wrong * nobody)),
                np.log(wrong * (1 - nobody) / (people - 1)) + everybody,
            ]
        )
        probability = np.exp(joint - logsumexp(joint, axis=0))
        before = wrong, nobody
        mislabelled = 1 - probability[0, witnessed]
        # Kept off 0 and 1, from where there is no return.
        wrong = float(np.clip(mislabelled.mean(), 1e-4, 0.5))
        nobody = float(
            np.clip(probability[1, witnessed].sum() / max(mislabelled.sum(), 1e-12), 0.01, 0.99)
        )
        if abs(wrong - before[0]) + abs(nobody - before[1]) < 1e-6:
            break
    return probability[0], probability[2] * np.exp(best - everybody)
