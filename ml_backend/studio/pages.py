"""Where people reach Label Studio, which may be another address than ours.

Behind a proxy Label Studio is told its address for browsers (`LABEL_STUDIO_HOST`), which no call
of its API gives away; but it stands before the style sheets of the login page.
"""

import re
from urllib.parse import urljoin

from ml_backend.errors import StudioError
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
