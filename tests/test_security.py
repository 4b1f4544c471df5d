"""Nothing that comes from outside is run: no pickle, no eval, no shell; HTML is escaped, tokens stay where they are."""

import ast
import os
import re
import signal
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import small_networks
from tiny_book import chapter

from cluster_tools import hdf5, store
from cluster_tools.book import chapters
from cluster_tools.coma import scoreboard
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import table1
from cluster_tools.networks import ensembles
from cluster_tools.networks.cnn import Architecture
from cluster_tools.universe import simulation_files

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

# Modules that run what they read, and calls that do.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "yaml.unsafe_load_all",
    "pd.read_pickle", "pd.eval", "np.lib.format.read_array", "jsonpickle.decode",
    "keras.config.enable_unsafe_deserialization",
}  # fmt: skip
OPTIONS = {("allow_pickle", True), ("shell", True), ("safe_mode", False), ("weights_only", False), ("verify", False)}


def faults(source: str) -> list[str]:
    """What of a source could run or unpickle what it is given."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [f"line {node.lineno}: import {name}" for name in named if name.split(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        safe = name == "yaml.load" and [ast.unparse(argument) for argument in node.args[1:]] == ["yaml.CSafeLoader"]
        if name in CALLS and not safe:
            found.append(f"line {node.lineno}: {name}")
        for option in node.keywords:
            if isinstance(option.value, ast.Constant) and (option.arg, option.value.value) in OPTIONS:
                found.append(f"line {node.lineno}: {option.arg}={option.value.value}")
        if name.startswith("subprocess.") and node.args and isinstance(node.args[0], ast.JoinedStr | ast.Constant):
            found.append(f"line {node.lineno}: {name} of a text, not of a list")
    return found


def test_no_source_runs_what_it_reads():
    """`store` hands `yaml.load` one of two safe loaders, which are named there."""
    for path in SOURCES:
        allowed = ["yaml.load"] if path.stem == "store" else []
        assert [fault for fault in faults(path.read_text()) if fault.split(": ")[1] not in allowed] == [], path
    named = set(re.findall(r"yaml\.(\w*Loader)", Path(store.__file__).read_text()))
    assert named == {"CSafeLoader", "CBaseLoader"}


def test_no_chapter_runs_what_it_reads():
    for path in sorted((ROOT / "notebooks").glob("*.md")):
        cells = [cell for cell in chapters.read_notebook(path.stem).cells if cell.cell_type == "code"]
        lines = [line for cell in cells for line in cell.source.splitlines()]
        assert not any(re.match(r"\s*(!|%%?(bash|sh|system|sx)\b)", line) for line in lines)  # a shell in IPython
        assert faults("\n".join(line for line in lines if not line.startswith("%"))) == [], path.name


@pytest.mark.parametrize("source", [
    "from joblib import load", "eval(text)", "np.load(path, allow_pickle=True)", "yaml.load(text, yaml.Loader)",
    "subprocess.run(f'ls {name}')",
])  # fmt: skip
def test_the_search_finds_what_it_is_for(source):
    assert len(faults(source)) == 1


def test_code_in_a_profile_or_in_a_chapters_parameters_is_never_run(tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    for folder, file, text in (
        ("params", "smoke.yml", "training: {}\n"),
        ("params", "own.yml", f"training: !!python/object/apply:pathlib.Path.touch [{trap}]\n"),
        ("notebooks", "01_trap.md", chapter(f"profile = __import__('pathlib').Path({str(trap)!r}).touch()", "1")),
    ):
        store.write_text(tmp_path / folder / file, text)
    with pytest.raises(ClusterToolsError, match="not valid YAML"):
        chapters.plan("own")
    with pytest.raises(ClusterToolsError, match="01_trap.md.*not valid Python literals"):
        chapters.default_parameters("01_trap")
    assert not trap.exists()


def link(file, place, outside):
    file[place] = h5py.ExternalLink(str(outside), "column")


def virtual(file, place, outside):
    layout = h5py.VirtualLayout((2,), "<f4")
    layout[:] = h5py.VirtualSource(str(outside), "column", (2,))
    file.create_virtual_dataset(place, layout)


def storage(file, place, outside):
    file.create_dataset(place, (2,), "<f4", external=[(str(outside), 0, 8)])


@pytest.mark.parametrize("spoil", [link, virtual, storage])
def test_numbers_in_other_files_are_refused_by_every_reader_of_hdf5(tmp_path, spoil):
    outside, weights, bias = tmp_path / "outside.h5", "fold0_network0.weights.h5", "layers/dense_2/vars/1"
    with hdf5.create(outside, "form", {}) as file:
        file.create_dataset("column", data=np.ones(2, np.float32), **hdf5.CHECKED)
    for name, form in (("own.h5", "form"), ("mdpl2_1.h5", "none")):
        with hdf5.create(tmp_path / name, form, {}) as file:
            spoil(file, "column", outside)
    small_networks.ensemble(small_networks.network()).save(tmp_path)
    with h5py.File(tmp_path / weights, "r+") as file:
        del file[bias]
        spoil(file, bias, outside)
    with pytest.raises(ClusterToolsError, match="own.h5 .*column .*(not opened)"):
        with hdf5.opened(tmp_path / "own.h5", "form", "make it again") as file:
            file["column"][()]
    with pytest.raises(ClusterToolsError, match="mdpl2_1.h5 .*column .*(not opened)"):
        next(simulation_files._hdf5_pieces({tmp_path / "mdpl2_1.h5": ["column"]}))
    with pytest.raises(ClusterToolsError, match=f"{weights} .*{bias} .*(not opened)"):
        ensembles._read_weights(tmp_path / weights, store.file_digest(tmp_path / weights), Architecture(1).shapes())


def test_numbers_that_no_file_holds_are_refused(tmp_path):
    """HDF5 would make up 8 TB of zeros for a file of 1 kB."""
    with hdf5.create(tmp_path / "a.h5", "form", {}) as file:
        file.create_dataset("column", (10**12,), "<f8", chunks=(10**6,))
    with pytest.raises(ClusterToolsError, match="a.h5 .*column claims 8000000000000 bytes, but has 0"):
        with hdf5.opened(tmp_path / "a.h5", "form", "make it again"):
            pass
    with pytest.raises(ClusterToolsError, match="a.h5 .*column claims"):
        next(simulation_files._hdf5_pieces({tmp_path / "a.h5": ["column"]}))


def test_what_a_signal_handler_raises_is_no_damage_of_hdf5(tmp_path):
    def stop(*_):
        raise TimeoutError("too late")

    hdf5.write(tmp_path / "a.h5", "form", {}, {"column": np.ones(2)})
    previous = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(TimeoutError, match="too late"), hdf5.opened(tmp_path / "a.h5", "form", "make it again"):
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)


# Times that a module opens HDF5: once it looks for other files; `snapshots` opens again what it has looked through,
# `nbody` reads what it has just had made.
OPENED = {"hdf5": 2, "ensembles": 1, "simulation_files": 1, "snapshots": 2, "nbody": 1}


def test_hdf5_is_opened_where_such_files_are_refused():
    for path in SOURCES:
        assert path.read_text().count("h5py.File(") <= OPENED.get(path.stem, 0), path


BAD = "<script>alert('x')</script>"


def test_tables_escape_html(monkeypatch):
    row = dict.fromkeys(("section", "quantity", "published", "ours", "remark", "slip"), BAD)
    board = pd.DataFrame([row | {"difference": 0.0, "status": "differs", "page": ""}])
    assert "<script" not in scoreboard.styled(board).to_html()
    beside = pd.DataFrame({"model": [BAD], "from": ["here"]})
    monkeypatch.setattr(table1, "beside_published", lambda *_: beside)
    html = table1.styled(beside, beside).to_html()
    assert "<script" not in html and "&lt;script" in html


def test_the_token_of_cosmosim_is_nowhere_but_in_the_environment():
    """Its name, and what it is not in: messages and files, in test_simulation_files.py. Here: it is asked for once."""
    asked = [path.name for path in SOURCES if "environ" in path.read_text() and "TOKEN" in path.read_text()]
    assert asked == ["cosmosim.py"]
    for path in [*(ROOT / "notebooks").glob("*.md"), *(ROOT / "params").glob("*.yml"), ROOT / "Snakefile"]:
        assert not re.search(r"(?i)api[_-]?key|password|_token\s*=", path.read_text()), path.name
    for run in chapters.plan("smoke"):
        assert not any("token" in name.lower() for name in run.parameters)


def test_the_lock_is_installed_by_its_hashes():
    """That every line of the lock has a hash: test_environment.py."""
    for path in (ROOT / "Makefile", *(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / ".ci" / "run"):
        for line in path.read_text().splitlines():
            if re.search(r"\bpip install\b", line) and "requirements.lock" in line:
                assert "--require-hashes" in line, f"{path.name}: {line}"


def test_workflows_have_few_rights_and_no_text_of_strangers_in_their_shell():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        assert re.search(r"^permissions:\n  contents: ", text, flags=re.MULTILINE), path.name
        assert "pull_request_target" not in text and "write-all" not in text, path.name
        assert not re.search(r"\$\{\{\s*github\.(event|head_ref)", text), path.name
