"""A local HTTP server that answers SQL queries as SkyServer does, and misbehaves on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

ERROR_PAGE = """<html><head>
<title>Skyserver Error</title>
</head><body bgcolor=white>
<h2>An error occurred</h2><p>The database is down for maintenance, please come back later, or not.</p>
</body></html>
"""


def csv_answer(rows, header: str = "ra,dec,z,logMass,n_rows") -> str:
    """Rows as SkyServer writes them: a line that names the table, a header, then values."""
    return "\n".join(["#Table1", header, *(",".join(map(str, row)) for row in rows)]) + "\n"


@contextmanager
def skyserver(
    body: str = "",
    *,
    status: int = 200,
    cut: int | None = None,
    declare_length: bool = True,
    silent: bool = False,
    pause: float = 0,
) -> Iterator[SimpleNamespace]:
    """Serve `body` to every query, with astroquery pointed here.

    Parameters
    ----------
    body, status : of every answer
    cut : send only this many characters and hang up
    declare_length : tell the full length in the header, as a proxy may not
    silent : accept the connection and never answer
    pause : send ten pieces, and wait this many seconds before each

    Yields
    ------
    ``url``, and ``requests``: for each request its ``path`` and the ``query`` it carried
    """
    from astroquery.sdss import conf

    seen: list[SimpleNamespace] = []
    finished = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            seen.append(SimpleNamespace(path=parts.path, query={k: v[0] for k, v in parse_qs(parts.query).items()}))
            if silent:
                finished.wait()
                return
            payload = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if body.startswith("<") else "text/plain; charset=utf-8")
            if declare_length:
                self.send_header("Content-Length", str(len(payload)))
            self.send_header("Connection", "close")
            self.end_headers()
            payload = payload[:cut]
            step = len(payload) // 10 + 1 if pause else len(payload) + 1
            with suppress(ConnectionError):
                for begin in range(0, len(payload), step):
                    if finished.wait(pause):
                        break
                    self.wfile.write(payload[begin : begin + step])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        with conf.set_temp("skyserver_baseurl", url), conf.set_temp("timeout", 1):
            yield SimpleNamespace(url=url, requests=seen)
    finally:
        finished.set()
        server.shutdown()
        server.server_close()
        thread.join()
