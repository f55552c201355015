"""Define what all pages share: the template environment, and what systems and pairs are called."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SYSTEM_TITLES = {"none": "recognition alone", "detector": "detector alone"}
KIND_TITLES = {"same": "mated", "different": "non-mated", "synthetic": "synthetic"}


def environment() -> Environment:
    """Returns a Jinja environment with this package's templates, number formats and titles of
    systems; a missing name is an error, never a blank."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "percent": lambda rate: f"{rate:.1%}" if rate >= 0.01 or rate == 0 else f"{rate:.2%}",
        "points": lambda rate: f"{100 * rate:.1f}",
        "signed": lambda rate: f"{100 * rate:+.1f}",
        "range": lambda interval: f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]",
        "signed_range": lambda interval: f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]",
        "system_title": system_title,
    }
    return jinja


def system_title(name: str) -> str:
    """Returns what a page calls a system: a fusion goes by its own name."""
    return SYSTEM_TITLES.get(name, name)
