"""Whose fault it is. The toolkit answers 400 to both and sends on the text alone, so that begins with the answer."""


class BadRequest(ValueError):
    """The request cannot be answered; its sender can mend it.

    Its text holds nothing of the input: the toolkit writes it to its log.
    """

    status = 400

    def __init__(self, reason: str) -> None:
        super().__init__(f"bad request: {reason}")
        self.reason = reason


class RequestTimeout(BadRequest):
    """The answer would take longer than one request may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the answer takes longer than {seconds:g} s, which is what one request may take in all; give a shorter "
            f"or smaller video, or fewer views"
        )


class ServerError(RuntimeError):
    """The server cannot answer a request that may well be right."""

    status = 500

    def __init__(self, reason: str) -> None:
        super().__init__(f"server error: {reason}")
