"""`kryptonite explain`."""

from dataclasses import asdict
from pathlib import Path

from kryptonite.cli.arguments import add_device, add_engine, add_run, command_parser

DESCRIPTION = """\
Write why two photos are accepted or refused as one HTML sheet that opens offline: both
aligned faces, the photo and the branch that lowered the score, and the likelihood ratio
in words."""
EXAMPLES = ("a.jpg b.jpg --run runs/demo --out sheet.html",)


def main(arguments: list[str], program: str) -> int:
    """Writes the sheet, prints the reason and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    parser.add_argument("image_a", metavar="A", help="image file")
    parser.add_argument("image_b", metavar="B", help="image file")
    add_run(parser)
    add_device(parser)
    add_engine(parser)
    parser.add_argument(
        "--threshold",
        default="stored",
        help="name of the threshold: stored, or one that the run offers, such as fmr=0.01",
    )
    parser.add_argument("--out", default="sheet.html", help="HTML file to write")
    options = parser.parse_args(arguments)

    from kryptonite.core.files import check_writable
    from kryptonite.core.images import shown
    from kryptonite.report.explanation import write_explanation
    from kryptonite.runs.load import load

    check_writable(Path(options.out))  # before the photos are looked at
    pipeline = load(options.run, device=options.device, engine=options.engine)
    images = str(options.image_a), str(options.image_b)
    explanation = pipeline.explain(*images, options.threshold)
    # Two photos of one name, as in folders of people, need more than the name to be told apart.
    names = Path(images[0]).name, Path(images[1]).name
    first, second = names if names[0] != names[1] else images
    titles = shown(first), shown(second)
    write_explanation(Path(options.out), asdict(explanation), titles)
    print(f"{explanation.answer.reason}; wrote {shown(options.out)}")
    return 0
