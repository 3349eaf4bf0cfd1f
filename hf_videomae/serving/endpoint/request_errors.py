"""Distinguish bad requests from server errors by how their text begins, because the toolkit answers 400 to both."""


class BadRequest(ValueError):
    """Raise for a request that its sender can fix.

    Its text contains nothing of the input, because the toolkit writes it to its log.
    """

    status = 400

    def __init__(self, reason: str) -> None:
        super().__init__(f"bad request: {reason}")
        self.reason = reason


class RequestTimeout(BadRequest):
    """Raise when the answer would take longer than a request may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the answer takes longer than {seconds:g} s, the limit of one request; give a shorter or smaller video, "
            f"or fewer views"
        )


class ServerError(RuntimeError):
    """Raise when the server cannot answer a request that may be valid."""

    status = 500

    def __init__(self, reason: str) -> None:
        super().__init__(f"server error: {reason}")
