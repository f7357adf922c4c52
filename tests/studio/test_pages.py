"""Where people reach Label Studio, as its login page tells, and who sees the token there."""

from collections.abc import Callable

import httpx
import pytest

from ml_backend.errors import ConfigError, ImageUnreadable, StudioUnreachable
from ml_backend.studio.client import Studio

KEY = "0" * 40
API = "http://inside.test:8080"
PAGE = '<link href="{}/static/css/main.9be7.css" rel="stylesheet"/>'


def client(
    answer: Callable[[httpx.Request], httpx.Response],
    browser_url: str | None = None,
    url: str = API,
) -> Studio:
    """A client whose whole internet is the function `answer`."""
    return Studio(url, KEY, httpx.MockTransport(answer), browser_url=browser_url)


def login(host: str) -> Callable[[httpx.Request], httpx.Response]:
    """A login page of a Label Studio that was started with this address."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        assert request.url.path.endswith("/user/login/")
        return httpx.Response(200, html=PAGE.format(host))

    return answer


@pytest.mark.parametrize(
    ("url", "host", "found"),
    [
        (API, "https://host.test/ls", "https://host.test/ls"),
        (API, "https://host.test", "https://host.test"),
        (API, "", API),
        (API, "/ls", f"{API}/ls"),
        (f"{API}/ls", f"{API}/ls", f"{API}/ls"),
        (f"{API}/api-only", "", API),
        (f"{API}/inner", "https://host.test/ls", "https://host.test/ls"),
    ],
)
def test_the_login_page_gives_the_address_away(url: str, host: str, found: str) -> None:
    """Whatever stands before its style sheets, whatever the address of the API."""
    assert client(login(host), url=url).browser_url == found


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_a_page_that_says_nothing_leaves_our_address(status: int) -> None:
    """Such as that of another sign-on, or none."""
    headers = {"location": "https://sign-on.test/"}
    studio = client(lambda _: httpx.Response(status, text="Welcome", headers=headers))
    assert studio.browser_url == API


def test_a_setting_is_not_asked_for() -> None:
    """What is given wins, without a trailing slash, and must be an address."""

    def refuse(_: httpx.Request) -> httpx.Response:
        raise AssertionError

    assert client(refuse, "https://people.test/ls/").browser_url == "https://people.test/ls"
    with pytest.raises(ConfigError, match="http"):
        client(refuse, "people.test")


@pytest.mark.parametrize("given", [True, False])
def test_the_token_goes_to_a_browsers_address_that_was_given(given: bool) -> None:
    """Label Studio's word alone is not enough; beside the address the token goes nowhere."""
    seen: dict[str, bool] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/user/login/":
            return httpx.Response(200, html=PAGE.format("https://people.test/ls"))
        seen[str(request.url)] = "authorization" in request.headers
        return httpx.Response(200 if "authorization" in request.headers else 401, content=b"image")

    studio = client(answer, "https://people.test/ls" if given else None)
    assert studio.view("/ls/data/upload/1/a.png") == (b"image" if given else None)
    assert studio.view("https://people.test/other/a.png") is None
    assert studio.view("https://people.test/lsx/a.png") is None
    assert seen == {
        "https://people.test/ls/data/upload/1/a.png": given,
        "https://people.test/other/a.png": False,
        "https://people.test/lsx/a.png": False,
    }


def test_what_browsers_would_see() -> None:
    """Nothing, a login form, or a server that cannot be reached from here."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/user/login/":
            return httpx.Response(200, html="<form>")
        if "lost" in request.url.path:
            return httpx.Response(404)
        if "away" in request.url.path:
            raise httpx.ConnectError("name or service not known")
        return httpx.Response(302, headers={"location": "/user/login/?next=x"})

    studio = client(answer, "https://people.test")
    assert studio.view("/data/upload/1/a.png") is None
    with pytest.raises(ImageUnreadable, match=r"https://people\.test/lost\.png answers 404"):
        studio.view("/lost.png")
    with pytest.raises(StudioUnreachable, match="name or service"):
        studio.view("/away.png")


def test_files_at_the_browsers_address_come_through_the_api() -> None:
    """Label Studio's own storages write whole addresses into tasks; others' files are theirs."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((str(request.url), "authorization" in request.headers))
        return httpx.Response(200, content=b"image")

    studio = client(answer, "https://people.test/ls")
    for address in (
        "https://people.test/ls/data/local-files/?d=scans/a.png",
        "https://people.test/ls/data/upload/1/b.png",
        "https://people.test/ls/tasks/7/resolve/?fileuri=czM6Ly9iL2EucG5n",
        "https://people.test/data/upload/1/c.png",
        "https://elsewhere.test/ls/data/upload/1/d.png",
        "/ls/data/upload/1/e.png",
        "/other/data/upload/1/f.png",
        "/ls/projects/3/resolve/?fileuri=czM6Ly9iL2EucG5n",
    ):
        assert studio.download(address, limit=100) == b"image"
    assert asked == [
        (f"{API}/data/local-files/?d=scans/a.png", True),
        (f"{API}/data/upload/1/b.png", True),
        (f"{API}/tasks/7/resolve/?fileuri=czM6Ly9iL2EucG5n", True),
        ("https://people.test/data/upload/1/c.png", False),
        ("https://elsewhere.test/ls/data/upload/1/d.png", False),
        (f"{API}/data/upload/1/e.png", True),
        (f"{API}/data/upload/1/f.png", True),
        (f"{API}/projects/3/resolve/?fileuri=czM6Ly9iL2EucG5n", True),
    ]
