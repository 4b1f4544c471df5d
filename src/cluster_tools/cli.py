"""The command line: ``cluster-tools weigh`` weighs clusters, ``cluster-tools book`` makes the book."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

from cluster_tools import machine, paths, store
from cluster_tools.coma import mass_definitions
from cluster_tools.errors import ClusterToolsError
from cluster_tools.weighing import command_line


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 done, 1 failed or interrupted, 2 wrong usage, 3 (weigh) done but for some clusters."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a stream of a test
            stream.reconfigure(errors="backslashreplace")  # for terminals that are not UTF-8
    # A blank makes negative numbers and angles, such as -22:06:00, arguments and not options.
    arguments = [re.sub(r"^-(?=[\d.])", " -", word) for word in (sys.argv[1:] if arguments is None else arguments)]
    options = parser().parse_args(arguments)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:  # as under nohup
            signal.signal(signum, interrupt)
    try:
        return options.run(options)
    except ClusterToolsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(
            f"error: the package {error.name} is not installed, which this command needs; "
            "install all packages of the book with: pip install 'cluster-tools[book]'",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as in `make book | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {paths.shown(error.filename or 'a file')}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here.", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """All commands; each sets ``run``, a function of the options that returns the exit code."""
    program = argparse.ArgumentParser(
        prog="cluster-tools", description="Weigh clusters, and make the book: run its chapters and build its pages."
    )
    if importlib.util.find_spec("shtab"):  # cluster-tools --print-completion bash
        import shtab

        shtab.add_argument_to(program, "--print-completion")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command_line.add_weigh(commands).set_defaults(run=lambda o: command_line.weigh_command(o, draw_mass))
    mass_definitions.add_convert_mass(commands).set_defaults(run=mass_definitions.convert_mass_command)

    book = commands.add_parser("book", help="run the chapters that are not up to date and build the pages",
                               epilog="example: cluster-tools book --profile smoke --cores 2")  # fmt: skip
    book.add_argument(
        "--cores", type=positive, default=machine.cores(), help="chapters side by side (default: all cores)"
    )
    book.add_argument("--keep-html", action="store_true",
                      help="leave _build/html as it is; the site stays in _build/PROFILE/site")  # fmt: skip
    book.set_defaults(run=make_book)

    pdf = commands.add_parser("pdf", help="print the pages of a built book into one PDF (needs Chromium)",
                              epilog="example: cluster-tools pdf --profile book")  # fmt: skip
    pdf.set_defaults(run=print_book)

    notebooks = commands.add_parser("notebooks", help="execute the notebooks with their defaults, in place",
                                    epilog="example: cluster-tools notebooks 04_training")  # fmt: skip
    notebooks.add_argument("names", nargs="*", metavar="NAME", help="notebooks without suffix (default: all)")
    notebooks.set_defaults(run=execute_notebooks)

    chapter = commands.add_parser("run-chapter", help="one run of the plan (Snakemake calls this)",
                                  epilog="example: cluster-tools run-chapter 07_historical_masses")  # fmt: skip
    chapter.add_argument("name", metavar="RUN", help="for instance 04_training_uchuu_2d")
    chapter.set_defaults(run=run_chapter)

    pages = commands.add_parser("build-pages", help="the pages of chapters that have run (Snakemake calls this)",
                                epilog="example: cluster-tools build-pages --profile smoke")  # fmt: skip
    pages.set_defaults(run=build_pages)

    numbers = commands.add_parser("numbers", help="write the README's numbers from a finished run, or compare them",
                                  epilog="example: cluster-tools numbers --profile book --check")  # fmt: skip
    numbers.add_argument("--check", action="store_true", help="only say which differ by more than their error")
    numbers.set_defaults(run=write_numbers)

    ship = commands.add_parser("ship-weights", help="make a profile's Uchuu 2D networks those of the package",
                               epilog="example: cluster-tools ship-weights --profile book")  # fmt: skip
    ship.set_defaults(run=ship_weights)

    train = commands.add_parser("train-survey", help="train the survey estimator, and make it that of the package",
                                epilog="example: cluster-tools train-survey --boxes results/survey")  # fmt: skip
    train.add_argument("--boxes", default="results/survey", metavar="DIR",
                       help="where mdpl2.h5 and uchuu.h5 lie or are drawn (default: results/survey)")  # fmt: skip
    train.add_argument("--networks", type=positive, default=4, help="number of networks, one a seed (default: 4)")
    train.add_argument("--steps", type=positive, default=4000, help="batches for each network (default: 4000)")
    train.set_defaults(run=train_survey)
    for each in (book, pdf, chapter, pages, numbers, ship):
        each.add_argument("--profile", default="book", help="scale of the run, a file in params/ (default: book)")
    return program


def positive(text: str) -> int:
    """An argument that is a whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above zero, not {text!r}")
    return int(text)


def interrupt(signum, frame) -> None:
    """Treat a termination like Ctrl-C, so that everything is cleared up on the way out."""
    raise KeyboardInterrupt


def draw_mass(mass, path: str) -> None:
    """Draw a weighed cluster into a file."""
    from cluster_tools.figures import clusters, style

    with suppress(ModuleNotFoundError):  # a light installation has no seaborn, and keeps matplotlib's theme
        style.set_theme()
    with store.atomic(path) as temporary:
        clusters.weighed(mass).savefig(temporary, dpi=150, facecolor="white")


# The light install has no tools to make the book, so each command imports its own.


def make_book(options) -> int:
    """``cluster-tools book``."""
    from cluster_tools.book import build

    return build.make_book(options.profile, options.cores, publish_html=not options.keep_html)


def run_chapter(options) -> int:
    """``cluster-tools run-chapter``."""
    from cluster_tools.book import build

    return build.run_chapter(options.profile, options.name)


def build_pages(options) -> int:
    """``cluster-tools build-pages``."""
    from cluster_tools.book import build

    return build.build_pages(options.profile)


def execute_notebooks(options) -> int:
    """``cluster-tools notebooks``."""
    from cluster_tools.book import build

    return build.execute_notebooks(options.names)


def write_numbers(options) -> int:
    """``cluster-tools numbers``."""
    from cluster_tools.book import numbers

    if not options.check:
        numbers.write(options.profile)
    differences = numbers.differences(options.profile)
    print("\n".join(differences) or "the README has the numbers of this run")
    return int(bool(differences))


def ship_weights(options) -> int:
    """``cluster-tools ship-weights``."""
    from cluster_tools.book import shipped

    print(paths.shown(shipped.ship(options.profile, progress=print)))
    return 0


def train_survey(options) -> int:
    """``cluster-tools train-survey``."""
    from cluster_tools.weighing import survey_training

    file = survey_training.ship(Path(options.boxes), networks=options.networks, steps=options.steps)
    print(paths.shown(file))
    return 0


def print_book(options) -> int:
    """``cluster-tools pdf``: the site of a profile, less the reference, into ``_build/<profile>/book.pdf``."""
    from cluster_tools.book import pdf, publish
    from cluster_tools.book.profiles import profile_parameters

    profile_parameters(options.profile)  # an unknown profile is named as such
    home = paths.project_root() / "_build" / options.profile
    if not (home / "site" / "index.html").is_file():
        raise ClusterToolsError(
            f"{paths.shown(home / 'site')} has no pages; make them with: cluster-tools book --profile {options.profile}"
        )
    names = publish.expected_pages(paths.project_root() / "_toc.yml")
    pdf.write(home / "site", [name for name in names if not name.startswith("api/")], home / "book.pdf")
    print(paths.shown(home / "book.pdf"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
