"""Typed errors. Every message names the file, and the row where there is one."""


class KryptoniteError(Exception):
    """Base of every error this project raises on purpose; scripts print it without a traceback."""


class DataError(KryptoniteError):
    """A table, a folder or a submission is not what it must be."""


class ImageReadError(KryptoniteError):
    """An image file is missing, truncated or not an image."""


class InputContractError(KryptoniteError):
    """Crops do not fit the model: template, size, dtype or colour order differ."""


class WeightsError(KryptoniteError):
    """Weights cannot be had, or do not fit the network strictly."""


class ConfigError(KryptoniteError):
    """A configuration asks for something that cannot be."""


class MetricError(KryptoniteError):
    """A metric is undefined on these scores, for example because a class is missing."""
