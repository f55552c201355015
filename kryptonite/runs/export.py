"""Write the networks of a run as ONNX."""

from pathlib import Path

from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import LOG_ODDS
from kryptonite.nn.model import EXPORT_FILE
from kryptonite.nn.onnx_export import write_export
from kryptonite.recognition.differential.detector import EXPORT_FILE as COMPARER_FILE
from kryptonite.recognition.differential.export import write_comparer
from kryptonite.recognition.recogniser import EMBEDDING, FEATURE_MAPS


def export_networks(pipeline: Pipeline) -> dict[Path, float]:
    """Writes every network as ONNX beside its weights.

    Args:
        pipeline: Loaded from a run by PyTorch onto the CPU.

    Returns:
        Maps each file to its maximum deviation from PyTorch.

    Raises:
        ConfigError: The pipeline was loaded otherwise.
        WeightsError: An export differs from PyTorch by more than rounding; that one is not written.
    """
    extractor, differential = pipeline.extractor, pipeline.differential
    recognisers = dict.fromkeys([extractor.recogniser, extractor.backbone or extractor.recogniser])
    deviations = {}
    for network in recognisers:
        outputs = FEATURE_MAPS if network is extractor.backbone else EMBEDDING
        facts = {"channels": network.channels}
        deviations[network.folder / EXPORT_FILE] = write_export(network, outputs, facts)
    if differential is not None:
        deviation = write_comparer(differential, extractor.recogniser)
        deviations[differential.folder / COMPARER_FILE] = deviation
    detector = extractor.detector
    deviations[detector.folder / EXPORT_FILE] = write_export(detector, [LOG_ODDS], {})
    return deviations
