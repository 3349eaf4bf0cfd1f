"""A model behind HTTP: what `handler.py` of a model folder runs on Inference Endpoints, and what writes that file.

The toolkit there calls one `EndpointHandler` with the JSON of each request, `{"inputs": ..., "parameters": {...}}`,
from several threads. Whatever it raises becomes the answer 400 with `{"error": "..."}`, whosever fault it is; so the
text says it: a `BadRequest` begins with `bad request:`, everything else is the server's.
"""

from .errors import BadRequest, ServerFault
from .files import write_endpoint
from .handler import EndpointHandler
from .settings import EndpointSettings

__all__ = ["BadRequest", "EndpointHandler", "EndpointSettings", "ServerFault", "write_endpoint"]
