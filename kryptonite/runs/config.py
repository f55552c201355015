"""Everything a run depends on, as one dataclass: YAML and command line follow it."""

from dataclasses import dataclass, field

from kryptonite.data.layouts import DataConfig
from kryptonite.detection.aligner import AlignerConfig
from kryptonite.liveness.config import LivenessConfig
from kryptonite.recognition.config import ComparisonConfig, RecognitionConfig


@dataclass
class FusionConfig:
    """How the branches are joined.

    Args:
        name: One of `fusion.fuse.FUSERS`; of them `multinomial` and `llr` hear the comparer.
        folds: Identity-disjoint folds by which the validation figures are cross-fitted.
        resamples: Bootstrap resamples over identities behind the 95% intervals.
    """

    name: str = "multinomial"
    folds: int = 5
    resamples: int = 500


@dataclass
class RunConfig:
    """Everything a run depends on.

    Args:
        run: Folder the run lives in.
        cache: Folder of aligned crops, shared by runs and safe to delete.
        data: Where the data is and how pairs are drawn.
        aligner: Face detection.
        recognition: The identity branch.
        comparison: The comparer of both photos, on top of the trained recogniser.
        liveness: The synthetic-image branch.
        fusion: The judge.
    """

    run: str = "runs/default"
    cache: str = ".cache/crops"
    data: DataConfig = field(default_factory=DataConfig)
    aligner: AlignerConfig = field(default_factory=AlignerConfig)
    recognition: RecognitionConfig = field(default_factory=RecognitionConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    liveness: LivenessConfig = field(default_factory=LivenessConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
