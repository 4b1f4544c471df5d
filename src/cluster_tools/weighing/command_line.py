"""``cluster-tools weigh``: masses of clusters from a table of galaxies."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cluster_tools import machine, paths, store
from cluster_tools.errors import ClusterToolsError, WrongUsage

# Options that a mass depends on, in the provenance of what is written.
RECORDED = "centre redshift column min_log_mstar velocity_error complete model draws seed cluster_column".split()
EXAMPLE = """\
examples:
  cluster-tools weigh coma.ecsv                                    finds centre and redshift
  cluster-tools weigh coma.csv --centre 194.95 27.98 --redshift 0.0231 --figure coma.png
  cluster-tools weigh survey.fits --column z=ZBEST --min-log-mstar none --json
  cluster-tools weigh coma.ecsv --members members.ecsv             probability of membership of each galaxy
  cluster-tools weigh groups.fits --cluster-column group_id --output masses.ecsv
  cluster-tools weigh galaxies.fits --clusters centres.fits --output masses.ecsv
  cluster-tools weigh 'field.fits[GALAXIES]' --centre 10:01:12 -22:06:00

The table (CSV, ECSV, FITS, VOTable) has right ascension and declination (J2000, deg) and redshift, and at best
log10 stellar masses [Msun, no h] or g and r magnitudes. Columns are found by their usual names or by UCD. Keep all
galaxies within 2.3 comoving Mpc/h and 3785 km/s, interlopers too. Weighing holds for redshifts from 0.005 to 0.6,
with --model paper from 0.013 to 0.1.

exit codes: 0 all clusters weighed, 1 error, 2 wrong usage, 3 some of the clusters could not be weighed, 4 the one
cluster has no mass that should be used
"""


def add_weigh(subparsers) -> argparse.ArgumentParser:
    """Add ``weigh`` to the sub-parsers of a command line, and return its parser."""
    parser = subparsers.add_parser(
        "weigh",
        help="the mass of a cluster from a table of its galaxies",
        description="Weigh one cluster, or every cluster of a table, with the networks that come with the package.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("table", metavar="TABLE", help="table of galaxies: .csv, .ecsv, .fits or .vot")
    add("--centre", nargs=2, metavar=("RA", "DEC"),
        help="centre, J2000, in deg or as 10:01:12 -22:06:00 (default: found)")  # fmt: skip
    add("--redshift", metavar="Z", help="redshift of the cluster (default: found)")
    add("--column", action="append", default=[], metavar="NAME=COLUMN",
        help="where ra, dec, z (or cz in km/s), error, log_mstar, mag_g, mag_r are not found; repeatable")  # fmt: skip
    add("--min-log-mstar", default="9.5", metavar="M", help="lowest log10 stellar mass [Msun], or none (default: 9.5)")
    add("--velocity-error", metavar="KM_S", help="typical error of a velocity [km/s] (default: the table's, or 30)")
    add("--complete", action="store_true",
        help="all galaxies of the field above the cut are in the table, so that their number tells a mass")  # fmt: skip
    add("--model", choices=("survey", "paper"), default="survey",
        help="the estimator for surveys, or the networks of the paper (default: survey)")  # fmt: skip
    add("--classical", action="store_true", help="set classical estimates beside the mass")
    add("--name", help="name of the cluster (default: the table)")
    add("--draws", type=int, default=100, metavar="N", help="passes through each network (default: 100)")
    add("--seed", type=int, default=1, metavar="N", help="seed of the draws (default: 1)")
    add("--networks", metavar="DIR", help="a directory with networks as the paper's (default: those of the package)")
    add("--json", action="store_true", help="print JSON instead of text; in it are the samples of the posterior")
    add("--output", metavar="FILE", help="write a table with units and provenance, .ecsv")
    add("--members", metavar="FILE",
        help="write the galaxies weighed, each with its probability to be a member, .ecsv")  # fmt: skip
    add("--figure", metavar="FILE", help="draw phase space and posterior, .png, .svg or .pdf")
    add("--cluster-column", metavar="COLUMN",
        help="weigh many clusters: the column with the name of each galaxy's cluster; RA, DEC and Z are then names of "
        "columns, too. With --output, an interrupted run goes on where it was")  # fmt: skip
    add("--clusters", metavar="FILE",
        help="weigh many clusters: a table of their names, centres and redshifts; the galaxies about each are cut out "
        "of TABLE")  # fmt: skip
    add("--samples", action="store_true", help="keep the samples of the posterior of many clusters, too")
    add("--scheduler", metavar="ADDRESS", help="weigh many clusters on the workers of this Dask scheduler")
    add("--cores", type=int, default=machine.cores(), metavar="N", help="clusters side by side (default: all cores)")
    with suppress(ImportError):  # without shtab, the shell completes nothing
        from shtab import FILE

        for action in parser._actions:
            if action.dest in ("table", "networks", "output", "members", "figure", "clusters"):
                action.complete = FILE
    return parser


def weigh_command(options: argparse.Namespace, draw: Callable) -> int:
    """Weigh, print and write; return an exit code (see `EXAMPLE`). `draw` gets a `ClusterMass` and a figure's path."""
    many = options.cluster_column is not None or options.clusters is not None
    columns, settings = _checked(options, many)
    # Where results of many clusters are kept until the table is written.
    partial = Path(f"{options.output}.partial") if many and options.output else None
    for name, value in machine.SINGLE_THREADED.items():
        os.environ.setdefault(name, value)  # so that the same seed gives the same posterior
    records, failed = _many(options, columns, settings, partial) if many else _one(options, columns, settings, draw)
    _report(records, failed, options)
    if partial:
        partial.unlink(missing_ok=True)
    for name, reason in failed.items():
        print(f"not weighed: {name}: {reason}", file=sys.stderr)
    refused = [each["cluster"] for each in records if each["refusal"]]
    if many and refused:
        print(f"no mass should be used: {', '.join(refused)}", file=sys.stderr)
    return (3 if many else 4) if failed or refused else 0


