"""Haloes of MDPL2 from CosmoSim's TAP service, with the user's token; the answer is cached.

The token comes from the environment variable ``COSMOSIM_TOKEN`` and goes into the header of the requests and nowhere
else: no file, no message.
"""

from __future__ import annotations

import os
import time

import numpy as np

from cluster_tools import paths, store
from cluster_tools.cosmology import LOG_M_HOST
from cluster_tools.errors import ClusterToolsError

URL = "https://www.cosmosim.org/tap"
TOKEN = "COSMOSIM_TOKEN"
SNAPNUM = 124  # a = 0.978
COLUMNS = ("rockstarId", "upId", "Mvir", "M200c", "x", "y", "z", "vx", "vy", "vz", "snapnum")
REQUEST_SECONDS = 60.0  # for the server to answer one request
JOB_SECONDS = 2 * 3600.0  # for the query itself, its time in the queue included
POLL_SECONDS = 5.0
QUEUE = "1h"  # the service's default queue gives a query one minute
MAX_ROWS = 10**7  # requested explicitly, since the service's default may be lower than what it allows
LOWEST = f"{10**LOG_M_HOST:.6e}"
QUERY = (  # ADQL for all haloes of at least this mass, virial or M200c
    f"SELECT {', '.join(COLUMNS)} FROM MDPL2.Rockstar "
    f"WHERE snapnum = {SNAPNUM} AND (M200c >= {LOWEST} OR Mvir >= {LOWEST})"
)
EXPORT = f'export this query as CSV into the directory: "{QUERY}"'


def table():
    """The answer to `QUERY` as an astropy Table [Msun/h, comoving Mpc/h, km/s], from the cache if it is whole there.

    Raises `ClusterToolsError` without a token, and for a service that refuses it, fails, or sends no whole table.
    """
    path = paths.cache() / f"cosmosim_mdpl2_{store.digest(QUERY)[:8]}.ecsv"
    return store.cached_table(path, QUERY, lambda: checked(_ask(), "CosmoSim"))


def checked(table, shown: str):
    """Check an answer to `QUERY`, from the file or service `shown`, and return it with names in lower case.

    Raises `ClusterToolsError` for columns or numbers that are missing or of another kind, and for another snapshot.
    """
    table = type(table)({name.strip().lower(): table[name] for name in table.colnames})
    wanted, whole = [name.lower() for name in COLUMNS], ("rockstarid", "upid", "snapnum")
    fault = None
    if missing := [name for name in wanted if name not in table.colnames]:
        fault = f"lacks the columns {', '.join(missing)}"
    elif not len(table):
        fault = "has no rows"
    elif wrong := [name for name in wanted if table[name].dtype.kind not in ("i" if name in whole else "if")]:
        fault = f"has {table[wrong[0]].dtype} in {wrong[0]}, not {'whole ' * (wrong[0] in whole)}numbers"
    elif gaps := [name for name in wanted if np.ma.is_masked(table[name])]:
        fault = f"has gaps in {gaps[0]}"
    elif (other := table["snapnum"][table["snapnum"] != SNAPNUM]).size:
        fault = f"has haloes of snapnum {other[0]}, not {SNAPNUM} (a = 0.978) alone"
    if fault:
        raise ClusterToolsError(f"{shown} {fault}; {EXPORT}")
    return table[wanted].filled()


def _ask():
    """Run the query as an asynchronous job."""
    import warnings

    import pyvo
    import requests

    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ClusterToolsError(
            f"CosmoSim was to be asked for the haloes of MDPL2, but {TOKEN} is not set; put your API token from "
            f"cosmosim.org there, or {EXPORT}"
        )

    class Session(requests.Session):
        def request(self, *args, **options):
            options["timeout"] = options.get("timeout") or REQUEST_SECONDS
            return super().request(*args, **options)

    def authorise(request):
        if request.url.startswith(URL):  # a job may place its result on another server: the token stays here
            request.headers["Authorization"] = f"Token {token}"
        return request

    fault = ""
    try:
        with Session() as session, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, on units that VOTable does not know
            session.auth = authorise
            with pyvo.dal.TAPService(URL, session=session).submit_job(QUERY, maxrec=MAX_ROWS, queue=QUEUE) as job:
                _wait(job.run())
                result = job.fetch_result()
        answer = result.to_table()
        if result.query_status == "OVERFLOW":
            fault = f"cut its answer short after {len(answer)} rows"
    except Exception as error:  # pyvo lets through the errors of requests, the XML parser and astropy
        cause = getattr(error, "cause", None) or error
        status = getattr(getattr(cause, "response", None), "status_code", None)
        fault = f"answered with HTTP status {status}" if status else f"failed ({type(cause).__name__}: {error})"
        if status in (401, 403):
            fault = f"refused the token in {TOKEN} (HTTP status {status})"
    if fault:
        fault = " ".join(fault.split()).replace(token, "<token>")[:300]  # a server may echo the header
        raise ClusterToolsError(
            f"CosmoSim's TAP service {URL} {fault}; a table of haloes was expected: check {TOKEN}, try again later, or "
            f"{EXPORT}"
        )
    return answer


def _wait(job) -> None:
    """Wait until a TAP job has ended well. (pyvo's own `wait` never gives up.)"""
    deadline = time.monotonic() + JOB_SECONDS
    while (phase := job.phase) in ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the query was still {phase} after {JOB_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    if phase not in ("COMPLETED", "ERROR"):
        raise ValueError("it sent a page that is no job" if phase is None else f"the query is {phase}")
    job.raise_if_error()
