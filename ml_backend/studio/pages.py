"""Where people reach Label Studio, which may be another address than ours.

Behind a proxy Label Studio is told its address for browsers (`LABEL_STUDIO_HOST`), which no call
of its API gives away; but it stands before the style sheets of the login page.
"""

import re
from urllib.parse import urljoin

import httpx

from ml_backend.errors import ImageUnreadable, StudioError
from ml_backend.studio.transport import Transport

_ASSET = re.compile(r"""(?:href|src)=["']([^"'<>\s]*?)/(?:static|react-app)/""")


def browser_url(transport: Transport) -> str:
    """Where people reach Label Studio: as it was given, else as it says itself, asked once."""
    if transport.browser_url is None:
        transport.browser_url = _find(transport)
    return transport.browser_url


def _find(transport: Transport) -> str:
    """Read the address off the login page; ours, where the page does not say."""
    try:
        page = transport.page("/user/login/")
    except StudioError:
        return transport.url
    found = _ASSET.search(page)
    if found is None:
        return transport.url
    # without an address of its own Label Studio works at the root only
    return str(urljoin(f"{transport.url}/", found[1] or "/")).rstrip("/")


def view(transport: Transport, address: str) -> bytes | None:
    """Fetch a task's image at the address at which a browser looks for it.

    The token goes along where that address is ours, or was given; Label Studio's word alone is not
    enough for that. None: it is there, for people who are logged in. Raises `ImageUnreadable` where
    browsers find none, `StudioUnreachable` where that address cannot be reached from here.
    """
    url = urljoin(f"{browser_url(transport)}/", address)
    response = transport.look(url)
    status = response.status_code
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return None
    if "/user/login" in response.url.path:
        return None
    if not response.is_success:
        raise ImageUnreadable(f"{url} answers {status}")
    return response.content
