"""Serve a model on Inference Endpoints: `handler.py` of a model folder runs this.

The toolkit there calls one `EndpointHandler` with the JSON of each request, `{"inputs": ..., "parameters": {...}}`,
from several threads. It answers every exception with status 400 and `{"error": "..."}`. So the text tells whose error
it is: that of a `BadRequest` begins with `bad request:`, that of the server with `server error:`.
"""

from .endpoint_settings import EndpointSettings
from .handler import EndpointHandler
from .handler_files import write_endpoint
from .request_errors import BadRequest, ServerError

__all__ = ["BadRequest", "EndpointHandler", "EndpointSettings", "ServerError", "write_endpoint"]
