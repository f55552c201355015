"""`kryptonite verify`."""

import json
from typing import TYPE_CHECKING

from kryptonite.cli.arguments import add_device, add_engine, add_run, command_parser

if TYPE_CHECKING:
    from kryptonite.inference.pipeline import Verification

DESCRIPTION = """\
Decide whether two photos are genuine and show the same person, or whether one is and
shows the person of several references. The exit status is 0 whatever the answer is."""
# Values of Verification.status, see detection.faces.
_FACES = {
    "found": "face found",
    "found_small": "small face found",
    "found_padded": "face found after padding the photo",
    "centre_crop": "no face found",
}
# What `photos` holds too, under the names it has always had.
_OF_BOTH = ("synthetic_probability", "boxes", "status")
EXAMPLES = (
    "a.jpg b.jpg --run runs/demo",
    "a.jpg b.jpg --run runs/demo --threshold fmr=0.01 --json",
    "probe.jpg --reference a.jpg --reference b.jpg --run runs/demo",
)


def main(arguments: list[str], program: str) -> int:
    """Prints the answer and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    parser.add_argument("image_a", metavar="A", help="image file")
    parser.add_argument("image_b", metavar="B", nargs="?", help="image file")
    parser.add_argument(
        "--reference",
        metavar="PHOTO",
        action="append",
        default=[],
        help="photo of the person that A is claimed to show, instead of B; may be given often",
    )
    add_run(parser)
    add_device(parser)
    add_engine(parser)
    parser.add_argument(
        "--threshold",
        default="stored",
        help="name of the threshold: stored, or one that the run offers, such as fmr=0.01",
    )
    parser.add_argument(
        "--cannot-say",
        action="store_true",
        help="withhold a decision on two photos that is too uncertain, as one in five was on "
        "validation pairs (fusion.cannot_say)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    options = parser.parse_args(arguments)
    if (options.image_b is None) == (not options.reference):
        parser.error("give either a second image or --reference")
    references = options.reference or [options.image_b]
    if options.cannot_say and len(references) > 1:
        parser.error("--cannot-say takes two photos, not several references")

    from kryptonite.runs.load import load

    pipeline = load(options.run, device=options.device, engine=options.engine)
    if options.cannot_say:
        answer = pipeline.verify(options.image_a, references[0], options.threshold, cannot_say=True)
    else:
        answer = pipeline.verify_references(options.image_a, references, options.threshold)
    if options.json:
        sides = {name: getattr(answer, name) for name in _OF_BOTH}
        print(json.dumps({**answer.as_dict(), **sides}))
    else:
        print(_in_words(answer, [options.image_a, *references]))
    return 0


def _in_words(answer: "Verification", images: list[str]) -> str:
    from kryptonite.core.images import shown

    lines = [
        answer.reason,
        f"score {answer.score:.4f} (threshold {answer.threshold:.4f}), "
        f"similarity {answer.similarity:.4f}",
    ]
    probabilities = answer.synthetic_probability
    for image, status, probability in zip(images, answer.status, probabilities, strict=True):
        face = _FACES.get(status, status)
        lines.append(f"{shown(image)}: {face}, probability of synthetic {probability:.4f}")
    return "\n".join([*lines, f"{answer.seconds:.2f} seconds"])
