"""Images into and out of the real Label Studio, and from servers that misbehave."""

import base64
import time
from collections.abc import Callable

import httpx
import pytest
from support.label_studio import LabelStudio
from support.tasks import LABEL_CONFIG, png

from ml_backend.errors import ImageUnreadable, StudioRefused, StudioUnreachable
from ml_backend.studio import files as files_module
from ml_backend.studio.addresses import file_name
from ml_backend.studio.client import Studio
from ml_backend.studio.models import ProjectInfo

LIMIT = 10**6


@pytest.mark.studio
def test_uploads_keep_order_names_and_bytes(
    studio: Studio, project: ProjectInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal, odd and long names come back in order over batches, each with its own bytes."""
    monkeypatch.setattr(files_module, "_BATCH_FILES", 3)
    names = ["b.png", "a b.png", "ä.png", "b.png", "odd (1)#?&%20.png", "x" * 200 + ".png"]
    images = [(name, png(8 + number, 20 * number)) for number, name in enumerate(names)]
    urls = studio.upload_images(project.id, images)
    assert len(set(urls)) == len(names)
    for url, (_, data) in zip(urls, images, strict=True):
        assert url.startswith(f"/data/upload/{project.id}/")
        assert url.endswith(".png")
        assert studio.download(url, limit=LIMIT) == data
    assert urls[0].endswith("-b.png")
    assert urls[1].endswith("-a_b.png")
    assert studio.count_tasks(project.id) == 0


@pytest.mark.studio
def test_deleted_uploads_are_gone_and_no_others(studio: Studio, project: ProjectInfo) -> None:
    """By address, whatever prefix it has; nothing at all deletes nothing."""
    urls = studio.upload_images(project.id, [(f"{n}.png", png()) for n in range(3)])
    assert studio.uploads(project.id) == urls
    assert studio.delete_uploads(project.id, []) == 0
    elsewhere = f"http://other.test{urls[0]}"
    assert studio.delete_uploads(project.id, [f"/ls{urls[1]}", "s3://b/a.png", elsewhere]) == 1
    assert studio.uploads(project.id) == [urls[0], urls[2]]
    with pytest.raises(ImageUnreadable, match="not there"):
        studio.download(urls[1], limit=LIMIT)


@pytest.mark.studio
def test_several_data_keys_keep_no_file_from_coming(studio: Studio) -> None:
    """Label Studio refuses to make tasks of files then; what it has stored is used all the same."""
    text = '<Text name="note" value="$caption"/></View>'
    info = studio.create_project("several keys", LABEL_CONFIG.replace("</View>", text))
    images = [(f"{number}.png", png(8 + number)) for number in range(12)]
    urls = studio.upload_images(info.id, images)
    assert [studio.download(url, limit=LIMIT) for url in urls] == [data for _, data in images]
    with pytest.raises(StudioRefused, match="tif extension"):
        studio.upload_images(info.id, [("a.png", png()), ("b.tif", b"II*\0")])
    assert studio.uploads(info.id) == urls


@pytest.mark.studio
def test_a_refused_upload_leaves_no_earlier_batch(
    studio: Studio, project: ProjectInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that went before one that Label Studio does not take do not stay there."""
    monkeypatch.setattr(files_module, "_BATCH_FILES", 1)
    with pytest.raises(StudioRefused, match="tif extension"):
        studio.upload_images(project.id, [("a.png", png()), ("b.tif", b"II*\0")])
    assert studio.uploads(project.id) == []


@pytest.mark.studio
def test_a_type_label_studio_does_not_take(studio: Studio, project: ProjectInfo) -> None:
    """TIFF is refused by Label Studio itself; the message says so."""
    with pytest.raises(StudioRefused, match="tif extension is not supported"):
        studio.upload_images(project.id, [("a.tif", b"II*\0")])
    assert studio.upload_images(project.id, []) == []


@pytest.mark.studio
def test_limits_and_lost_files(studio: Studio, project: ProjectInfo) -> None:
    """Too large and missing files are the image's fault, an image is fetched at its limit."""
    (url,) = studio.upload_images(project.id, [("a.png", png())])
    size = len(png())
    assert studio.download(url, limit=size) == png()
    with pytest.raises(ImageUnreadable, match=f"limit of {size - 1}"):
        studio.download(url, limit=size - 1)
    with pytest.raises(ImageUnreadable, match="not there"):
        studio.download(f"/data/upload/{project.id}/nothing.png", limit=LIMIT)
    with pytest.raises(ImageUnreadable, match="not there"):
        studio.download("s3://bucket/a.png", limit=LIMIT, project_id=project.id)
    with pytest.raises(ImageUnreadable, match="storages of a project"):
        studio.download("s3://bucket/a.png", limit=LIMIT)


@pytest.mark.studio
def test_local_files(studio: Studio, project: ProjectInfo, label_studio: LabelStudio) -> None:
    """Files that Label Studio serves from a connected folder are read through it."""
    folder = label_studio.files / f"pool-{project.id}"
    folder.mkdir()
    (folder / "a b.png").write_bytes(png(9))
    body = {"project": project.id, "path": str(folder), "use_blob_urls": True}
    studio._http.json("POST", "/api/storages/localfiles", body=body)
    url = f"/data/local-files/?d={folder.name}/a%20b.png"
    assert studio.download(url, limit=LIMIT) == png(9)


def fake(answer: Callable[[httpx.Request], httpx.Response]) -> Studio:
    """A client whose whole internet is the function `answer`."""
    return Studio("http://studio.test/ls", "0" * 40, transport=httpx.MockTransport(answer))


class Broken:
    """A server that breaks off after `piece` bytes of each answer, with or without ranges."""

    def __init__(self, data: bytes, piece: int, *, ranges: bool = True) -> None:
        self.data = data
        self.piece = piece
        self.ranges = ranges
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, in part."""
        self.requests += 1
        total = len(self.data)
        if not self.ranges:
            headers = {"content-length": str(total)}
            return httpx.Response(200, headers=headers, content=self.body(0))
        start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        headers = {"content-range": f"bytes {start}-{total - 1}/{total}"}
        return httpx.Response(206, headers=headers, content=self.body(start))

    def body(self, start: int) -> bytes:
        """What is sent of the bytes from `start`."""
        return self.data[start : start + self.piece]


def test_a_download_that_breaks_off_is_carried_on() -> None:
    """The storage proxy stops after 20 s: the rest is asked for, not the whole."""
    server = Broken(bytes(range(250)), piece=100)
    assert fake(server).download("/data/upload/1/a.png", limit=LIMIT) == bytes(range(250))
    assert server.requests == 3


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_stays_short_is_refused(*, ranges: bool) -> None:
    """A truncated image never passes for a whole one."""
    server = Broken(bytes(250), piece=50, ranges=ranges)
    with pytest.raises(ImageUnreadable, match=r"broke off at .* of 250 bytes"):
        fake(server).download("/data/upload/1/a.png", limit=LIMIT)


def test_a_body_without_length_is_limited() -> None:
    """The limit holds where no length was announced."""

    def endless(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(bytes(1000) for _ in range(100)))

    with pytest.raises(ImageUnreadable, match="limit of 5000"):
        fake(endless).download("/data/upload/1/a.png", limit=5000)


def test_the_token_goes_only_to_label_studio() -> None:
    """Neither another server nor the target of a redirect sees the token."""
    seen: dict[str, bool] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        seen[str(request.url).split("?")[0]] = "authorization" in request.headers
        if "resolve" in request.url.path:
            return httpx.Response(303, headers={"location": "https://bucket.test/a.png?sig=1"})
        return httpx.Response(200, content=b"image")

    client = fake(answer)
    assert client.download("s3://b/a.png", limit=LIMIT, project_id=3) == b"image"
    assert client.download("http://elsewhere.test/b.png", limit=LIMIT) == b"image"
    assert client.download("http://studio.test:81/b.png", limit=LIMIT) == b"image"
    assert client.download("/ls/data/upload/1/c.png", limit=LIMIT) == b"image"
    assert client.download("/data/upload/1/d.png", limit=LIMIT) == b"image"
    assert seen == {
        "http://studio.test/ls/projects/3/resolve/": True,
        "https://bucket.test/a.png": False,
        "http://elsewhere.test/b.png": False,
        "http://studio.test:81/b.png": False,
        "http://studio.test/ls/data/upload/1/c.png": True,
        "http://studio.test/ls/data/upload/1/d.png": True,
    }


@pytest.mark.parametrize(
    ("url", "status", "error"),
    [
        ("/data/upload/1/a.png", 401, StudioRefused),
        ("/data/upload/1/a.png", 403, ImageUnreadable),
        ("/data/upload/1/a.png", 404, ImageUnreadable),
        ("/data/upload/1/a.png", 416, ImageUnreadable),
        ("/data/upload/1/a.png", 429, StudioUnreachable),
        ("/data/upload/1/a.png", 500, ImageUnreadable),
        ("/data/upload/1/a.png", 502, StudioUnreachable),
        ("http://elsewhere.test/a.png", 403, ImageUnreadable),
        ("http://elsewhere.test/a.png", 401, ImageUnreadable),
        ("http://elsewhere.test/a.png", 503, ImageUnreadable),
    ],
)
def test_whose_fault_a_failed_download_is(url: str, status: int, error: type[Exception]) -> None:
    """The image's, Label Studio's, or that of the moment: it decides what happens next."""
    with pytest.raises(error, match=r"a\.png"):
        fake(lambda _: httpx.Response(status)).download(url, limit=LIMIT)


@pytest.mark.parametrize("broken", [httpx.ConnectError, httpx.ReadTimeout])
def test_a_bucket_that_does_not_answer_blames_the_image(broken: type[httpx.TransportError]) -> None:
    """One dead server of images stops nothing else; Label Studio's own silence stops all."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host != "studio.test":
            raise broken("silence")
        if "resolve" in request.url.path:
            return httpx.Response(303, headers={"location": "https://bucket.test/a.png?sig=1"})
        raise broken("silence")

    with pytest.raises(ImageUnreadable, match=r"s3://b/a\.png: bucket\.test does not answer"):
        fake(answer).download("s3://b/a.png", limit=LIMIT, project_id=3)
    with pytest.raises(ImageUnreadable, match=r"elsewhere\.test does not answer"):
        fake(answer).download("http://elsewhere.test/a.png", limit=LIMIT)
    with pytest.raises(StudioUnreachable):
        fake(answer).download("/data/upload/1/a.png", limit=LIMIT)


def test_a_silent_server_is_not_waited_for_a_thousand_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its other images fail at once, those elsewhere are fetched; later it is asked again."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url).split("?")[0])
        if request.url.host == "dead.test":
            raise httpx.ConnectTimeout("silence")
        if "resolve" in request.url.path:
            return httpx.Response(303, headers={"location": "https://dead.test/x.png"})
        return httpx.Response(200, content=b"image")

    client = fake(answer)
    coded = base64.urlsafe_b64encode(b"s3://bucket/a.png").decode()
    for url in ("http://dead.test/a.png", f"/tasks/1/resolve/?fileuri={coded}"):
        for _ in range(3):
            with pytest.raises(ImageUnreadable):
                client.download(url, limit=LIMIT, project_id=1)
    with pytest.raises(ImageUnreadable, match="did not answer a moment ago"):
        client.download("s3://bucket/b.png", limit=LIMIT, project_id=1)
    assert [url for url in asked if "dead.test" in url] == [
        "http://dead.test/a.png",
        "https://dead.test/x.png",
    ]
    assert client.download("http://alive.test/a.png", limit=LIMIT) == b"image"
    assert client.download("/data/upload/1/a.png", limit=LIMIT) == b"image"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    with pytest.raises(ImageUnreadable, match="does not answer"):
        client.download("http://dead.test/a.png", limit=LIMIT)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/upload/3/1a2b3c4d-a.png", "1a2b3c4d-a.png"),
        ("/data/local-files/?d=pool/a%20b.png", "a b.png"),
        ("/data/local-files/?d=pool%2Fa+b.png", "a+b.png"),
        ("s3://bucket/folder/a b.png", "a b.png"),
        ("/tasks/7/resolve/?fileuri=czM6Ly9zY2Fucy9mb2xkZXIvYSBiLnBuZw==", "a b.png"),
        ("/ls/tasks/7/resolve/?fileuri=czM6Ly9zY2Fucy9mb2xkZXIvYSBiLnBuZw%3D%3D", "a b.png"),
        ("https://host.test/a.png?X-Amz-Signature=1&url=x", "a.png"),
        ("https://host.test/folder/", "image"),
        ("https://host.test/%2e%2e", "image"),
        ("https://host.test/a%00.png", "image"),
        ("", "image"),
    ],
)
def test_what_a_file_is_called(url: str, name: str) -> None:
    """The last part of its own path, also where Label Studio has coded it into another."""
    assert file_name(url) == name


@pytest.mark.parametrize("url", ["a.png", "//evil.test/a.png", "file:///etc/passwd", ""])
def test_addresses_nobody_serves(url: str) -> None:
    """Relative paths, other schemes and protocol-relative hosts are not followed."""
    with pytest.raises(ImageUnreadable, match="does not serve"):
        fake(lambda _: httpx.Response(200)).download(url, limit=LIMIT)


def test_an_upload_that_arrives_short_is_noticed() -> None:
    """Label Studio's own count of bytes is compared with ours."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(201, json={"file_upload_ids": [4]})
        return httpx.Response(200, json=[{"id": 4, "file": "upload/1/a.png", "size": 2}])

    with pytest.raises(StudioRefused, match=r"a\.png: Label Studio stored 2 bytes of 3"):
        fake(answer).upload_images(1, [("a.png", b"abc")])
