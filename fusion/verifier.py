"""Fitted fusers with their thresholds, and the JSON file that stores them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.core.files import read_json, refuse_unknown, write_json
from kryptonite.fusion.abstention import Abstention
from kryptonite.fusion.calibration import Calibration
from kryptonite.fusion.fusers import FUSERS, Fuser

_OWN = {"chosen", "fusers", "references"}  # keys of the file that are not the caller's
STORED = "stored"  # name of the threshold that decides unless another is asked for


@dataclass(frozen=True)
class Verifier:
    """A fitted fuser and its decision thresholds.

    Args:
        fuser: Scores pairs.
        threshold: Pairs with at least this score are accepted.
        at_fmr: Further thresholds, by names such as `fmr=0.001`; files of older versions have none.
        abstention: Which decisions are too uncertain to be given; None, as in files of older
            versions and for several references, withholds none.
    """

    fuser: Fuser
    threshold: float
    at_fmr: Mapping[str, float] = field(default_factory=dict)
    abstention: Abstention | None = None

    @property
    def thresholds(self) -> dict[str, float]:
        """Every threshold by name: `stored` first."""
        return {STORED: self.threshold, **self.at_fmr}

    def named(self, threshold: str) -> float:
        """Looks a threshold up by name.

        Raises:
            ConfigError: There is none of this name.
        """
        if threshold not in self.thresholds:
            raise ConfigError(
                f"unknown threshold {threshold!r}; this run has {', '.join(self.thresholds)}"
            )
        return self.thresholds[threshold]

    def surplus(self, score: np.ndarray, threshold: str) -> np.ndarray:
        """Gives how far N decisions' certainty lies above the least; below 0 they are withheld.

        Args:
            score: N scores of the fuser.
            threshold: Name of one of the thresholds.

        Raises:
            ConfigError: There is no threshold of this name, or nothing was fitted for it.
        """
        limit = self.named(threshold)
        if self.abstention is None or threshold not in self.abstention.least:
            raise ConfigError(
                "this run has no rule for when to say 'cannot say': it was trained by an older "
                "version; `python train.py` with the run's settings fits its fusion again"
            )
        return self.abstention.certainty(score, limit) - self.abstention.least[threshold]


def save_verifiers(
    path: Path | str,
    chosen: str,
    verifiers: dict[str, Verifier],
    origin: dict[str, Any] | None = None,
    several: Mapping[int, Verifier] | None = None,
) -> None:
    """Writes all verifiers as JSON.

    Args:
        path: The file to write.
        chosen: Name of the verifier that scores submissions.
        verifiers: Verifiers by the name of their fuser.
        origin: JSON-able, what they were fitted on, under keys of the caller's; `load_origin` reads
            it back.
        several: The chosen verifier calibrated for several references, by their number;
            `load_several` reads them back.
    """
    stored = {
        "chosen": chosen,
        "fusers": {name: _plain(verifier) for name, verifier in verifiers.items()},
        "references": {str(count): _plain(verifier) for count, verifier in (several or {}).items()},
    }
    write_json(path, {**stored, **(origin or {})})


def load_verifiers(path: Path | str) -> tuple[str, dict[str, Verifier]]:
    """Reads what `save_verifiers` wrote; scores are the same to the bit.

    Returns:
        Name of the chosen verifier, and all verifiers by name.

    Raises:
        DataError: The file is missing or malformed.
    """
    try:
        stored = read_json(path)
        verifiers = {name: _verifier(name, fuser) for name, fuser in stored["fusers"].items()}
        if stored["chosen"] not in verifiers:
            raise ValueError(f"the chosen fuser {stored['chosen']!r} is missing")
        return stored["chosen"], verifiers
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a fusion file ({error})") from error


def load_several(path: Path | str) -> dict[int, Verifier]:
    """Reads what `save_verifiers` was given as `several`; empty in files that have none.

    Raises:
        DataError: The file is missing or malformed.
    """
    try:
        stored = read_json(path)
        return {
            int(count): _verifier(stored["chosen"], fuser)
            for count, fuser in stored.get("references", {}).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a fusion file ({error})") from error


def load_origin(path: Path | str) -> dict[str, Any]:
    """Reads what `save_verifiers` was given as `origin`; empty in files that have none.

    Raises:
        DataError: The file is missing or malformed.
    """
    try:
        stored = read_json(path)
        return {name: stored[name] for name in stored.keys() - _OWN}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a fusion file ({error})") from error


def read_fuser(name: str, parameters: dict[str, Any]) -> Fuser:
    """Makes a fuser of its parameters as JSON stores them; raises one of `MALFORMED`."""
    return FUSERS[name](**{each: _all_finite(value) for each, value in parameters.items()})


def read_calibration(parameters: dict[str, Any]) -> Calibration:
    """Makes a calibration of its parameters as JSON stores them; raises one of `MALFORMED`."""
    return Calibration(**{name: finite(value) for name, value in parameters.items()})


def finite(stored: Any) -> float:
    """Checks a threshold or parameter, since JSON's reader takes NaN and infinity, too.

    No score reaches NaN, so every pair would be refused without a word; all reach -infinity.

    Raises:
        ValueError: The number is not finite.
        TypeError: It is none.
    """
    try:
        value = float(stored)
    except OverflowError:  # an integer beyond all floats
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"a threshold or parameter is {value}")
    return value


def _all_finite(stored: Any) -> Any:
    """Checks a number, or all of a list of any depth."""
    return [_all_finite(each) for each in stored] if isinstance(stored, list) else finite(stored)


def _plain(verifier: Verifier) -> dict[str, Any]:
    rule = verifier.abstention
    return {
        "parameters": asdict(verifier.fuser),  # type: ignore[call-overload]
        "threshold": float(verifier.threshold),
        "at_fmr": {name: float(value) for name, value in verifier.at_fmr.items()},
        **({"cannot_say": asdict(rule)} if rule else {}),
    }


def _verifier(name: str, stored: dict[str, Any]) -> Verifier:
    refuse_unknown(stored, ("parameters", "threshold", "at_fmr", "cannot_say"))
    return Verifier(
        read_fuser(name, stored["parameters"]),
        finite(stored["threshold"]),
        {rate: finite(value) for rate, value in stored.get("at_fmr", {}).items()},
        _abstention(stored["cannot_say"]) if "cannot_say" in stored else None,
    )


def _abstention(stored: dict[str, Any]) -> Abstention:
    refuse_unknown(stored, ("share", "calibration", "least"))
    least = {name: finite(value) for name, value in stored["least"].items()}
    return Abstention(finite(stored["share"]), read_calibration(stored["calibration"]), least)
