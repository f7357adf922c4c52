"""Label Studio below a sub-path, behind a proxy that strips it: images load for people."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.backend import TinyBackend
from support.browser import StudioPage, open_browser
from support.commands import run
from support.house import save_picture
from support.label_studio import LabelStudio, run_label_studio
from support.proxy import SubPathProxy
from support.tasks import LABEL_CONFIG

from ml_backend.errors import ImageUnreadable
from ml_backend.loop.connect import connect
from ml_backend.loop.context import Context, open_context, silent
from ml_backend.loop.pool import add_folder
from ml_backend.loop.select import select
from ml_backend.loop.sync import sync
from ml_backend.loop.trial import try_write_path
from ml_backend.settings import Settings

pytestmark = [pytest.mark.studio, pytest.mark.browser]


@pytest.fixture(scope="module")
def proxy() -> Iterator[SubPathProxy]:
    """The proxy, before it knows what lies behind it."""
    with SubPathProxy("/ls") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def below(
    studio_executable: Path, proxy: SubPathProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudio]:
    """A Label Studio that knows the address at which people open it."""
    folder = tmp_path_factory.mktemp("sub-path")
    with run_label_studio(studio_executable, folder, proxy.url) as server:
        proxy.target = server.url
        yield server


@pytest.fixture
def backend() -> Iterator[TinyBackend]:
    """A backend to connect to."""
    with TinyBackend() as backend:
        yield backend


def opened(tmp_path: Path, url: str, server: LabelStudio, **more: str) -> Settings:
    """Settings of a home that reaches Label Studio at `url`."""
    return Settings(
        home=tmp_path / "home",
        label_studio_url=url,
        label_studio_api_key=server.personal_token,
        password="correct-horse",
        webhook_secret="battery-staple",
        **more,
    )


def fill(context: Context, project_id: int, folder: Path) -> None:
    """Put four pictures into the pool."""
    for number in range(4):
        save_picture(folder / f"{number}.png", number, 64)
    add_folder(context, project_id, folder)


@pytest.mark.parametrize("way", ["inside", "through the proxy"])
def test_images_of_pushed_tasks_load_in_the_browser(
    way: str,
    proxy: SubPathProxy,
    below: LabelStudio,
    backend: TinyBackend,
    chromium: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether the API is reached with or without the sub-path; links open what they name."""
    url = below.url if way == "inside" else proxy.url
    settings = opened(tmp_path, url, below, backend_url=backend.url)
    with open_context(settings) as context:
        info = context.studio.create_project(f"below {way}", LABEL_CONFIG)
        done = connect(context, info.id, trial=True)
        # inside the token is not sent to an address that Label Studio alone has named
        said = "for people who are logged in" if way == "inside" else "images load at"
        assert said in (done.trial or "")
        assert done.page == f"{proxy.url}/projects/{info.id}/data"
        fill(context, info.id, tmp_path / "pictures")
        select(context, info.id, silent)
        (task, *_) = context.catalog.work.tasks(info.id)
        assert task.uri.startswith("/ls/data/upload/")
        proxy.misses.clear()
        with open_browser(chromium) as page:
            person = StudioPage(page, proxy.url)
            person.log_in(below.email, below.password)
            person.open_task(info.id, task.id)
            sizes = page.evaluate(
                "[...document.querySelectorAll('.lsf-image img')].map(one => one.naturalWidth)"
            )
        assert 64 in sizes
        assert [path for path in proxy.misses if "/data/" in path] == []
        # tasks that people imported in Label Studio itself are read as well
        raw = (tmp_path / "pictures/3.png").read_bytes()
        _import_as_people_do(proxy.url, below, info.id, raw)
        report = sync(context, info.id, silent)
        assert report.numbers["unusable"] == 0
        assert [one.reason for one in context.catalog.work.tasks(info.id) if one.reason] == []
    for name in ("HOME", "LABEL_STUDIO_URL"):
        monkeypatch.setenv(f"BRUSHLOOP_{name}", str(getattr(settings, name.lower())))
    assert run("status")


def _import_as_people_do(url: str, server: LabelStudio, project_id: int, image: bytes) -> None:
    """Upload an image in Label Studio's own import, which makes a task of it."""
    httpx.post(
        f"{url}/api/projects/{project_id}/import",
        headers={"Authorization": f"Token {server.token}"},
        files={"file": ("theirs.png", image, "image/png")},
        timeout=60,
        trust_env=False,
    ).raise_for_status()


def test_a_browser_address_without_the_sub_path_is_found_out(
    proxy: SubPathProxy, below: LabelStudio, tmp_path: Path
) -> None:
    """A setting that leads people to 404s is said before anything is pushed."""
    wrong = proxy.url.removesuffix("/ls")
    settings = opened(tmp_path, below.url, below, label_studio_browser_url=wrong)
    with open_context(settings) as context:
        info = context.studio.create_project("below wrong", LABEL_CONFIG)
        project = context.catalog.projects.save(
            info.id, title=info.title, label_config=info.label_config
        )
        with pytest.raises(ImageUnreadable, match="would not see images") as caught:
            try_write_path(context, project)
        assert "BRUSHLOOP_LABEL_STUDIO_BROWSER_URL" in str(caught.value)
        assert context.studio.count_tasks(info.id) == 0
        assert context.studio.uploads(info.id) == []
    settings = opened(tmp_path, below.url, below, label_studio_browser_url=proxy.url)
    with open_context(settings) as context:
        assert "images load at" in try_write_path(context, project)
