"""Evidence under corruptions: each image read once, each corrupted image run once per network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kryptonite.core.chunks import chunked
from kryptonite.core.crops import Crops
from kryptonite.core.errors import DataError
from kryptonite.core.files import fingerprint, sha256_file
from kryptonite.core.tensors import load_tensors, save_tensors
from kryptonite.detection.recrop import recrop, widest
from kryptonite.detection.warp import template_points
from kryptonite.fusion.evidence import Evidence
from kryptonite.inference.evidence import pair_evidence
from kryptonite.inference.extractor import CropFeatures
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import Detector
from kryptonite.nn.model import WEIGHTS_FILE
from kryptonite.recognition.differential.detector import WEIGHTS_FILE as DIFFERENTIAL_FILE
from kryptonite.recognition.differential.maps import FeatureMaps
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.report.ablation import BASE, CLEAN
from kryptonite.report.analysis import ScoredPairs
from kryptonite.robustness.attacks import ATTACKS, evade_detector, impersonate, impostor_pairs
from kryptonite.robustness.corruptions import CORRUPTIONS, corrupt
from kryptonite.runs.assess import Assessment
from kryptonite.runs.run_dir import RunDir

REVISION = 3  # bump when a cell of the same name and severity comes to hold other evidence
CHUNK = 128  # crops in memory at once

Columns = dict[str, np.ndarray]  # the columns `fusion.evidence.EVIDENCE`, N each
Change = Callable[[Crops, Sequence[str]], Crops]


@dataclass(frozen=True)
class System:
    """A trained variant on the protocol's pairs.

    Args:
        name: Name of the variant.
        pipeline: Its run, loaded.
        run: Its run's folder.
        assessment: Its scores on clean images; the pairs are the same for every system.
    """

    name: str
    pipeline: Pipeline
    run: RunDir
    assessment: Assessment

    @cached_property
    def networks(self) -> dict[str, str]:
        """Maps each role to the hash of its network's weights.

        The differential detector uses the recogniser unless it has a backbone of its own.
        """
        differential = self.pipeline.differential
        own = differential and differential.backbone
        folders = {
            "recognition": self.run.recognition,
            "liveness": self.run.liveness,
            "comparison": self.run.comparison if own else self.run.recognition,
        }
        return {role: sha256_file(folder / WEIGHTS_FILE) for role, folder in folders.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that evidence depends on."""
        differential = ""
        if self.pipeline.differential:
            differential = sha256_file(self.run.comparison / DIFFERENTIAL_FILE)
        return fingerprint([self.networks, differential])[:16]

    @property
    def backbone(self) -> Recogniser:
        """Extracts feature maps, whether or not the system has a differential detector."""
        extractor = self.pipeline.extractor
        return extractor.backbone or extractor.recogniser

    def scored(self, evidence: Columns, systems: Sequence[str]) -> ScoredPairs:
        """Scores evidence by the named fusions, which stay as fitted on clean images.

        A pair counts as acquired when a face was found in both clean images.
        """
        kept = self.assessment.scored
        found = Evidence.of({**evidence, "acquired": kept.pairs["acquired"].to_numpy()})
        scores = {name: self.assessment.fitted[name](found) for name in systems}
        return ScoredPairs(kept.pairs, scores, {}, kept.thresholds, kept.images, kept.chosen)


def places(severities: Sequence[int]) -> list[tuple[str, int]]:
    """Lists the names and severities of all cells, the clean one first."""
    corrupted = [(name, level) for name in (*CORRUPTIONS, *ATTACKS) for level in severities]
    return [(CLEAN, 0), *corrupted]


