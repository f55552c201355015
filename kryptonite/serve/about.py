"""What the service says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kryptonite.core.images import MAX_SIDE
from kryptonite.fusion.references import MOST as MOST_REFERENCES
from kryptonite.inference.gate import MatcherGate
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


def describe(
    run: Path, pipeline: Pipeline, limits: Limits, gate: MatcherGate | None = None
) -> About:
    """Describes a run.

    Args:
        run: Its folder.
        pipeline: The run, loaded.
        limits: Bounds on requests.
        gate: The gate, if there is one.

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
        thresholds=_thresholds(pipeline.verifier.thresholds),
        references=_describe_references(pipeline) if pipeline.several else None,
        gate=None if gate is None else _describe_gate(gate),
        engines={part: network.engine for part, network in networks.items()},
        weights=[
            models.Weights(part=part, source=source, licence=licence)
            for part, source, licence in weights
        ],
        card=card.read_text(encoding="utf-8") if card.is_file() else None,
        limits=models.RequestLimits(
            bytes_per_photo=limits.photo_bytes,
            pixels_per_photo=limits.photo_pixels,
            pixels_per_side=MAX_SIDE,
            bytes_per_request=limits.body_bytes(1 + MOST_REFERENCES),
            pixels_per_request=limits.request_pixels,
            requests=limits.requests,
            uploads=limits.uploads,
            upload_seconds=limits.upload_seconds,
            answer_seconds=limits.answer_seconds,
        ),
    )
    return About(info, {example.name: example for example in load_examples(folder.demo)})


def _describe_references(pipeline: Pipeline) -> models.References:
    # Which calibration decides depends on how many faces are found.
    fitted = pipeline.several.values()
    names = [
        name
        for name in pipeline.verifier.thresholds
        if all(name in verifier.thresholds for verifier in fitted)
    ]
    return models.References(most=MOST_REFERENCES, thresholds=names)


def _describe_gate(gate: MatcherGate) -> models.Gate:
    return models.Gate(fusion=gate.fuser.fuser.name, thresholds=_thresholds(gate.thresholds))


def _thresholds(values: Mapping[str, float]) -> list[models.Threshold]:
    return [models.Threshold(name=name, value=value) for name, value in values.items()]
