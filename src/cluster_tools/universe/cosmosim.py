"""Haloes of MDPL2 from CosmoSim's TAP service, with the user's token, asked once and then cached.

The token comes from the environment variable ``COSMOSIM_TOKEN`` and goes into the header of the
requests and nowhere else: no file, no message.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from cluster_tools import paths, store
from cluster_tools.errors import ClusterToolsError

URL = "https://www.cosmosim.org/tap"
TOKEN = "COSMOSIM_TOKEN"
SNAPNUM = 124  # a = 0.978
COLUMNS = ("rockstarId", "upId", "Mvir", "M200c", "x", "y", "z", "vx", "vy", "vz", "snapnum")
REQUEST_SECONDS = 60.0  # for the server to answer one request
JOB_SECONDS = 2 * 3600.0  # for the query itself, its time in the queue included
POLL_SECONDS = 5.0
QUEUE = "1h"  # the service's default queue gives a query one minute
MOST_ROWS = 10**7  # asked for, since the service's own limit may be lower than what it allows


def query(log_m_host: float) -> str:
    """The ADQL that asks for all haloes of at least 10^log_m_host Msun/h, virial or M200c."""
    least = f"{10**log_m_host:.6e}"
    return (
        f"SELECT {', '.join(COLUMNS)} FROM MDPL2.Rockstar "
        f"WHERE snapnum = {SNAPNUM} AND (M200c >= {least} OR Mvir >= {least})"
    )


def table(log_m_host: float):
    """The answer to `query`: the cached one if it is whole, else asked for and cached.

    Returns
    -------
    astropy Table of `COLUMNS`, in CosmoSim's units: Msun/h, comoving Mpc/h, km/s

    Raises
    ------
    ClusterToolsError
        Without a token, and for a service that refuses it, fails, or sends no whole table.
    """
    from astropy.table import Table

    path = cached(log_m_host)
    try:
        found = Table.read(path, format="ascii.ecsv")
        if found.meta.get("query") == query(log_m_host) and found.meta.get("digest") == _digest(found):
            return found
    except Exception:  # no answer yet, or a damaged one, on which the parser may stumble anywhere: ask again
        pass
    found = _ask(query(log_m_host))
    found.meta = {"query": query(log_m_host), "digest": _digest(found)}
    with store.atomic(path) as temporary:
        found.write(temporary, format="ascii.ecsv", overwrite=True)
    return found


def cached(log_m_host: float) -> Path:
    """Where the answer to `query` is kept."""
    return paths.cache() / f"cosmosim_mdpl2_{store.digest(query(log_m_host))[:8]}.ecsv"


def _digest(found) -> str:
    return store.digest([found.colnames, *(np.asarray(found[name]).tolist() for name in found.colnames)])


def _ask(adql: str):
    """Run the query as an asynchronous job and check what comes back."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ClusterToolsError(
            f"CosmoSim was to be asked for the haloes of MDPL2, but {TOKEN} is not set; put your API token from "
            f'cosmosim.org there, or export this query as CSV into the directory: "{adql}"'
        )

    def failure(what: str) -> ClusterToolsError:
        what = " ".join(what.split()).replace(token, "<token>")[:300]  # a server may well echo what it was sent
        return ClusterToolsError(
            f"CosmoSim's TAP service {URL} {what}; a table of haloes was expected: check {TOKEN}, try again later, "
            f'or export this query as CSV into the directory: "{adql}"'
        )

    import warnings

    import pyvo
    import requests

    class Session(requests.Session):
        def request(self, *args, **options):
            options["timeout"] = options.get("timeout") or REQUEST_SECONDS
            return super().request(*args, **options)

    def authorise(request):
        if request.url.startswith(URL):  # a job may well name its result elsewhere: the token stays here
            request.headers["Authorization"] = f"Token {token}"
        return request

    try:
        with Session() as session, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, on units that VOTable does not know
            session.auth = authorise
            with pyvo.dal.TAPService(URL, session=session).submit_job(adql, maxrec=MOST_ROWS, queue=QUEUE) as job:
                _finish(job.run())
                answer = job.fetch_result()
        found = answer.to_table()
    except Exception as error:  # pyvo lets through what requests, the XML parser and astropy raise
        cause = getattr(error, "cause", None) or error
        status = getattr(getattr(cause, "response", None), "status_code", None)
        what = f"answered with HTTP status {status}" if status else f"failed ({type(cause).__name__}: {error})"
        if status in (401, 403):
            what = f"refused the token in {TOKEN} (HTTP status {status})"
        raise failure(what) from None
    if answer.query_status == "OVERFLOW":
        raise failure(f"cut its answer short after {len(found)} rows")
    missing = {name.lower() for name in COLUMNS} - {name.lower() for name in found.colnames}
    if missing:
        raise failure(f"sent a table without the columns {', '.join(sorted(missing))}")
    if len(found) == 0:
        raise failure("sent no rows")
    if any(np.ma.is_masked(np.ma.asarray(found[name])) for name in found.colnames):
        raise failure("sent a table with values missing")
    found.meta.clear()
    return found.filled() if found.masked else found


def _finish(job) -> None:
    """Wait until a TAP job has ended well. (pyvo's own `wait` never gives up.)"""
    deadline = time.monotonic() + JOB_SECONDS
    while (phase := job.phase) in ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the query was still {phase} after {JOB_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    if phase not in ("COMPLETED", "ERROR"):
        raise ValueError("it sent a page that is no job" if phase is None else f"the query is {phase}")
    job.raise_if_error()
