"""Evidence per corruption: each image decoded and aligned once, each corrupted image looked at once by each distinct network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kryptonite.core.crops import Crops
from kryptonite.core.files import atomic_path, fingerprint, sha256_file
from kryptonite.detection.recrop import recrop, widest
from kryptonite.detection.warp import template_points
from kryptonite.fusion.fuse import Evidence
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import Detector
from kryptonite.recognition.differential.features import FeatureMaps
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.report.analysis import ScoredPairs
from kryptonite.robustness.attacks import ATTACKS, evade_detector, impersonate, impostor_pairs
from kryptonite.robustness.corruptions import CORRUPTIONS, corrupt
from kryptonite.robustness.table import BASE, CLEAN
from kryptonite.runs.assess import Assessment

REVISION = 3  # raise when a cell of the same name and severity comes to hold other evidence
CHUNK = 128  # crops in memory at once

Columns = dict[str, np.ndarray]  # of `fusion.fuse.EVIDENCE`: N each
Change = Callable[[Crops, Sequence[str]], Crops]


@dataclass(frozen=True)
class System:
    """A trained variant on the protocol's pairs.

    Args:
        name: Of the variant.
        pipeline: Of its run.
        run: Its folder.
        assessment: On clean images; the pairs are the same for every system.
    """

    name: str
    pipeline: Pipeline
    run: Path
    assessment: Assessment

    @cached_property
    def networks(self) -> dict[str, str]:
        """Hash of each network's weights; the comparer looks through the recogniser unless it has a network of its own."""
        own = self.pipeline.comparer and self.pipeline.comparer.network
        folders = {
            "recognition": "recognition",
            "liveness": "liveness",
            "comparison": "comparison" if own else "recognition",
        }
        return {
            name: sha256_file(self.run / folder / "model.safetensors")
            for name, folder in folders.items()
        }

    @cached_property
    def mark(self) -> str:
        """Hash of all that evidence comes from."""
        comparer = (
            sha256_file(self.run / "comparison/comparer.safetensors")
            if self.pipeline.comparer
            else ""
        )
        return fingerprint([self.networks, comparer])[:16]

    def scored(self, evidence: Columns, systems: Sequence[str]) -> ScoredPairs:
        """The pairs with the scores that the named fusions give this evidence; the fusions stay as fitted on clean images."""
        kept = self.assessment.scored
        found = Evidence.of({**evidence, "acquired": kept.pairs["acquired"].to_numpy()})
        scores = {name: self.assessment.fitted[name](found) for name in systems}
        return ScoredPairs(kept.pairs, kept.images, scores, {}, kept.thresholds, kept.chosen)


def places(severities: Sequence[int]) -> list[tuple[str, int]]:
    """Names and severities of all cells, the clean one first."""
    return [
        (CLEAN, 0),
        *((name, severity) for name in (*CORRUPTIONS, *ATTACKS) for severity in severities),
    ]


