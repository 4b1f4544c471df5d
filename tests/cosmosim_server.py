"""A local HTTP server that runs asynchronous TAP jobs as CosmoSim does, and misbehaves on demand."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

from astropy.io.votable import from_table, writeto

JOB = """<?xml version="1.0" encoding="UTF-8"?>
<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">
<uws:jobId>1</uws:jobId><uws:ownerId xsi:nil="true" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/>
<uws:phase>{phase}</uws:phase><uws:quote/><uws:executionDuration>600</uws:executionDuration><uws:parameters/>
<uws:results><uws:result id="result" xlink:href="{url}/async/1/results/result"/></uws:results>{error}</uws:job>
"""
FAULT = '<uws:errorSummary type="fatal" hasDetail="false"><uws:message>{}</uws:message></uws:errorSummary>'


def votable(table, *, overflow: bool = False) -> bytes:
    """A table as a service sends it."""
    made = io.BytesIO()
    writeto(from_table(table), made)
    text = made.getvalue()
    if overflow:
        text = text.replace(b"</TABLE>", b'</TABLE><INFO name="QUERY_STATUS" value="OVERFLOW"/>')
    return text


@contextmanager
def cosmosim_server(
    answer: bytes = b"", *, token: str | None = None, status: int = 200, page: bytes | None = None, fault: str = "",
    cut: int | None = None, silent: bool = False, waits: float = 0, phase: str = "EXECUTING", elsewhere: str = "",
) -> Iterator[SimpleNamespace]:  # fmt: skip
    """Serve one query as a job.

    Parameters
    ----------
    answer : the VOTable that the job results in
    token : the only one that is let in; None lets all in
    status, page : of every answer instead of those of a job
    fault : the job ends in error, with this message
    cut : send only this many bytes of the table, as if it were all
    silent : accept the connection and never answer
    waits : answer this many times that the job is in this `phase` before it is done
    elsewhere : address from which the job says its result is to be had

    Yields
    ------
    ``url``, ``forms`` that were sent with queries, ``tokens`` seen, ``deleted`` jobs
    """
    seen = SimpleNamespace(url="", forms=[], tokens=[], deleted=[])
    asked = iter(range(10**9))
    finished = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def send(self, content: bytes, code: int = 200, **headers):
            self.send_response(code)
            for name, value in {"Content-Type": "text/xml", "Content-Length": len(content), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def refused(self) -> bool:
            if silent:
                finished.wait()
                self.close_connection = True
                return True
            given = self.headers.get("Authorization", "")
            seen.tokens.append(given)
            if token is not None and given != f"Token {token}":
                self.send(f"<html>Invalid token: {given}</html>".encode(), 401)
            elif page is not None or status != 200:
                self.send((page or b"<html>{}</html>").replace(b"{}", given.encode()), status)
            else:
                return False
            return True

        def do_POST(self):
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
            if self.refused():
                return
            if "QUERY" in form:
                seen.forms.append({name: value for name, (value,) in form.items()})
            self.send(b"", 303, Location=f"{seen.url}/async/1")

        def do_GET(self):
            if self.refused():
                return
            if urlsplit(self.path).path.endswith("/result"):
                self.send(answer[:cut])
            else:
                now = phase if next(asked) < waits else "ERROR" if fault else "COMPLETED"
                error = FAULT.format(fault) if fault else ""
                self.send(JOB.format(url=elsewhere or seen.url, phase=now, error=error).encode())

        def do_DELETE(self):
            seen.deleted.append(self.path)
            self.send(b"", 204)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.url = f"http://127.0.0.1:{server.server_port}/tap"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield seen
    finally:
        finished.set()
        server.shutdown()
        server.server_close()
        thread.join()
