"""Errors of requests to the API server.

ClusterError
├── NotFound      404: the object does not exist
├── Conflict      409: it exists already, or has changed since it was read
├── Expired       410: a watch's resource version is too old; list again
├── Forbidden     401, 403: a right is missing
├── Rejected      any other 4xx: the same request would be refused again
└── Unavailable   no answer, 429 or 5xx: try again later
"""

from http import HTTPStatus


class ClusterError(Exception):
    """The request failed; the message is the API server's, in one line."""


class NotFound(ClusterError):  # noqa: N818 - a name of HTTP
    """404."""


class Conflict(ClusterError):  # noqa: N818 - a name of HTTP
    """409."""


class Expired(ClusterError):  # noqa: N818 - what the API calls it
    """410."""


class Forbidden(ClusterError):  # noqa: N818 - a name of HTTP
    """401 or 403."""


class Rejected(ClusterError):  # noqa: N818 - reads as what happened
    """Any other 4xx, such as a JSON patch whose test failed (422)."""


class Unavailable(ClusterError):  # noqa: N818 - reads as what happened
    """No answer, 429 or 5xx."""


_BY_STATUS: dict[int, type[ClusterError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    429: Unavailable,
}


def cluster_error(status: int, message: str) -> ClusterError:
    """Return the error for an HTTP status of 400 or above."""
    kind = _BY_STATUS.get(status, Rejected if status < HTTPStatus.INTERNAL_SERVER_ERROR else Unavailable)
    return kind(f"{status}: {' '.join(message.split())}")
