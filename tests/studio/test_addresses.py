"""Addresses of images that people and programs write: each costs its own task at most."""

import base64
from contextlib import suppress
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tasks import png

from ml_backend.errors import ImageUnreadable, StudioRefused, StudioUnreachable
from ml_backend.studio.addresses import decode_inline, file_name, is_cut, kept_address
from ml_backend.studio.client import Studio

URL = "http://studio.test"
LIMIT = 10**6
ODD = [
    "http://[::1/x.png",
    "http://h.test:99999/x.png",
    "http://h.test:port/x.png",
    "http://h.test:0/x.png",
    "https://",
    "https:///x.png",
    "http://h.test/a\nb.png",
    "http://h.test/a\r\nSet-Cookie: b",
    "http://h.test/\0",
    "/data/upload/1/\0.png",
    "/data/upload/1/a\r\nb.png",
    "http://xn--a-ecp.ru-\u0301..x/x.png",
    f"http://{'a' * 74}.test/x.png",
    "http://" + 74 * "ü" + ".test/x.png",
    "http://a..b/x.png",
    "http://exa mple.test/x.png",
    f"http://h.test/{'x' * 100_000}",
    f"/data/upload/{'x' * 100_000}.png",
    f"s3://bucket/{'x' * 100_000}",
    "//h.test/x.png",
    "ftp://h.test/x.png",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:",
    "data:,",
    "data:image/png;base64,$$$",
    "x",
    "?",
    "\ud800",
    "http://\ud800.test/x.png",
    "http://h.test/loop",
    "http://h.test/to-studio",
    "http://h.test/to-nothing",
    "http://h.test/to-bad-name",
    "http://h.test/to-ftp",
    "http://h.test/broken-coding",
    "http://h.test/unauthorized",
    "http://h.test/busy",
    "http://h.test/away",
    f"{URL}/loop",
]


def answer(request: httpx.Request) -> httpx.Response:
    """Label Studio wants a token; the other server does what servers do."""
    path = request.url.path
    if path == "/loop":
        return httpx.Response(302, headers={"Location": str(request.url)})
    if request.url.host == "studio.test":
        status = 200 if "authorization" in request.headers else 401
        return httpx.Response(status, content=png(), headers={"content-length": str(len(png()))})
    targets = {
        "/to-studio": f"{URL}/data/upload/1/x.png",
        "/to-nothing": "https://",
        "/to-bad-name": f"http://{'a' * 74}.test/x.png",
        "/to-ftp": "ftp://h.test/x.png",
    }
    if path in targets:
        return httpx.Response(302, headers={"Location": targets[path]})
    if path == "/broken-coding":
        return httpx.Response(200, content=b"x", headers={"Content-Encoding": "gzip"})
    if path == "/away" or "." not in request.url.host:
        raise httpx.ConnectError("refused", request=request)
    request.url.host.encode("idna")  # as every look-up of a name does
    return httpx.Response({"/unauthorized": 401, "/busy": 503}.get(path, 404))


@pytest.fixture
def studio() -> Studio:
    """A client of a Label Studio that answers by `answer`."""
    return Studio(URL, "0" * 40, transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("address", ODD, ids=range(len(ODD)))
def test_an_odd_address_costs_its_image_alone(studio: Studio, address: str) -> None:
    """The error is the image's, short and on one line; the next image comes all the same."""
    with pytest.raises(ImageUnreadable) as caught:
        studio.download(address, limit=LIMIT, project_id=1)
    message = str(caught.value)
    assert len(message) < 500
    assert "\n" not in message
    message.encode()
    assert studio.download("/data/upload/1/x.png", limit=LIMIT) == png()
    assert isinstance(file_name(address), str)
    kept_address(address).encode()


@given(st.text(max_size=40) | st.text(max_size=40).map(lambda text: f"http://{text}"))
def test_no_text_is_an_address_that_stops_others(text: str) -> None:
    """Whatever stands in a task's data: bytes or an unreadable image, and never another error."""
    studio = Studio(URL, "0" * 40, transport=httpx.MockTransport(answer))
    with suppress(ImageUnreadable):
        studio.download(text, limit=LIMIT, project_id=1)
    assert "\0" not in kept_address(text)
    assert isinstance(file_name(text), str)


@pytest.mark.parametrize(("status", "error"), [(401, StudioRefused), (503, StudioUnreachable)])
def test_label_studio_itself_stops_everything(status: int, error: type[Exception]) -> None:
    """A token that is wrong, and a server that is away, are no image's fault."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status))
    with pytest.raises(error):
        Studio(URL, "0" * 40, transport=transport).download("/data/upload/x.png", limit=LIMIT)


@pytest.mark.parametrize("address", ["HTTP://h.test/a.png", "Https://h.test/a.png"])
def test_schemes_are_read_in_any_case(address: str) -> None:
    """A scheme in capitals is the same scheme."""
    asked = []

    def found(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=b"x")

    studio = Studio(URL, "0" * 40, transport=httpx.MockTransport(found))
    assert studio.download(address, limit=LIMIT) == b"x"
    assert asked[0].endswith("://h.test/a.png")


@pytest.mark.parametrize(
    "address",
    [
        "data:image/png;base64," + base64.b64encode(png()).decode(),
        "data:image/png;base64," + base64.b64encode(png()).decode().rstrip("="),
        "DATA:image/png;charset=utf-8;BASE64," + quote(base64.b64encode(png()).decode()),
        "data:;base64," + base64.encodebytes(png()).decode(),
        "data:image/png," + quote(png()),
    ],
)
def test_images_as_data_are_read(studio: Studio, address: str) -> None:
    """An address may be the image itself, in all codings that browsers take."""
    assert studio.download(address, limit=LIMIT) == png()
    with pytest.raises(ImageUnreadable, match="limit of 9 bytes"):
        studio.download(address, limit=9)


def test_data_beyond_the_limit_are_not_decoded() -> None:
    """The size is judged by the text, before anything is made of it."""
    with pytest.raises(ImageUnreadable, match="limit of 10 bytes") as caught:
        decode_inline("data:image/png;base64," + "A" * 10_000, 10)
    assert len(str(caught.value)) < 400


def test_what_the_catalog_keeps_of_an_address() -> None:
    """Plain addresses stay; images as data, odd and very long ones are a beginning and a hash."""
    for plain in ("/data/upload/1/a.png", "s3://b/ä\u00a0b.png", "x" * 2000):
        assert kept_address(plain) == plain
        assert not is_cut(plain)
    cut = [
        "data:image/png;base64,QUJD",
        "data:image/png;base64,QUJE",
        "a\0b",
        "y" * 2001,
        "y" * 2002,
    ]
    kept = [kept_address(address) for address in cut]
    assert len(set(kept)) == len(cut)
    assert all(is_cut(one) and len(one) < 250 and one.isprintable() for one in kept)
    assert kept_address(cut[0]) == kept[0]


@pytest.mark.parametrize(
    ("address", "name"),
    [("data:image/png;base64,QUJD", "image.png"), ("data:,x", "image"), ("http://[::1/x", "image")],
)
def test_files_without_a_name_have_one(address: str, name: str) -> None:
    """What is no address of a file is named after its type."""
    assert file_name(address) == name
