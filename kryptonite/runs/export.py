"""Write the networks of a run as ONNX."""

from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import LOG_ODDS
from kryptonite.nn.onnx_export import write_export
from kryptonite.recognition.recogniser import EMBEDDING, FEATURE_MAPS


def export_networks(pipeline: Pipeline) -> dict[str, float]:
    """Writes every network as ONNX beside its weights.

    Args:
        pipeline: Loaded from a run by PyTorch onto the CPU.

    Returns:
        Maps each network's subfolder of the run to its maximum deviation from PyTorch.

    Raises:
        ConfigError: The pipeline was loaded otherwise.
        WeightsError: An export differs from PyTorch by more than rounding; that one is not written.
    """
    extractor = pipeline.extractor
    deviations = {}
    for network in dict.fromkeys(
        [extractor.recogniser, extractor.backbone or extractor.recogniser]
    ):
        outputs = FEATURE_MAPS if network is extractor.backbone else EMBEDDING
        facts = {"channels": network.channels}
        deviations[network.folder.name] = write_export(network, outputs, facts)
    return {**deviations, "liveness": write_export(extractor.detector, [LOG_ODDS], {})}
