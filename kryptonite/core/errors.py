"""Typed errors. Messages name the file, and the row where there is one."""


class KryptoniteError(Exception):
    """Base of all errors raised on purpose; the commands print them without a traceback."""


class DataError(KryptoniteError):
    """A table, a folder, a submission or a cache is malformed or incomplete."""


class ImageReadError(KryptoniteError):
    """An image file is missing, truncated or not an image."""


class ImageTooLargeError(ImageReadError):
    """An image has more pixels than are decoded."""


class ImageTooLongError(ImageTooLargeError):
    """An image has more pixels on a side than are decoded."""


class InputContractError(KryptoniteError):
    """Crops do not fit the model: template, size or dtype differ."""


class WeightsError(KryptoniteError):
    """Weights are unavailable, damaged or do not fit the network strictly."""


class ConfigError(KryptoniteError):
    """A configuration holds an unknown name or an impossible value."""


class TrainingError(KryptoniteError):
    """A training diverged: its loss or its weights are no longer finite."""


class ServiceStartError(KryptoniteError):
    """The service could not start, for example because its first, blank pair failed."""


class MetricError(KryptoniteError):
    """A metric is undefined on these scores, for example because a class is missing."""


# What reading a file's JSON or tensors, and building an object of them, raises when the file is
# missing, damaged or made by hand.
MALFORMED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
