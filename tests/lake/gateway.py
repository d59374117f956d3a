"""A gateway before a REST catalogue that loses the answer to a commit, as load balancers do at a time-out."""

from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Gateway:
    """Passes every request on to the catalogue; a context manager.

    Attributes:
        uri: Its address.
        failed: Commits that it answered with 504.
    """

    def __init__(self, catalog_uri: str) -> None:
        self.failed = 0
        self._lands: bool | None = None
        gateway, behind = self, urlsplit(catalog_uri).netloc

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: object) -> None:
                del format, arguments

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                lands = gateway._lands if self.command == "POST" and "/tables/" in self.path else None
                status, answer = 504, b"{}"
                if lands is not False:
                    connection = HTTPConnection(behind, timeout=30)
                    headers = {
                        name: value for name, value in self.headers.items() if name != "Accept-Encoding"
                    }
                    connection.request(self.command, self.path, body, headers)
                    response = connection.getresponse()
                    status, answer = response.status, response.read()
                    connection.close()
                if lands is not None:
                    gateway._lands = None
                    gateway.failed += 1
                    status, answer = 504, b"the upstream server is timing out"
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - the server's names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def fail_next_commit(self, lands: bool) -> None:
        """Answers the next commit with 504, after it was passed on or without."""
        self._lands = lands

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
