"""Everything a run depends on, as one dataclass: YAML and command line follow it."""

from dataclasses import dataclass, field

from kryptonite.core.errors import ConfigError
from kryptonite.data.layouts import DataConfig
from kryptonite.detection.aligner import AlignerConfig
from kryptonite.liveness.config import LivenessConfig
from kryptonite.recognition.config import ComparisonConfig, RecognitionConfig


@dataclass
class FusionConfig:
    """How the branches are fused.

    Args:
        name: A fusion of `fusion.fusers.FUSERS`; only `multinomial` and `llr` use the differential
            detector's score.
        folds: Identity-disjoint folds that cross-fit the validation figures.
        resamples: Bootstrap resamples over identities behind the 95% intervals.
        fmr: False match rate, 0..1, that the stored threshold keeps to on the genuine validation
            photos, in the data source where it is highest.
        cost: Largest fraction of mated pairs, 0..1, that `llr` may refuse at that threshold beyond
            those that recognition alone refuses at the same FMR, in any data source.
        cannot_say: Fraction of the decisions on validation pairs, 0..1, that are too uncertain to
            be given where uncertain answers are withheld (`kryptonite verify --cannot-say`).

    Raises:
        ConfigError: `fmr`, `cost` or `cannot_say` lies outside 0..1.
    """

    name: str = "llr"
    folds: int = 5
    resamples: int = 500
    fmr: float = 0.001
    cost: float = 0.02
    cannot_say: float = 0.2

    def __post_init__(self):
        for name in ("fmr", "cost", "cannot_say"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"fusion.{name}: from 0 to 1, not {getattr(self, name)}")


@dataclass
class RunConfig:
    """Everything a run depends on.

    Args:
        run: Folder the run lives in.
        cache: Folder of aligned crops, shared by runs and safe to delete.
        data: Where the data is and how it is split and paired.
        aligner: How faces are found.
        recognition: The identity branch.
        comparison: The differential detector, on top of the trained recogniser.
        liveness: The synthetic-image branch.
        fusion: How the branches are fused.
    """

    run: str = "runs/default"
    cache: str = ".cache/crops"
    data: DataConfig = field(default_factory=DataConfig)
    aligner: AlignerConfig = field(default_factory=AlignerConfig)
    recognition: RecognitionConfig = field(default_factory=RecognitionConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    liveness: LivenessConfig = field(default_factory=LivenessConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