class Cells:
    """Evidence of systems under corruptions, kept cell by cell: an interrupted ablation resumes.

    Args:
        systems: The base first; all have the same templates.
        folder: Where cells lie.
    """

    def __init__(self, systems: Sequence[System], folder: Path):
        self._systems = list(systems)
        self._folder = folder
        self._cache = self._systems[0].pipeline.extractor.cache
        self._template = widest(self._cache.aligner.templates)
        scored = self._systems[0].assessment.scored
        self._pairs = scored.pairs
        self._keys = scored.images["key"].tolist()
        self._synthetic = dict(zip(self._keys, scored.images["is_synthetic"], strict=True))
        place = {key: row for row, key in enumerate(self._keys)}
        self._first, self._second = (
            self._pairs[name].map(place).to_numpy() for name in ("key_a", "key_b")
        )
        self._protocol = [
            REVISION,
            self._template.name,
            self._pairs[["key_a", "key_b"]].to_numpy().tolist(),
        ]

    def each(self, corruption: str, severity: int) -> Iterator[tuple[System, Columns]]:
        """Yields every system's evidence in this cell; attacks are on the base system alone."""
        systems = [
            system for system in self._systems if corruption not in ATTACKS or system.name == BASE
        ]
        missing = {
            system.name: system
            for system in systems
            if self._kept(system, corruption, severity) is None
        }
        if missing:
            made = self._make(list(missing.values()), corruption, severity)
            for name, evidence in made.items():
                save_tensors(self._file(missing[name], corruption, severity), evidence)
        for system in systems:
            yield system, load_tensors(self._file(system, corruption, severity)).tensors

    def _file(self, system: System, corruption: str, severity: int) -> Path:
        mark = fingerprint([self._protocol, system.fingerprint])[:16]
        return self._folder / f"{corruption}-{severity}" / f"{system.name}-{mark}.safetensors"

    def _kept(self, system: System, corruption: str, severity: int) -> Columns | None:
        try:
            return load_tensors(self._file(system, corruption, severity)).tensors
        except DataError:
            return None

    def _make(self, systems: list[System], corruption: str, severity: int) -> dict[str, Columns]:
        if corruption == "pgd_recogniser":
            return {system.name: self._impersonated(system, severity) for system in systems}
        return self._evidence(systems, self._change(corruption, severity))

    def _change(self, corruption: str, severity: int) -> Change:
        if corruption == CLEAN:
            return lambda crops, _: crops
        if corruption == "pgd_detector":
            detector = self._systems[0].pipeline.extractor.detector

            def evade(crops: Crops, keys: Sequence[str]) -> Crops:
                synthetic = np.array([self._synthetic[key] for key in keys])
                return evade_detector(detector, crops, synthetic, severity)

            return evade
        landmarks = template_points(self._template)
        return lambda crops, keys: Crops(
            corrupt(corruption, severity, crops.pixels, landmarks, keys), crops.template
        )

    def _read(self, keys: Sequence[str]) -> Crops:
        return self._cache.read_batch(keys, self._template)

    def _evidence(self, systems: list[System], change: Change) -> dict[str, Columns]:
        """Computes each system's evidence on all pairs when every image is changed.

        A network that several systems share runs once.
        """
        recognisers = {system.networks["comparison"]: system.backbone for system in systems}
        recognisers |= {
            system.networks["recognition"]: system.pipeline.extractor.recogniser
            for system in systems
        }
        detectors = {
            system.networks["liveness"]: system.pipeline.extractor.detector for system in systems
        }
        maps: dict[str, list[FeatureMaps]] = {network: [] for network in recognisers}
        log_odds: dict[str, list[np.ndarray]] = {network: [] for network in detectors}
        for keys in chunked(self._keys, CHUNK):
            crops = change(self._read(keys), keys)
            for network, recogniser in recognisers.items():
                maps[network].append(_extract_maps(recogniser, crops))
            for network, detector in detectors.items():
                log_odds[network].append(_log_odds(detector, crops))
        joined = {network: FeatureMaps.joined(parts) for network, parts in maps.items()}
        evidence = {}
        for system in systems:
            features = CropFeatures(
                joined[system.networks["recognition"]].embeddings,
                np.concatenate(log_odds[system.networks["liveness"]]),
                joined[system.networks["comparison"]],
            )
            evidence[system.name] = pair_evidence(
                features, system.pipeline.differential, self._first, self._second
            )
        return evidence

    def _impersonated(self, system: System, severity: int) -> Columns:
        """Lets every impostor fit his image to the very photo it is compared with.

        Each pair then has an image of its own.
        """
        evidence = dict(self._evidence([system], lambda crops, _: crops)[system.name])
        rows, second = impostor_pairs(self._pairs)
        a, b = self._first[rows], self._second[rows]
        attacker, target = np.where(second, b, a), np.where(second, a, b)
        extractor, differential = system.pipeline.extractor, system.pipeline.differential
        template = extractor.recogniser.spec.template
        for part in chunked(np.arange(len(rows)), CHUNK):
            targets = self._read([self._keys[row] for row in target[part]])
            wanted, maps = extractor.embed(recrop(targets, template))
            attackers = self._read([self._keys[row] for row in attacker[part]])
            crops = impersonate(extractor.recogniser, attackers, wanted, severity)
            embeddings, moved = extractor.embed(recrop(crops, template))
            log_odds = _log_odds(extractor.detector, crops)
            both = CropFeatures(
                np.concatenate([wanted, embeddings]),
                np.concatenate([np.zeros_like(log_odds), log_odds]),
                FeatureMaps.joined([maps, moved]) if differential else None,
            )
            place = np.arange(len(part))
            pairs = pair_evidence(both, differential, place, place + len(place))
            for name in ("similarity", "comparison"):
                evidence[name][rows[part]] = pairs[name]
            for name, attacked in (("log_odds_a", ~second[part]), ("log_odds_b", second[part])):
                evidence[name][rows[part]] = np.where(
                    attacked, pairs["log_odds_b"], evidence[name][rows[part]]
                )
        return evidence


def _extract_maps(recogniser: Recogniser, crops: Crops) -> FeatureMaps:
    """Extracts feature maps of crops cut for another template."""
    return recogniser.extract_maps(recrop(crops, recogniser.spec.template))


def _log_odds(detector: Detector, crops: Crops) -> np.ndarray:
    """Scores crops cut for another template."""
    return detector.log_odds(recrop(crops, detector.spec.template))
