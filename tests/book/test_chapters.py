"""The plan, its profiles, how a chapter runs, and which chapters Snakemake runs again."""

import ast
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from damage import flip_byte
from tiny_book import BOOK, HEADER, SECOND_CSV, chapter

from cluster_tools import cli, paths, store
from cluster_tools.book import build, chapters, publish
from cluster_tools.book.profiles import profile_parameters
from cluster_tools.errors import ClusterToolsError
from cluster_tools.networks.models import PAPER_MODELS, model_name

ROOT = Path(__file__).parents[2]
TEXTS = sorted((ROOT / "notebooks").glob("*.md"))


def test_plan_has_every_notebook_and_one_run_for_each_name_and_file():
    runs = chapters.plan("smoke")
    assert {run.notebook for run in runs} == {path.stem for path in TEXTS}
    for names in ([run.name for run in runs], [file for run in runs for file in run.writes]):
        assert len(set(names)) == len(names)
    trained = [run.name.removeprefix("04_training_") for run in runs if run.chapter == "training"]
    papers = [model_name(**model) for model in PAPER_MODELS]
    assert [name for name in trained if name in papers] == papers


def test_profiles_have_the_notebooks_parameters_and_smoke_their_defaults():
    defaults = {path.stem: chapters.default_parameters(path.stem) for path in TEXTS}
    for run in (run for profile in ("smoke", "book", "paper") for run in chapters.plan(profile)):
        assert set(run.parameters) <= set(defaults[run.notebook]), run.name
    first = {run.notebook: run for run in reversed(chapters.plan("smoke"))}
    for notebook, run in first.items():
        assert run.parameters.items() <= defaults[notebook].items()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_notebook_leaves_its_parameters_as_they_are_and_declares_the_folders_that_it_uses(path):
    """Its globals say whether it is an experiment. Folders are those that its code imports, and those that these import
    in turn; figures only draw, book only loads."""
    parameters = set(chapters.default_parameters(path.stem))
    for cell in chapters.read_notebook(path.stem).cells:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            nodes = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
            assert not parameters & {node.id for node in nodes if isinstance(node.ctx, ast.Store)}, cell.source
    (uses,) = {run.uses for run in chapters.plan("smoke") if run.notebook == path.stem}
    imported = set(re.findall(r"^ *from cluster_tools\.(\w+)[. ]", path.read_text(), flags=re.MULTILINE))
    for folder in imported & set(store.FOLDERS) - {"figures", "book"}:
        for module in (paths.PACKAGE / folder).glob("*.py"):
            imported |= set(re.findall(r"^ *from cluster_tools\.(\w+) import", module.read_text(), flags=re.MULTILINE))
    assert imported & set(store.FOLDERS) <= set(uses)


def test_a_changed_file_of_data_runs_those_that_read_it_again():
    (whole,) = [run for run in chapters.plan("smoke") if run.notebook.startswith("00")]  # uses all folders
    files = {path for path in paths.PACKAGE_DATA.rglob("*") if path.is_file() and path.name != "README.md"}
    assert set(chapters.inputs(whole)["data"]) == files | {ROOT / "results" / "published.yml"}


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("params/own.yml", "a: [", "not valid YAML.*line 2"),
        ("params/own.yml", "- 1", "must map"),
        ("params/own.yml", "\xff", "must map"),
        ("params/own.yml", "chapter_x: {}", "for chapter_x, but those .*scoreboard"),
        ("params/own.yml", "training: {epoch: 3}", "sets epoch for training, but .*epochs"),
        ("notebooks/chapters.yml", "first: {notebook: 01_first, read: [x]}", "first has .*read.*only .*reads"),
        ("notebooks/chapters.yml", "first: {writes: [a]}", "first has writes, but notebook is expected"),
        ("notebooks/chapters.yml", "first: {notebook: 01_first, reads: [third]}", "first reads third"),
        ("notebooks/chapters.yml", "first: [", "not valid YAML"),
        ("notebooks/01_first.md", "---\na: [\n---\n", "not a notebook in MyST"),
        ("notebooks/01_first.md", HEADER, "0 cells tagged parameters"),
        ("notebooks/01_first.md", chapter("a = f()", "1"), "not valid Python literals"),
        ("notebooks/01_first.md", chapter("a = = 1", "1"), "not valid Python literals"),
        ("notebooks/01_first.md", None, "is missing"),
    ],
)
def test_a_damaged_source_is_refused_by_name(tiny_book, tmp_path, file, text, words):
    (tmp_path / "params" / "own.yml").write_text("{}")
    (tmp_path / file).unlink() if text is None else (tmp_path / file).write_text(text)
    with pytest.raises(ClusterToolsError, match=words) as refusal:
        chapters.execute(chapters.find_run("own", "01_first"))
    assert file.removesuffix(".yml") in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_profile_says_only_what_differs_from_smoke(tiny_book, tmp_path):
    (tmp_path / "params" / "own.yml").write_text("training: {epochs: 3}")
    smoke = profile_parameters("smoke")
    assert profile_parameters("own") == smoke | {"training": smoke["training"] | {"epochs": 3}}


