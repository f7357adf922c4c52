"""A bucket of objects that speaks as much of S3 as reading takes."""

import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class TinyBucket:
    """Serves `objects` (name → bytes) as the bucket `name` at `url` while entered.

    `reads` are the names that were read, in order; a bucket that is not `open` answers 403.
    """

    name = "scans"

    def __init__(self):
        self.objects = {}
        self.reads = []
        self.open = True
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.bucket = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def put(self, name, data):
        """Store an object; its address as tasks have it."""
        self.objects[name] = data
        return f"s3://{self.name}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        bucket = self.server.bucket
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        name = unquote(path.removeprefix(f"/{bucket.name}/"))
        signed = "X-Amz-Signature" in query or "authorization" in self.headers
        if not signed or not bucket.open:
            return self._send(403, b"<Error><Code>AccessDenied</Code></Error>", {})
        if name not in bucket.objects:
            return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
        bucket.reads.append(name)
        data = bucket.objects[name]
        given = self.headers.get("range")
        if given is None:
            return self._send(200, data, {})
        first, _, last = given.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(data)), len(data) - 1) + 1
        span = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        return self._send(206, data[start:stop], span)

    def _send(self, status, content, headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "image/png" if status < 300 else "application/xml")
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Stay silent."""
