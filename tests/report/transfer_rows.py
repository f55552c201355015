"""Rows of a transfer.csv, for tests of what is made from them."""

from kryptonite.report.transfer import COLUMNS


def row_texts(source="wild", forgery="swap", gain=(0.1, 0.05, 0.15), **changes) -> dict[str, str]:
    """Gives a row as text: recognition alone has an SPF-EER of 30%, the fusion `gain` less.

    Args:
        source: The source.
        forgery: The kind of forgery.
        gain: SPF-EER gain, lower and upper end of its interval.
        changes: Other values, by column.
    """
    texts = dict.fromkeys(COLUMNS, "0.25") | {"source": source, "forgery": forgery, "pairs": "96"}
    texts |= {"spf_eer_alone": "0.3", "spf_eer_fused": f"{0.3 - gain[0]:g}"}
    ends = zip(("", "_low", "_high"), gain, strict=True)
    return texts | {f"spf_eer_gain{end}": f"{value:g}" for end, value in ends} | changes


def empty_texts(source="wild", forgery="whole") -> dict[str, str]:
    """Gives the row of a cell without pairs."""
    named = {"source": source, "forgery": forgery, "pairs": "0"}
    return dict.fromkeys(COLUMNS, "") | named
