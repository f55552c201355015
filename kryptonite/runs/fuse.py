"""The last stage of a run: fit every fusion on the frozen validation pairs and measure them."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import fingerprint, read_json, sha256_file, write_json, write_text
from kryptonite.data.pairs import PairConfig, make_pairs
from kryptonite.data.references import ReferenceTrials, draw_trials
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.abstention import fit_abstention
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import FUSERS, REVISION, fit_fuser
from kryptonite.fusion.guard import (
    GenuinePairs,
    cross_fit_as,
    guard,
    named_thresholds,
    threshold_at_fmr,
)
from kryptonite.fusion.references import MOST, fit_references
from kryptonite.fusion.verifier import (
    Verifier,
    load_origin,
    load_several,
    load_verifiers,
    save_verifiers,
)
from kryptonite.inference.evidence import describe_pairs, extract_pairs
from kryptonite.inference.extractor import FeatureExtractor, FeatureTable
from kryptonite.inference.references import pool_trials
from kryptonite.liveness.detector import Detector
from kryptonite.metrics.bootstrap import PairScores, measure_pairs
from kryptonite.metrics.error_rates import detector_metrics
from kryptonite.metrics.kinds import KINDS
from kryptonite.nn.train.fingerprints import (
    images_fingerprint,
    model_fingerprint,
    pairs_fingerprint,
)
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.runs.config import FusionConfig, RunConfig
from kryptonite.runs.data import TrainingData
from kryptonite.runs.model_card import model_card
from kryptonite.runs.origin import BRANCHES, FINGERPRINT, PAIRS, describe_branches
from kryptonite.runs.run_dir import RunDir

GENUINE_PAIRS = 10_000  # per source and kind: ten false matches at an FMR of 0.1%
TRIALS = {"same": 2000, "different": 10_000, "synthetic": 2000}  # of probes with references
PEOPLE = 8  # fewer do not calibrate a number of references

_log = logging.getLogger(__name__)


def fit_fusions(
    run: RunDir, config: RunConfig, data: TrainingData, stages: dict[str, Any]
) -> dict[str, Any]:
    """Fits the fusions and writes fusion.json, metrics.json and the model card.

    Skipped when the run holds the result of the same inputs.

    Args:
        run: Folder with the trained branches and the frozen pairs.
        config: The run's configuration.
        data: What the branches were trained and validated on.
        stages: Figures of the branches' training, by stage.

    Returns:
        What metrics.json holds.
    """
    inputs = {
        "revision": REVISION,
        "config": asdict(config.fusion),
        "recognition": model_fingerprint(run.recognition),
        "liveness": model_fingerprint(run.liveness),
        "comparison": sha256_file(run.comparison / "stage.json") if config.comparison.pairs else "",
        "aligner": data.cache.aligner.settings,
        "pairs": pairs_fingerprint(data.val_pairs, data.val),
        "genuine": images_fingerprint(data.with_genuine("val")),
    }
    mark = fingerprint(inputs)
    branches = describe_branches(run, data.cache.aligner)
    done = _fitted(run, mark, branches)
    if done is not None:
        _renew_pairs(run)
        _log.info("fusion: done already, unchanged, skipped")
        return done
    extractor, differential = load_branches(run, config, data.cache)
    val = ValidationPairs.extract(extractor, differential, data)
    evidence, kind = Evidence.of(val.pairs), val.pairs["kind"].to_numpy()
    groups = [val.pairs[name].to_numpy() for name in ("label_a", "label_b")]
    verifiers = {name: fit_verifier(name, val.pairs, val.genuine, config.fusion) for name in FUSERS}
    scores = {
        name: cross_fit_as(verifier.fuser, evidence, kind, *groups, config.fusion.folds).score(
            evidence
        )
        for name, verifier in verifiers.items()
    }
    share = config.fusion.cannot_say
    verifiers = {
        name: replace(
            verifier,
            abstention=fit_abstention(kind, scores[name], verifier.thresholds, share),
        )
        for name, verifier in verifiers.items()
    }
    origin = {FINGERPRINT: mark, BRANCHES: branches, PAIRS: sha256_file(run.pairs)}
    chosen = verifiers[config.fusion.name]
    several = (
        _fit_several(chosen, val.trials, val.everything, differential, config.fusion.fmr)
        if val.trials
        else {}
    )
    save_verifiers(run.fusion, config.fusion.name, verifiers, origin, several)
    figures = {
        name: measure_pairs(
            PairScores(*groups, kind, score, verifiers[name].threshold, FUSERS[name].llr(score)),
            config.fusion.resamples,
        )
        for name, score in scores.items()
    }
    synthetic = data.val.set_index("path")["is_synthetic"]
    shown = val.table.content >= 0
    metrics = {
        FINGERPRINT: mark,
        "validation": {
            "pairs": {name: int((kind == name).sum()) for name in KINDS},
            "identities": int(pd.unique(np.concatenate(groups)).size),
            "recognition_alone": figures["none"],
            "fused": {**figures[config.fusion.name], "fusion": config.fusion.name},
            "fusions": figures,
            "detector": detector_metrics(
                synthetic[val.table.paths[shown]].to_numpy(),
                val.table.features.log_odds[val.table.content[shown]],
            ),
            "threshold": verifiers[config.fusion.name].threshold,
        },
        "stages": stages,
        "failures": data.failures,
        "split_hash": data.split,
        "shared_identities": len(data.shared_identities),
        "alike_identities": len(data.alike_identities),
    }
    write_text(
        run.model_card, model_card(config, metrics, extractor.recogniser, extractor.detector)
    )
    write_json(run.metrics, metrics)  # last: it says that the stage is done
    return metrics


@dataclass(frozen=True)
class _DrawnTrials:
    """Trials with references.

    Args:
        trials: Of images, numbered from 0.
        paths: Path of each image.
        counts: Numbers of references that enough people have.
    """

    trials: ReferenceTrials
    paths: np.ndarray
    counts: list[int]


@dataclass(frozen=True)
class ValidationPairs:
    """What the fusions are fitted on: pairs with the columns of `inference.evidence.extract_pairs`.

    Args:
        pairs: The frozen validation pairs.
        genuine: Pairs of each source's genuine photos.
        trials: Trials with references; None if they are too few.
        table: Features of the images of `pairs`.
        everything: Features of the images of all of them.
    """

    pairs: pd.DataFrame
    genuine: list[pd.DataFrame]
    trials: _DrawnTrials | None
    table: FeatureTable
    everything: FeatureTable

    @classmethod
    def extract(
        cls,
        extractor: FeatureExtractor,
        differential: DifferentialDetector | None,
        data: TrainingData,
    ) -> "ValidationPairs":
        """Draws the pairs of genuine photos and the trials, and computes the evidence on all."""
        pairs, table = extract_pairs(extractor, differential, data.val_pairs)
        drawn = _draw_genuine_pairs(data.with_genuine("val"))
        trials = _draw_trials(data.val)
        # Together, so that an image that several of them show is extracted once; after the images
        # of the pairs, whose shards are cached.
        listed = [each[["path_a", "path_b"]].to_numpy().ravel() for each in drawn]
        listed += [trials.paths] if trials else []
        everything = extractor.extract(np.concatenate([table.paths, *listed]))
        genuine = [describe_pairs(everything, differential, each) for each in drawn]
        return cls(pairs, genuine, trials, table, everything)


def load_branches(
    run: RunDir, config: RunConfig, cache: FaceCache
) -> tuple[FeatureExtractor, DifferentialDetector | None]:
    """Loads a run's trained branches, whether or not its fusions are fitted.

    Args:
        run: Folder with the branches.
        config: The run's configuration.
        cache: Aligned crops and features.
    """
    differential = DifferentialDetector.load(run.comparison) if config.comparison.pairs else None
    recogniser, detector = Recogniser.load(run.recognition), Detector.load(run.liveness)
    backbone = differential and differential.backbone_or(recogniser)
    return FeatureExtractor(recogniser, detector, cache, backbone), differential


def fit_verifier(
    name: str, pairs: pd.DataFrame, genuine: Sequence[pd.DataFrame], config: FusionConfig
) -> Verifier:
    """Fits a fusion, guards it and sets its thresholds.

    Args:
        name: One of `FUSERS`.
        pairs: Validation pairs: kind and the columns of `Evidence`.
        genuine: The same of each source's genuine photos.
        config: FMR of the stored threshold, cost of the spoof evidence.

    Raises:
        MetricError: A kind of pair is missing.
    """
    sources = [_genuine_pairs(each) for each in genuine]
    fitted = fit_fuser(name, Evidence.of(pairs), pairs["kind"].to_numpy())
    fuser = guard(fitted, sources, config.fmr, config.cost)
    stored = threshold_at_fmr(fuser, sources, config.fmr)
    return Verifier(fuser, stored, named_thresholds(fuser, sources))


def _draw_trials(images: pd.DataFrame) -> _DrawnTrials | None:
    """Draws trials from validation images in which a face was found; None if they are too few.

    Args:
        images: Columns of the run's tables, with status.
    """
    photos = images[images["status"] != CENTRE_CROP].reset_index(drop=True)
    drawn = draw_trials(photos, MOST, TRIALS)
    counts = drawn.counts(photos["label"].to_numpy(), PEOPLE)
    if len(counts) < 2:
        _log.warning(
            "fusion: not calibrated for several references: it takes %d validation people with "
            "three photos and a forgery",
            PEOPLE,
        )
        return None
    used = drawn.images
    numbers = np.full(len(photos), -1)
    numbers[used] = np.arange(len(used))
    return _DrawnTrials(drawn.mapped(numbers), photos["path"].to_numpy()[used], counts)


def _fit_several(
    verifier: Verifier,
    drawn: _DrawnTrials,
    table: FeatureTable,
    differential: DifferentialDetector | None,
    fmr: float,
) -> dict[int, Verifier]:
    """Calibrates the chosen fusion for several references.

    Args:
        verifier: Fitted on pairs.
        drawn: Trials.
        table: Features of their images.
        differential: Compares two photos, if there is one.
        fmr: False match rate of the stored threshold, 0..1.
    """
    trials = drawn.trials.mapped(table.rows(drawn.paths))
    return fit_references(
        verifier, pool_trials(table.features, differential, trials, drawn.counts), fmr
    )


def _draw_genuine_pairs(images: pd.DataFrame) -> list[pd.DataFrame]:
    """Draws pairs of each source's genuine photos.

    Args:
        images: Columns label, path, is_synthetic, species, source; two people or more per source.
    """
    sources = []
    for _, photos in images[~images["is_synthetic"]].groupby("source"):
        twice = photos["label"].duplicated().any()
        kinds = ["same", "different"] if twice else ["different"]
        sources.append(pd.concat([_draw(photos, kind) for kind in kinds], ignore_index=True))
    return sources


def _genuine_pairs(pairs: pd.DataFrame) -> GenuinePairs:
    """Splits described pairs of genuine photos by their kind."""
    evidence, mated = Evidence.of(pairs), (pairs["kind"] == "same").to_numpy()
    return GenuinePairs(evidence.rows(mated), evidence.rows(~mated))


def _draw(photos: pd.DataFrame, kind: str) -> pd.DataFrame:
    fractions = {each: float(each == kind) for each in KINDS}
    return make_pairs(photos, PairConfig(GENUINE_PAIRS, **fractions))


def _fitted(run: RunDir, mark: str, branches: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what metrics.json holds if the stage is done for these inputs, else None."""
    if not all(file.exists() for file in (run.metrics, run.fusion, run.model_card)):
        return None
    try:
        metrics = run.read_metrics()
        load_verifiers(run.fusion)
        load_several(run.fusion)
        origin = load_origin(run.fusion)
        _ = metrics["validation"]["fused"], metrics["validation"]["recognition_alone"]
    except (DataError, KeyError, TypeError) as error:
        _log.warning("fusion: %s; fitted again", error)
        return None
    # Files of older versions hold no origin.
    same = origin.get(FINGERPRINT, mark) == mark and origin.get(BRANCHES, branches) == branches
    return metrics if same and metrics.get(FINGERPRINT) == mark else None


def _renew_pairs(run: RunDir) -> None:
    """Stores the hash of pairs that are the same by content; paths differ where the data moved."""
    stored, now = read_json(run.fusion), sha256_file(run.pairs)
    if stored.get(PAIRS) != now:
        write_json(run.fusion, {**stored, PAIRS: now})
