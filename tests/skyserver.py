"""A local HTTP server that answers SQL queries as SkyServer does, and misbehaves on demand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

from local_server import serving

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
    body: str = "", *, status: int = 200, cut: int | None = None, declare_length: bool = True, silent: bool = False,
    pause: float = 0,
) -> Iterator[SimpleNamespace]:  # fmt: skip
    """Serve `body` with this `status` to every query, with astroquery pointed here.

    `cut` sends only this many characters and hangs up, without `declare_length` the header does not tell how many there
    are, `silent` never answers, and `pause` sends ten pieces and waits this many seconds before each. Yields ``url``,
    and ``requests`` with the ``path`` and the ``query`` of each.
    """
    from astroquery.sdss import conf

    seen = SimpleNamespace(url="", requests=[])

    def answer(request):
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        seen.requests.append(SimpleNamespace(path=parts.path, query=query))
        if silent:
            request.finished.wait()
            return
        payload = body.encode()
        kind = "text/html" if body.startswith("<") else "text/plain; charset=utf-8"
        length = {"Content_Length": len(payload)} if declare_length else {}
        request.send(b"", status, Content_Type=kind, Connection="close", **length)
        payload = payload[:cut]
        step = len(payload) // 10 + 1 if pause else len(payload) + 1
        with suppress(ConnectionError):
            for begin in range(0, len(payload), step):
                if request.finished.wait(pause):
                    break
                request.wfile.write(payload[begin : begin + step])

    with serving(answer) as seen.url, conf.set_temp("skyserver_baseurl", seen.url), conf.set_temp("timeout", 1):
        yield seen
