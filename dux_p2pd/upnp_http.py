"""The HTTP that a router's descriptions may cause: to that router alone, without redirects, of bounded length."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout
from async_upnp_client.client import UpnpRequester
from async_upnp_client.const import HttpRequest, HttpResponse

from dux_p2pd.mapping import MappingFailed

CALL_S = 5.0
BODY_BYTES_MAX = 256 * 1024  # usual descriptions have 5 to 30 KiB


class RouterRequester(UpnpRequester):
    """Asks one machine."""

    def __init__(self, http: ClientSession, place: str) -> None:
        self._http, self._host = http, urlsplit(place).hostname

    async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
        """Its answer.

        Raises:
            MappingFailed: the request would go to another machine, or the answer is too long.
        """
        refuse_others(http_request.url, self._host)
        async with self._http.request(
            http_request.method,
            http_request.url,
            headers={**http_request.headers, "Accept-Encoding": "identity"},
            data=http_request.body,
            timeout=ClientTimeout(total=CALL_S),
            allow_redirects=False,
        ) as answer:
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise MappingFailed(f"the router's answer is longer than {BODY_BYTES_MAX} bytes")
            return HttpResponse(answer.status, answer.headers, body.decode(errors="replace"))


def refuse_others(url: str, host: str | None) -> None:
    """Nothing but what the router itself serves over HTTP.

    Raises:
        MappingFailed: this is something else.
    """
    try:
        parts = urlsplit(url)
        is_router = parts.scheme == "http" and host is not None and parts.hostname == host
    except ValueError:
        is_router = False
    if not is_router:
        raise MappingFailed(f"the router points to {url[:100]!r}, which is not itself")