class Cells:
    """Evidence of systems under corruptions, kept cell by cell, so that an interrupted ablation goes on where it was.

    Args:
        systems: The base first; all have the same templates.
        folder: Where cells lie.
    """

    def __init__(self, systems: Sequence[System], folder: Path):
        self._systems = list(systems)
        self._folder = folder
        base = self._systems[0].pipeline
        self._template = widest(base.aligner.templates)
        scored = self._systems[0].assessment.scored
        self._pairs = scored.pairs
        self._keys = scored.images["key"].tolist()
        self._synthetic = dict(zip(self._keys, scored.images["is_synthetic"], strict=True))
        place = {key: row for row, key in enumerate(self._keys)}
        self._first, self._second = (
            self._pairs[name].map(place).to_numpy() for name in ("key_a", "key_b")
        )
        self._mark = [
            REVISION,
            self._template.name,
            self._pairs[["key_a", "key_b"]].to_numpy().tolist(),
        ]

    def each(self, corruption: str, severity: int) -> Iterator[tuple[System, Columns]]:
        """Evidence of every system in this cell; attacks are on the base system alone."""
        systems = [
            system for system in self._systems if corruption not in ATTACKS or system.name == BASE
        ]
        missing = {
            system.name: system
            for system in systems
            if self._kept(system, corruption, severity) is None
        }
        if missing:
            for name, evidence in self._make(list(missing.values()), corruption, severity).items():
                with atomic_path(self._file(missing[name], corruption, severity)) as temporary:
                    save_file(evidence, temporary)
        for system in systems:
            yield system, load_file(self._file(system, corruption, severity))

    def _file(self, system: System, corruption: str, severity: int) -> Path:
        mark = fingerprint([self._mark, system.mark])[:16]
        return self._folder / f"{corruption}-{severity}" / f"{system.name}-{mark}.safetensors"

    def _kept(self, system: System, corruption: str, severity: int) -> Columns | None:
        try:
            return load_file(self._file(system, corruption, severity))
        except (OSError, SafetensorError):
            return None

    def _make(self, systems: list[System], corruption: str, severity: int) -> dict[str, Columns]:
        if corruption == "pgd_recogniser":
            return {system.name: self._impersonated(system, severity) for system in systems}
        return self._evidence(systems, self._change(corruption, severity))

    def _change(self, corruption: str, severity: int) -> Change:
        if corruption == CLEAN:
            return lambda crops, _: crops
        if corruption == "pgd_detector":
            detector = self._systems[0].pipeline.detector
            return lambda crops, keys: evade_detector(
                detector, crops, np.array([self._synthetic[key] for key in keys]), severity
            )
        landmarks = template_points(self._template)
        return lambda crops, keys: Crops(
            corrupt(corruption, severity, crops.pixels, landmarks, keys), crops.template
        )

    def _read(self, keys: Sequence[str]) -> Crops:
        return self._systems[0].pipeline.cache.read_batch(keys, self._template)

    def _evidence(self, systems: list[System], change: Change) -> dict[str, Columns]:
        """What each system says of all pairs when every image is changed; a network that several systems share looks once."""
        recognisers = {system.networks["comparison"]: _observer(system) for system in systems}
        recognisers |= {
            system.networks["recognition"]: system.pipeline.recogniser for system in systems
        }
        detectors = {system.networks["liveness"]: system.pipeline.detector for system in systems}
        perceptions: dict[str, list[FeatureMaps]] = {mark: [] for mark in recognisers}
        odds: dict[str, list[np.ndarray]] = {mark: [] for mark in detectors}
        for start in range(0, len(self._keys), CHUNK):
            keys = self._keys[start : start + CHUNK]
            crops = change(self._read(keys), keys)
            for mark, recogniser in recognisers.items():
                perceptions[mark].append(_perceive(recogniser, crops))
            for mark, detector in detectors.items():
                odds[mark].append(_log_odds(detector, crops))
        seen = {mark: FeatureMaps.joined(parts) for mark, parts in perceptions.items()}
        said = {mark: np.concatenate(parts) for mark, parts in odds.items()}
        evidence = {}
        for system in systems:
            log_odds = said[system.networks["liveness"]]
            embeddings = seen[system.networks["recognition"]].embeddings
            pairs = _together(
                system, embeddings, seen[system.networks["comparison"]], self._first, self._second
            )
            evidence[system.name] = {
                **pairs,
                "log_odds_a": log_odds[self._first],
                "log_odds_b": log_odds[self._second],
            }
        return evidence

    def _impersonated(self, system: System, severity: int) -> Columns:
        """Every impostor changes his image to fit the very photo it is compared with, so that each pair has an image of its own."""
        evidence = dict(self._evidence([system], lambda crops, _: crops)[system.name])
        rows, second = impostor_pairs(self._pairs)
        a, b = self._first[rows], self._second[rows]
        attacker, target = np.where(second, b, a), np.where(second, a, b)
        recogniser, detector, see = (
            system.pipeline.recogniser,
            system.pipeline.detector,
            system.pipeline.eyes.see,
        )
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            targets = self._read([self._keys[row] for row in target[part]])
            wanted, seen = see(recrop(targets, recogniser.spec.template))
            crops = impersonate(
                recogniser,
                self._read([self._keys[row] for row in attacker[part]]),
                wanted,
                severity,
            )
            log_odds = _log_odds(detector, crops)
            place = np.arange(len(rows[part]))
            embeddings, perceived = see(recrop(crops, recogniser.spec.template))
            both = FeatureMaps.joined([seen, perceived]) if system.pipeline.comparer else None
            pairs = _together(
                system, np.concatenate([wanted, embeddings]), both, place, place + len(place)
            )
            for name, values in pairs.items():
                evidence[name][rows[part]] = values
            evidence["log_odds_a"][rows[part]] = np.where(
                second[part], evidence["log_odds_a"][rows[part]], log_odds
            )
            evidence["log_odds_b"][rows[part]] = np.where(
                second[part], log_odds, evidence["log_odds_b"][rows[part]]
            )
        return evidence


def _observer(system: System) -> Recogniser:
    """What perceives for a comparer, whether or not the system has one."""
    return system.pipeline.eyes.observer or system.pipeline.recogniser


def _perceive(recogniser: Recogniser, crops: Crops) -> FeatureMaps:
    """What the recogniser sees in crops cut for another template."""
    return recogniser.extract_maps(recrop(crops, recogniser.spec.template))


def _log_odds(detector: Detector, crops: Crops) -> np.ndarray:
    """What the detector says of crops cut for another template."""
    return detector.log_odds(recrop(crops, detector.spec.template))


def _together(
    system: System, embeddings: np.ndarray, seen: FeatureMaps | None, a: np.ndarray, b: np.ndarray
) -> Columns:
    """Evidence on pairs of rows that no image alone gives."""
    similarity = np.einsum("nd,nd->n", embeddings[a], embeddings[b])
    return {"similarity": similarity, "comparison": system.pipeline.compare(seen, a, b)}
