"""`kryptonite publish`."""

from kryptonite.cli.arguments import add_run, command_parser

DESCRIPTION = """\
Write a run as a folder to give away or to upload to the Hugging Face hub: safetensors
and JSON with their hashes, and a model card. It holds none of the training data.
Every command takes it as --run, and kryptonite.from_pretrained loads it."""
EXAMPLES = (
    "--run runs/demo --out published/demo",
    "--run runs/demo --out published/demo --license apache-2.0",
)


def main(arguments: list[str], program: str) -> int:
    """Writes the folder and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    add_run(parser)
    parser.add_argument(
        "--out", required=True, help="folder to make; its name becomes the model's name"
    )
    parser.add_argument(
        "--license",
        default="other",
        help="licence of the weights as the hub abbreviates it; other by default: weights inherit "
        "the terms of the weights and of the data they were made of",
    )
    options = parser.parse_args(arguments)

    from kryptonite.runs.load import load

    load(options.run, device="cpu").save_pretrained(options.out, options.license)
    print(options.out)
    return 0
