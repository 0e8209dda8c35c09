"""The error of pictures that cannot be used."""


class DecodeError(ValueError):
    """The bytes are not a usable picture; the text is the reason written to `rejects.parquet`."""


class TooLargeError(DecodeError):
    """The file declares more pixels than the limit."""
