"""The command line: ``cluster-tools weigh`` weighs clusters, ``cluster-tools book`` makes the book."""

import argparse
import importlib
import importlib.util
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cluster_tools import machine, paths, store
from cluster_tools.coma import mass_definitions
from cluster_tools.errors import ClusterToolsError
from cluster_tools.weighing import command_line


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 done, 1 failed or interrupted, 2 wrong usage, 3 and 4 as in ``weigh --help``."""
    machine.collect_garbage_rarely()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a stream of a test
            stream.reconfigure(errors="backslashreplace")  # for terminals that are not UTF-8
    # A blank makes negative numbers and angles, such as -22:06:00, arguments and not options.
    arguments = [re.sub(r"^-(?=[\d.])", " -", word) for word in (sys.argv[1:] if arguments is None else arguments)]
    options = parser().parse_args(arguments)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:  # as under nohup
            signal.signal(signum, signal.default_int_handler)  # as Ctrl-C, so that all is cleared up
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # the reader of our output has gone, as in `make book | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here.", file=sys.stderr)
        return 1
    except ClusterToolsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        words = f"the package {error.name} is not installed, which this command needs; "
        words += "install all packages of the book with: pip install 'cluster-tools[book]'"
    except OSError as error:
        words = f"{paths.shown(error.filename or 'a file')}: {error.strerror or error}"
    print(f"error: {words}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """All commands; each sets ``run``, a function of the options that returns the exit code, or None for 0."""
    program = argparse.ArgumentParser(
        prog="cluster-tools", description="Weigh clusters, and make the book: run its chapters and build its pages."
    )
    if importlib.util.find_spec("shtab"):  # cluster-tools --print-completion bash
        import shtab

        shtab.add_argument_to(program, "--print-completion")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command_line.add_weigh(commands).set_defaults(run=lambda o: command_line.weigh_command(o, draw_mass))
    mass_definitions.add_convert_mass(commands).set_defaults(run=mass_definitions.convert_mass_command)

    def add(name: str, summary: str, example: str, run: Callable, *, profile: bool = True) -> Callable:
        command = commands.add_parser(name, help=summary, epilog=f"example: cluster-tools {name} {example}")
        command.set_defaults(run=run)
        if profile:
            command.add_argument("--profile", default="book", help="scale, a file in params/ (default: book)")
        return command.add_argument

    # The light install has no tools to make the book, so each command imports its own.
    book = add(
        "book", "run the chapters that are not up to date and build the pages", "--profile smoke --cores 2",
        lambda o: module("book.build").make_book(o.profile, o.cores, publish_html=not o.keep_html),
    )  # fmt: skip
    book("--cores", type=positive, default=machine.cores(), help="chapters side by side (default: all cores)")
    book("--keep-html", action="store_true", help="leave _build/html as it is; the site stays in _build/PROFILE/site")
    add("pdf", "print the pages of a built book into one PDF (needs Chromium)", "--profile book", print_book)
    add(
        "notebooks", "execute the notebooks with their defaults, in place", "04_training",
        lambda o: module("book.build").execute_notebooks(o.names), profile=False,
    )("names", nargs="*", metavar="NAME", help="notebooks without suffix (default: all)")  # fmt: skip
    add(
        "run-chapter", "one run of the plan (Snakemake calls this)", "07_historical_masses",
        lambda o: module("book.build").run_chapter(o.profile, o.name),
    )("name", metavar="RUN", help="for instance 04_training_uchuu_2d")  # fmt: skip
    add(
        "build-pages", "the pages of chapters that have run (Snakemake calls this)", "--profile smoke",
        lambda o: module("book.build").build_pages(o.profile),
    )  # fmt: skip
    add(
        "numbers", "write the README's numbers from a finished run, or compare them", "--profile book --check",
        write_numbers,
    )("--check", action="store_true", help="only say which differ by more than their error")  # fmt: skip
    add(
        "ship-weights", "make a profile's Uchuu 2D networks those of the package", "--profile book",
        lambda o: print(paths.shown(module("book.shipped").ship(o.profile, progress=print))),
    )  # fmt: skip
    train = add(
        "train-survey", "train the survey estimator, and make it that of the package", "--boxes results/survey",
        train_survey, profile=False,
    )  # fmt: skip
    train("--boxes", default="results/survey", metavar="DIR", type=Path,
          help="where mdpl2.h5 and uchuu.h5 lie or are drawn (default: results/survey)")  # fmt: skip
    train("--redshifts", action="store_true",
          help="do not train: measure the package's networks on boxes at z = 0.2, 0.4 and 0.6")  # fmt: skip
    train("--networks", type=positive, help="number of networks, one a seed (default: as the package's)")
    train("--steps", type=positive, help="batches for each network (default: as the package's)")
    return program


def module(name: str):
    """Import the module ``cluster_tools.<name>``, which a light installation may be unable to."""
    return importlib.import_module(f"cluster_tools.{name}")


def positive(text: str) -> int:
    """An argument that is a whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above zero, not {text!r}")
    return int(text)


def draw_mass(mass, path: str) -> None:
    """Draw a `ClusterMass` into the file `path`."""
    from cluster_tools.figures import clusters, style

    with suppress(ModuleNotFoundError):  # a light installation has no seaborn, and keeps matplotlib's theme
        style.set_theme()
    with store.atomic(path) as temporary:
        clusters.weighed(mass).savefig(temporary, dpi=150, facecolor="white")


def write_numbers(options) -> int:
    """``cluster-tools numbers``; returns 1 if any number differs."""
    numbers, chapters = module("book.numbers"), module("book.chapters")
    chapters.check(chapters.plan(options.profile))
    if not options.check:
        numbers.write(options.profile)
    differences = numbers.differences(options.profile)
    print("\n".join(differences) or "the README has the numbers of this run")
    return int(bool(differences))


def train_survey(options) -> None:
    """``cluster-tools train-survey``."""
    training = module("weighing.survey_training")
    if not options.redshifts:
        given = {name: number for name in ("networks", "steps") if (number := getattr(options, name))}
        training.ship(options.boxes, **given)
    print(paths.shown(training.measure_redshifts(options.boxes)))


def print_book(options) -> None:
    """``cluster-tools pdf``: the site of a profile, less the reference, into ``_build/<profile>/book.pdf``."""
    publish, book = module("book.publish"), paths.project_root() / "_build" / options.profile / "book.pdf"
    module("book.profiles").profile_parameters(options.profile)  # an unknown profile is named as such
    site = publish.site_path(options.profile)
    if not (site / "index.html").is_file():
        raise ClusterToolsError(
            f"{paths.shown(site)} has no pages; make them with: cluster-tools book --profile {options.profile}"
        )
    names = publish.expected_pages(paths.project_root() / "_toc.yml")
    module("book.pdf").write(site, [name for name in names if not name.startswith("api/")], book)
    print(paths.shown(book))


if __name__ == "__main__":
    sys.exit(main())