def _checked(options, many: bool) -> tuple[dict, dict]:
    """Columns by standard name, and the parameters of `weigh` and `weigh_many` alike, from options that are checked."""
    for name, endings in {"output": (".ecsv",), "members": (".ecsv",), "figure": (".png", ".svg", ".pdf")}.items():
        file = getattr(options, name)
        if file is not None and Path(file).suffix.lower() not in endings:
            raise WrongUsage(f"--{name} is {file!r}, but a name that ends in {' or '.join(endings)} is expected.")
    if options.draws < 1 or options.seed < 0 or options.cores < 1:
        raise WrongUsage("--draws and --cores must be at least 1, and --seed at least 0.")
    if many and (options.figure or options.name):
        raise WrongUsage("--figure and --name are for one cluster; leave them out with --cluster-column or --clusters.")
    if options.clusters and (options.cluster_column or options.centre or options.redshift):
        raise WrongUsage("--clusters has centres and redshifts; leave out --cluster-column, --centre and --redshift.")
    for given in options.column:
        if "=" not in given:
            raise WrongUsage(f"--column is {given!r}, but NAME=COLUMN is expected, such as z=ZBEST.")
    cut = None if options.min_log_mstar.lower() == "none" else options.min_log_mstar
    return dict(given.split("=", 1) for given in options.column), {
        "min_log_mstar": _number("min-log-mstar", cut), "draws": options.draws, "seed": options.seed,
        "velocity_error": _number("velocity-error", options.velocity_error), "complete": options.complete,
        "classical": options.classical,
    }  # fmt: skip


def _number(option: str, text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise WrongUsage(f"--{option} is {text!r}, but a number is expected.") from None


def _one(options, columns: dict[str, str], settings: dict, draw: Callable) -> tuple[list[dict], dict]:
    """The record of one cluster, which is drawn if asked for, and no failure."""
    redshift = _number("redshift", options.redshift)
    from cluster_tools.weighing import one_cluster, output, selection

    try:
        centre = options.centre and selection.checked_centre(options.centre)
    except ClusterToolsError as error:
        raise WrongUsage(str(error)) from None
    model = one_cluster.load_model(options.model, options.networks)
    mass = one_cluster.weigh(
        options.table, centre=centre, redshift=redshift, columns=columns, name=options.name, model=model, **settings
    )
    if options.figure:
        draw(mass, options.figure)
    return [output.record(mass, galaxies=bool(options.members))], {}


def _many(options, columns: dict[str, str], settings: dict, partial: Path | None) -> tuple[list[dict], dict]:
    """Records of many clusters, and reasons of failures."""
    if not options.scheduler:
        machine.start_fork_server("cluster_tools.weighing.many_clusters")
    from cluster_tools.weighing import cylinders, galaxy_table, many_clusters

    galaxies = galaxy_table.read(
        options.table, columns=columns, with_mass=settings["min_log_mstar"] is not None,
        cluster_column=options.cluster_column, centre_columns=options.centre, redshift_column=options.redshift,
    )  # fmt: skip
    return many_clusters.weigh_many(
        galaxies, centres=cylinders.read_centres(options.clusters) if options.clusters else None, model=options.model,
        samples=options.samples, members=bool(options.members), directory=options.networks, cores=options.cores,
        scheduler=options.scheduler, partial=partial, progress=_progress, **settings,
    )  # fmt: skip


def _progress(done: int, total: int, name: str, seconds: float) -> None:
    left = f", about {machine.duration(seconds)} left" if done < total else ""
    print(f"[{done:{len(str(total))}}/{total}] {name}{left}", file=sys.stderr, flush=True)


def _report(records: list[dict], failed: dict[str, str], options) -> None:
    """Print and write the records with their provenance."""
    from cluster_tools import table_files
    from cluster_tools.weighing import one_cluster, output

    networks = one_cluster.load_model(options.model, options.networks).provenance
    files = {name: table_files.located(file)[0] for name in ("table", "clusters") if (file := getattr(options, name))}
    inputs = {name: store.file_digest(file) for name, file in files.items()} | {"networks": networks["key"]}
    provenance = {
        "made_by": "cluster-tools weigh",
        **{name: file.name for name, file in files.items()},
        "networks": {name: networks["parameters"].get(name) for name in ("simulation", "epochs", "seed")},
        **store.stamp({name: getattr(options, name) for name in RECORDED}, folder="weighing", inputs=inputs),
    }
    meta = {"provenance": provenance, "failed": failed}
    results = (
        (options.output, output.table, f"{len(records)} clusters"),
        (options.members, output.members, "their galaxies"),
    )
    for file, table, contents in results:
        if file and records:
            with store.atomic(file) as temporary:
                table(records, meta).write(temporary, format="ascii.ecsv", overwrite=True)
            print(f"{contents} in {paths.shown(file)}", file=sys.stderr)
    for each in records:
        each.pop("galaxies", None)
    if options.json:
        print(json.dumps({**meta, "clusters": records}, allow_nan=False, indent=1))
    elif records:
        print("\n\n".join(map(output.text, records)))
