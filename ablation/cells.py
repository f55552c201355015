"""Evidence per corruption: each image decoded and aligned once, each corrupted image looked at once by each distinct network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ablation.attacks import ATTACKS, evade_detector, impersonate, victims
from assessment import Assessment
from common.files import atomic_path, fingerprint, sha256_file
from common.inputs import Crops
from common.model import CropModel
from detection.recrop import recrop, widest
from detection.warp import template_points
from evaluation.corruptions import CORRUPTIONS, corrupt
from evaluation.findings import ScoredPairs
from evaluation.robustness import BASE, CLEAN
from pipeline import Pipeline

REVISION = 1  # raise when a corruption of the same name and severity comes to give other pixels
CHUNK = 128  # crops in memory at once

Evidence = dict[str, np.ndarray]  # similarity, log_odds_a, log_odds_b: N each
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
        """Hash of each branch's weights."""
        return {branch: sha256_file(self.run / branch / "model.safetensors") for branch in ("recognition", "liveness")}

    def scored(self, evidence: Evidence, systems: Sequence[str]) -> ScoredPairs:
        """The pairs with the scores that the named fusions give this evidence; the fusions stay as fitted on clean images."""
        kept = self.assessment.scored
        arrays = [evidence[name] for name in ("similarity", "log_odds_a", "log_odds_b")]
        scores = {name: self.assessment.fitted[name](*arrays) for name in systems}
        return ScoredPairs(kept.pairs, kept.images, scores, {}, kept.thresholds, kept.chosen)


def places(severities: Sequence[int]) -> list[tuple[str, int]]:
    """Names and severities of all cells, the clean one first."""
    return [(CLEAN, 0), *((name, severity) for name in (*CORRUPTIONS, *ATTACKS) for severity in severities)]


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
        self._first, self._second = (self._pairs[name].map(place).to_numpy() for name in ("key_a", "key_b"))
        self._mark = [REVISION, self._template.name, self._pairs[["key_a", "key_b"]].to_numpy().tolist()]

    def each(self, corruption: str, severity: int) -> Iterator[tuple[System, Evidence]]:
        """Evidence of every system in this cell; attacks are on the base system alone."""
        systems = [system for system in self._systems if corruption not in ATTACKS or system.name == BASE]
        missing = {system.name: system for system in systems if self._kept(system, corruption, severity) is None}
        if missing:
            for name, evidence in self._make(list(missing.values()), corruption, severity).items():
                with atomic_path(self._file(missing[name], corruption, severity)) as temporary:
                    save_file(evidence, temporary)
        for system in systems:
            yield system, load_file(self._file(system, corruption, severity))

    def _file(self, system: System, corruption: str, severity: int) -> Path:
        mark = fingerprint([self._mark, system.networks])[:16]
        return self._folder / f"{corruption}-{severity}" / f"{system.name}-{mark}.safetensors"

    def _kept(self, system: System, corruption: str, severity: int) -> Evidence | None:
        try:
            return load_file(self._file(system, corruption, severity))
        except (OSError, SafetensorError):
            return None

    def _make(self, systems: list[System], corruption: str, severity: int) -> dict[str, Evidence]:
        if corruption == "pgd_recogniser":
            return {system.name: self._impersonated(system, severity) for system in systems}
        return self._evidence(systems, self._change(corruption, severity))

    def _change(self, corruption: str, severity: int) -> Change:
        if corruption == CLEAN:
            return lambda crops, _: crops
        if corruption == "pgd_detector":
            detector = self._systems[0].pipeline.detector
            return lambda crops, keys: evade_detector(detector, crops, np.array([self._synthetic[key] for key in keys]), severity)
        landmarks = template_points(self._template)
        return lambda crops, keys: Crops(corrupt(corruption, severity, crops.pixels, landmarks, keys), crops.template)

    def _read(self, keys: Sequence[str]) -> Crops:
        return self._systems[0].pipeline.cache.read_batch(keys, self._template)

    def _evidence(self, systems: list[System], change: Change) -> dict[str, Evidence]:
        """What each system says of all pairs when every image is changed; a network that several systems share looks once."""
        networks: dict[tuple[str, str], CropModel] = {}
        for system in systems:
            networks[("recognition", system.networks["recognition"])] = system.pipeline.recogniser
            networks[("liveness", system.networks["liveness"])] = system.pipeline.detector
        parts: dict[tuple[str, str], list[np.ndarray]] = {place: [] for place in networks}
        for start in range(0, len(self._keys), CHUNK):
            keys = self._keys[start : start + CHUNK]
            crops = change(self._read(keys), keys)
            for place, network in networks.items():
                parts[place].append(_look(network, crops))
        seen = {place: np.concatenate(outputs) for place, outputs in parts.items()}
        a, b = self._first, self._second
        evidence = {}
        for system in systems:
            embeddings, log_odds = (seen[branch, mark] for branch, mark in system.networks.items())
            similarity = np.einsum("nd,nd->n", embeddings[a], embeddings[b])
            evidence[system.name] = {"similarity": similarity, "log_odds_a": log_odds[a], "log_odds_b": log_odds[b]}
        return evidence

    def _impersonated(self, system: System, severity: int) -> Evidence:
        """Every impostor changes his image to fit the very photo it is compared with, so that each pair has an image of its own."""
        evidence = dict(self._evidence([system], lambda crops, _: crops)[system.name])
        rows, second = victims(self._pairs)
        a, b = self._first[rows], self._second[rows]
        attacker, target = np.where(second, b, a), np.where(second, a, b)
        recogniser, detector = system.pipeline.recogniser, system.pipeline.detector
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            wanted = _look(recogniser, self._read([self._keys[row] for row in target[part]]))
            crops = impersonate(recogniser, self._read([self._keys[row] for row in attacker[part]]), wanted, severity)
            log_odds = _look(detector, crops)
            evidence["similarity"][rows[part]] = np.einsum("nd,nd->n", _look(recogniser, crops), wanted)
            evidence["log_odds_a"][rows[part]] = np.where(second[part], evidence["log_odds_a"][rows[part]], log_odds)
            evidence["log_odds_b"][rows[part]] = np.where(second[part], log_odds, evidence["log_odds_b"][rows[part]])
        return evidence


def _look(model: CropModel, crops: Crops) -> np.ndarray:
    """Embeddings or log-odds, whichever the model gives, from crops cut for another template."""
    crops = recrop(crops, model.spec.template)
    return model.embed(crops) if hasattr(model, "embed") else model.log_odds(crops)
