"""`kryptonite export`."""

from pathlib import Path

from kryptonite.cli.arguments import add_run, command_parser

DESCRIPTION = """\
Write every network of a run as ONNX beside its weights, after comparing its outputs
with PyTorch's. `kryptonite submit` then uses ONNX Runtime where the CPU computes."""
EXAMPLES = ("--run runs/demo",)


def main(arguments: list[str], program: str) -> int:
    """Writes model.onnx beside the weights of each network and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    add_run(parser)
    run = Path(parser.parse_args(arguments).run)

    from kryptonite.core.files import check_writable
    from kryptonite.nn.model import EXPORT_FILE
    from kryptonite.runs.export import export_networks
    from kryptonite.runs.load import load

    pipeline = load(run, device="cpu")
    check_writable(run / "recognition" / EXPORT_FILE)
    deviations = export_networks(pipeline)
    for folder, deviation in deviations.items():
        print(f"{run / folder / EXPORT_FILE}: largest difference from PyTorch {deviation:.1e}")
    return 0
