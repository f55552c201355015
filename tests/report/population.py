"""Scored pairs of a synthetic population, for tests of the figures computed from them."""

from dataclasses import replace

import numpy as np
import pandas as pd

from kryptonite.fusion.evidence import REFUSED
from kryptonite.report.analysis import ScoredPairs
from kryptonite.report.quality import FACTS


def refuse(scored: ScoredPairs, rows: np.ndarray) -> ScoredPairs:
    """Marks pairs as not acquired, with the scores that fusions give them.

    Args:
        scored: The pairs.
        rows: N bool, the pairs in which no face was found.
    """
    return replace(
        scored,
        pairs=scored.pairs.assign(acquired=~rows),
        scores={name: np.where(rows, REFUSED, score) for name, score in scored.scores.items()},
        llrs={name: np.where(rows, 0.0, llr) for name, llr in scored.llrs.items()},
    )


def scored_pairs(pairs=600, people=24, seed=0, path="nowhere.jpg") -> ScoredPairs:
    """Draws scores of three systems: `llr` is a little better than `none`, and `detector` sees
    only forgeries. There are two kinds of synthetic pairs, of which `swap` is the harder one."""
    generator = np.random.default_rng(seed)
    kind = np.repeat(
        ["same", "different", "synthetic"],
        [pairs // 2, pairs // 4, pairs - pairs // 2 - pairs // 4],
    )
    first = generator.integers(0, people, pairs)
    second = np.where(
        kind == "different", (first + generator.integers(1, people, pairs)) % people, first
    )
    species = np.where(
        kind == "synthetic", np.where(generator.random(pairs) < 0.5, "swap", "blend"), ""
    )
    clear = np.select(
        [kind == "same", kind == "different", species == "swap"], [2.0, -2.0, 1.0], 0.0
    )
    table = pd.DataFrame(
        {
            "pair_id": [f"{number:08d}" for number in range(pairs)],
            "path_a": path,
            "path_b": path,
            "key_a": [f"a{number}" for number in range(pairs)],
            "key_b": [f"b{number}" for number in range(pairs)],
            "label_a": first.astype(str),
            "label_b": second.astype(str),
            "synthetic_a": 0,
            "synthetic_b": (kind == "synthetic").astype(int),
            "kind": kind,
            "label": (kind == "same").astype(int),
            "species": species,
            "similarity": generator.normal(clear, 1.0),
            "log_odds_a": generator.normal(-2.0, 1.0, pairs),
            "log_odds_b": generator.normal(np.where(kind == "synthetic", 2.0, -2.0), 1.0),
            "acquired": True,
            **{fact: generator.random(pairs) for fact in FACTS},
        }
    )
    images = pd.concat(
        [
            table[
                [
                    f"path_{s}",
                    f"key_{s}",
                    f"label_{s}",
                    f"synthetic_{s}",
                    "species",
                    f"log_odds_{s}",
                ]
            ].set_axis(["path", "key", "label", "is_synthetic", "species", "log_odds"], axis=1)
            for s in "ab"
        ],
        ignore_index=True,
    )
    images["is_synthetic"] = images["is_synthetic"].astype(bool)
    images["species"] = images["species"].where(images["is_synthetic"], "")
    images["failed"] = np.arange(len(images)) % 50 == 0
    scores = {
        "none": table["similarity"].to_numpy(),
        "llr": (table["similarity"] - 0.7 * table["log_odds_b"]).to_numpy(),
    }
    scores["detector"] = -table[["log_odds_a", "log_odds_b"]].max(axis=1).to_numpy()
    return ScoredPairs(
        table,
        scores,
        {"llr": scores["llr"]},
        {"none": 0.5, "llr": 1.0, "detector": 0.0},
        images,
        "llr",
    )
