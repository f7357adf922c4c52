"""A small reverse proxy: what lies below a sub-path is passed on without it, the rest is 404."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class SubPathProxy:
    """Serves what is at `target` below `path` on a free port while entered.

    `target` may be set after the start; `misses` are the paths that were answered with 404 here.
    """

    def __init__(self, path: str = "/ls", target: str = "") -> None:
        self.path, self.target = path, target
        self.misses: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.proxy = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._http.server_port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One request, passed on."""

    def _pass_on(self) -> None:
        proxy: SubPathProxy = self.server.proxy  # type: ignore[attr-defined]
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        if not self.path.startswith(f"{proxy.path}/"):
            proxy.misses.append(self.path)
            self._answer(404, [], b"nothing is here")
            return
        target = urlsplit(proxy.target)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
        connection.request(self.command, self.path.removeprefix(proxy.path), body, headers)
        answer = connection.getresponse()
        content = answer.read()
        kept = [(key, value) for key, value in answer.getheaders() if key.lower() not in _HOP]
        connection.close()
        self._answer(answer.status, kept, content)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = _pass_on  # noqa: N815

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Stay silent."""
