"""What the service says of itself."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kryptonite.inference.pipeline import Pipeline
from kryptonite.nn.licences import licence_of, origin_of
from kryptonite.runs.run_dir import RunDir
from kryptonite.serve import models
from kryptonite.serve.examples import Example, load_examples
from kryptonite.serve.limits import Limits


@dataclass(frozen=True)
class About:
    """A run as the service describes it.

    Args:
        info: The run, its thresholds, engines, weights and limits.
        examples: Pairs for the page, by name.
    """

    info: models.Info
    examples: dict[str, Example]


def describe(run: Path, pipeline: Pipeline, limits: Limits) -> About:
    """Describes a run.

    Args:
        run: Its folder.
        pipeline: The run, loaded.
        limits: Bounds on requests.

    Raises:
        DataError: The demo's files are damaged.
    """
    folder = RunDir(run)
    card = folder.model_card
    networks = {
        "recognition": pipeline.extractor.recogniser,
        "liveness": pipeline.extractor.detector,
    }
    if pipeline.differential is not None and pipeline.differential.backbone is not None:
        networks["comparison"] = pipeline.differential.backbone
    weights = [("detection", f"facenet-pytorch {version('facenet-pytorch')} (MTCNN)", "MIT")]
    weights += [
        (part, origin_of(network.source), licence_of(network.source))
        for part, network in networks.items()
    ]
    info = models.Info(
        run=run.resolve().name,
        version=version("kryptonite"),
        fusion=pipeline.chosen,
        thresholds=[
            models.Threshold(name=name, value=value)
            for name, value in pipeline.verifier.thresholds.items()
        ],
        engines={part: network.engine for part, network in networks.items()},
        weights=[
            models.Weights(part=part, source=source, licence=licence)
            for part, source, licence in weights
        ],
        card=card.read_text(encoding="utf-8") if card.is_file() else None,
        limits=models.RequestLimits(
            bytes_per_photo=limits.photo_bytes,
            pixels_per_photo=limits.photo_pixels,
            requests=limits.requests,
            upload_seconds=limits.upload_seconds,
            answer_seconds=limits.answer_seconds,
        ),
    )
    return About(info, {example.name: example for example in load_examples(folder.demo)})
