"""A model behind HTTP: what `handler.py` of a model folder runs on Inference Endpoints, and what writes that file.

The toolkit there calls one `EndpointHandler` with the JSON of each request, `{"inputs": ..., "parameters": {...}}`,
from several threads. Whatever it raises becomes the answer 400 with `{"error": "..."}`, whosever fault it is; so the
text says it: a `BadRequest` begins with `bad request:`, everything else is the server's.
"""

from .endpoint_settings import EndpointSettings
from .handler import EndpointHandler
from .handler_files import write_endpoint
from .request_errors import BadRequest, ServerError

__all__ = ["BadRequest", "EndpointHandler", "EndpointSettings", "ServerError", "write_endpoint"]
