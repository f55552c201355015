"""Made metrics.json: the metrics that other tools compute from the same scores.

Run once, in an environment of its own:

pip install "numpy<2" scikit-learn==1.7.2 pyeer==0.5.6 bob.measure==6.1.1 a_dcf==0.0.4
python tests/golden/make_metrics.py
"""

import contextlib
import io
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import bob.measure
import numpy as np
from a_dcf import a_dcf
from bob.measure.calibration import cllr
from pyeer.eer_info import get_eer_stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score

np.float = float  # a_dcf 0.0.4 uses this alias, which numpy has removed


def oracle(same, different, synthetic):
    pooled = np.concatenate([different, synthetic])
    label = np.repeat([1, 0], [len(same), len(pooled)])
    score = np.concatenate([same, pooled])
    weight = np.where(label == 1, 0.5 / len(same), 0.5 / len(pooled))
    share = IsotonicRegression().fit(score, label, sample_weight=weight).predict(score)
    with contextlib.redirect_stdout(io.StringIO()):
        pyeer = get_eer_stats(same, different)
    rows = [("target", same), ("nontarget", different), ("spoof", synthetic)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(
            "".join(
                f"a b {score!r} {name}\n" for name, scores in rows for score in map(float, scores)
            )
        )
        file.flush()
        min_a_dcf = a_dcf.calculate_a_dcf(file.name, printres=False)["min_a_dcf"]
    threshold = bob.measure.eer_threshold(pooled, same)
    return {
        "bob.measure": {
            "threshold": float(threshold),
            "farfrr_at_threshold": [
                float(value) for value in bob.measure.farfrr(pooled, same, threshold)
            ],
            "cllr": float(cllr(pooled, same)),
            "eer": float(bob.measure.eer(pooled, same)),
        },
        "pyeer": {
            "eer": float(pyeer.eer),
            "fmr100": float(pyeer.fmr100),
            "fmr1000": float(pyeer.fmr1000),
        },
        "a_dcf": {"min_a_dcf": float(min_a_dcf[0] if np.ndim(min_a_dcf) else min_a_dcf)},
        "scikit-learn": {
            "auc": float(roc_auc_score(label, score)),
            "min_cllr": float(log_loss(label, share, sample_weight=weight) / np.log(2)),
        },
    }


def main():
    cases = {}
    for seed, (near, far, count) in enumerate(
        [(1.5, 0.0, 400), (1.0, 0.8, 300), (3.0, -1.0, 2000)]
    ):
        generator = np.random.default_rng(seed)
        scores = {
            "same": generator.normal(2.0, 1.0, count),
            "different": generator.normal(far - 1.0, 1.0, count // 2),
            "synthetic": generator.normal(2.0 - near, 1.5, count // 2 + 7),
        }
        scores = {name: np.round(value, 6) for name, value in scores.items()}
        cases[f"seed {seed}"] = {
            "scores": {name: value.tolist() for name, value in scores.items()},
            "oracles": oracle(**scores),
        }
    tools = {
        name: version(name) for name in ("bob.measure", "pyeer", "a_dcf", "scikit-learn", "numpy")
    }
    Path(__file__).with_name("metrics.json").write_text(
        json.dumps({"versions": tools, "cases": cases}), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
