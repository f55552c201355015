"""What all pages share: the template environment, what systems are called."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TITLES = {"none": "recognition alone", "detector": "detector alone"}


def environment() -> Environment:
    """Jinja with this package's templates; a name that is not there is an error, never a blank."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": lambda rate: f"{rate:.1%}" if rate >= 0.01 or rate == 0 else f"{rate:.2%}",
        "points": lambda rate: f"{100 * rate:.1f}",
        "signed": lambda rate: f"{100 * rate:+.1f}",
        "range": lambda interval: f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]",
        "signed_range": lambda interval: f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]",
    }
    return made
