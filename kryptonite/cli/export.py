"""`kryptonite export`."""

from pathlib import Path

from kryptonite.cli.arguments import add_run, command_parser

DESCRIPTION = """\
Write every network of a run, and the face finder's, as ONNX, after comparing its outputs
with PyTorch's. `kryptonite submit` then uses ONNX Runtime where the CPU computes."""
EXAMPLES = ("--run runs/demo",)


def main(arguments: list[str], program: str) -> int:
    """Writes the networks as ONNX and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    add_run(parser)
    run = Path(parser.parse_args(arguments).run)

    from kryptonite.core.files import check_writable
    from kryptonite.detection.mtcnn_export import export_cascade
    from kryptonite.nn.model import EXPORT_FILE
    from kryptonite.runs.export import export_networks
    from kryptonite.runs.load import load
    from kryptonite.runs.run_dir import RunDir

    pipeline = load(run, device="cpu")
    check_writable(run / "recognition" / EXPORT_FILE)
    for file, deviation in export_networks(pipeline).items():
        print(f"{file}: largest difference from PyTorch {deviation:.1e}")
    faces = RunDir(run).faces
    print(f"{faces}: largest difference from PyTorch {export_cascade(faces):.1e}")
    return 0
