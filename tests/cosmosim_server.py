"""A local HTTP server that runs asynchronous TAP jobs as CosmoSim does, and misbehaves on demand."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

from astropy.io.votable import from_table, writeto
from local_server import serving

JOB = """<?xml version="1.0" encoding="UTF-8"?>
<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">
<uws:jobId>1</uws:jobId><uws:ownerId xsi:nil="true" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/>
<uws:phase>{phase}</uws:phase><uws:quote/><uws:executionDuration>600</uws:executionDuration><uws:parameters/>
<uws:results><uws:result id="result" xlink:href="{url}/async/1/results/result"/></uws:results>{error}</uws:job>
"""
FAULT = '<uws:errorSummary type="fatal" hasDetail="false"><uws:message>{}</uws:message></uws:errorSummary>'


def votable(table, *, overflow: bool = False) -> bytes:
    """A table as a service sends it."""
    text = io.BytesIO()
    writeto(from_table(table), text)
    end = b'</TABLE><INFO name="QUERY_STATUS" value="OVERFLOW"/>' if overflow else b"</TABLE>"
    return text.getvalue().replace(b"</TABLE>", end)


@contextmanager
def cosmosim_server(
    answer: bytes, *, token: str | None = None, status: int = 200, page: bytes | None = None, fault: str = "",
    cut: int | None = None, silent: bool = False, waits: float = 0, phase: str = "EXECUTING", elsewhere: str = "",
) -> Iterator[SimpleNamespace]:  # fmt: skip
    """Serve one query as a job, to those who bring `token` (None: to all), with `answer`, a VOTable, as its result.

    `status` and `page` are those of every answer instead of those of a job; `fault` ends the job in an error with this
    message; `cut` sends only this many bytes of the table; `silent` never answers; the job is in this `phase` for so
    many `waits`; its result is to be had at the address `elsewhere`. Yields ``url``, ``forms`` that were sent with
    queries, ``tokens`` seen and ``deleted`` jobs.
    """
    seen = SimpleNamespace(url="", forms=[], tokens=[], deleted=[])
    asked = itertools.count()

    def respond(request):
        form = parse_qs(request.rfile.read(int(request.headers.get("Content-Length", 0))).decode())
        if silent:
            request.finished.wait()
            request.close_connection = True
            return
        given = request.headers.get("Authorization", "")
        seen.tokens.append(given)
        content, code, headers = b"", 200, {}
        if token is not None and given != f"Token {token}":
            content, code = f"<html>Invalid token: {given}</html>".encode(), 401
        elif page is not None or status != 200:
            content, code = (page or b"<html>{}</html>").replace(b"{}", given.encode()), status
        elif request.command == "DELETE":
            seen.deleted.append(request.path)
            code = 204
        elif request.command == "POST":
            if "QUERY" in form:
                seen.forms.append({name: value for name, (value,) in form.items()})
            code, headers = 303, {"Location": f"{seen.url}/async/1"}
        elif urlsplit(request.path).path.endswith("/result"):
            content = answer[:cut]
        else:
            now = phase if next(asked) < waits else "ERROR" if fault else "COMPLETED"
            error = FAULT.format(fault) if fault else ""
            content = JOB.format(url=elsewhere or seen.url, phase=now, error=error).encode()
        request.send(content, code, Content_Type="text/xml", Content_Length=len(content), **headers)

    with serving(respond) as address:
        seen.url = f"{address}/tap"
        yield seen