def test_an_unknown_profile_leaves_nothing_and_lists_those_that_exist(tiny_book, tmp_path, capsys):
    assert cli.main(["book", "--profile", "nosuch"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: there is no profile 'nosuch'") and "book, paper, smoke" in said
    assert not (tmp_path / "results" / "nosuch").exists()


def test_a_chapter_that_fails_says_so_and_keeps_the_old_page(tiny_book, tmp_path):
    run = chapters.find_run("smoke", "01_first")
    record = chapters.execute(run)
    assert record == chapters.read_record(run)
    assert record["seconds"] > 0 and record["peak_memory_mb"] > 10 and record["parameters"] == {"profile": "smoke"}
    files = {run.results / name for name in ("chapters/01_first.ipynb", "first.h5", "figures/first.svg")}
    assert {run.results / name for name in record["digests"]} == files and chapters.remove_damaged([run]) == []
    for file in (*files, chapters.record_path(run)):
        before = {path: path.read_bytes() for path in (file, chapters.record_path(run))}
        flip_byte(file)
        with pytest.raises(ClusterToolsError, match="changed .*, of 01_first; .*make book PROFILE=smoke"):
            publish.build("smoke", [run])
        assert chapters.remove_damaged([run]) == ["01_first"] and not chapters.record_path(run).exists()
        for path, content in before.items():
            path.write_bytes(content)
    executed = chapters.executed_path(run).read_bytes()

    failing = 'from cluster_tools import ClusterToolsError\nprint("so far")\nraise ClusterToolsError("column z: drop.")'
    (tmp_path / "notebooks" / "01_first.md").write_text(chapter('profile = "smoke"', failing))
    with pytest.raises(ClusterToolsError, match=r"01_first stopped at In \[3\]: column z: drop.*failed/01_first"):
        chapters.execute(run)
    assert chapters.executed_path(run).read_bytes() == executed and not chapters.record_path(run).exists()
    failed = nbformat.read(run.results / "failed" / "01_first.ipynb", as_version=4)
    assert "so far\n" in [output.get("text") for cell in failed.cells for output in cell.get("outputs", [])]
    assert [path.name for path in chapters.executed_path(run).parent.iterdir()] == ["01_first.ipynb"]

    (tmp_path / "notebooks" / "01_first.md").write_text(chapter("seed = 1", "1"))
    with pytest.raises(ClusterToolsError, match="sets profile for first.*01_first.md.*seed"):
        chapters.execute(run)


@pytest.mark.slow
def test_an_edit_runs_again_what_depends_on_it_and_nothing_else(tiny_book, tmp_path):
    results = tmp_path / "results" / "smoke"

    def book() -> set[str]:
        said, _ = (process := tiny_book(*BOOK)).communicate()
        assert process.returncode == 0, said
        assert (results / "second.csv").read_text() == SECOND_CSV
        done = set(re.findall(r"^\[.*\] (\w+)  ", said, flags=re.MULTILINE))
        assert ("all 2 chapters are up to date" in said) == (not done)
        return done

    def append(file):
        with open(tmp_path / file, "a") as text:
            text.write("\nOne more sentence.\n")

    assert book() == {"01_first", "02_second"}
    os.utime(tmp_path / "notebooks" / "02_second.md")  # touched, but not changed
    assert book() == set()
    append("notebooks/02_second.md")
    assert book() == {"02_second"}
    append("notebooks/01_first.md")
    assert book() == {"01_first", "02_second"}
    flip_byte(results / "first.h5")
    assert "01_first" in book()
    path = tmp_path / "params" / "smoke.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"second": {"factor": 1}}))
    assert book() == {"02_second"}  # of other parameters
    append("notebooks/02_second.md")
    dry = [sys.executable, "-m", "snakemake", "--config", "profile=smoke", "--dry-run"]
    home = os.environ | {"HOME": str(tmp_path)}  # Snakemake by itself needs one
    said = subprocess.run(dry, cwd=tmp_path, capture_output=True, text=True, env=home)
    words = said.stdout + said.stderr
    assert "rule 02_second" in words and "rule 01_first" not in words
    assert "Updated input files: notebooks/02_second.md" in words


def test_progress_counts_what_is_due_and_tells_failed_killed_and_blocked_jobs_apart(tiny_book, capsys):
    events = [["01_first", None, ""], ["01_first", 3, "column z"], ["02_second", None, ""]]
    lines = ["01_first   1\n", "02_second   1\n", "pages   1\n", *(f"{build.EVENT}{json.dumps(e)}\n" for e in events)]
    executed, waiting, failures = build.follow(lines, log := io.StringIO(), chapters.plan("smoke"), 2)
    assert (executed, waiting) == ([], ["01_first", "02_second", "pages"]) and log.getvalue() == "".join(lines)
    assert failures["01_first"] == "column z" and "02_second was killed" in failures["02_second"]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 chapters, 0 up to date, 2 to run" and said[2].startswith("[ 0/3] 01_first  failed after 3 s")
    seconds = {"04_training_a": 100.0, "05_validation": 10.0}
    assert build.time_left([], seconds, 2) == "done"
    assert build.time_left(["04_training_b", "04_training_a"], seconds, 2) == "2 left, about 2 min"
    assert build.time_left(["06_x"], {}, 2) == "1 left"


@pytest.mark.slow
def test_slurm_would_get_every_chapter_with_its_memory():
    """As far as a dry run goes, without the executor, which only clusters install: each rule has memory and time."""
    command = "-m snakemake --profile profiles/slurm --executor local --config profile=smoke"
    command += " --dry-run --forceall --nocolor --nolock"
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=120)
    words = done.stdout + done.stderr
    assert done.returncode == 0, words
    jobs = dict(re.findall(r"^rule (\w+):.*?mem_mb=(\d+)", words, flags=re.MULTILINE | re.DOTALL))
    assert {run.name: str(run.memory_mb) for run in chapters.plan("smoke")}.items() <= jobs.items()
    assert len(re.findall("runtime=240, cpus_per_task=1", words)) >= len(jobs)
