"""Compatibility: keep the import of `handler.py` files that were written before `hf_videomae.serving` existed."""

from ..serving.endpoint import BadRequest, EndpointHandler, EndpointSettings, ServerError

__all__ = ["BadRequest", "EndpointHandler", "EndpointSettings", "ServerError"]
