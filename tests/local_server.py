"""A local HTTP server; `skyserver` and `cosmosim_server` say what it answers, `browser` serves pages with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def running(handler: Callable) -> Iterator[str]:
    """Serve with this handler on a free port, whose address is yielded."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def serving(answer: Callable) -> Iterator[str]:
    """Serve with `answer(handler)`, whose event `finished` is set at the end; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        finished = threading.Event()

        def do_GET(self):
            answer(self)

        do_POST = do_DELETE = do_GET

        def send(self, content: bytes, code: int = 200, **headers):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with running(Handler) as address:
        try:
            yield address
        finally:
            Handler.finished.set()
