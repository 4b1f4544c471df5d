"""Stamps and atomic files, and files that are written whole or not at all."""

import errno
import json
import os
import stat
import time

import pytest

from cluster_tools import hdf5, store
from cluster_tools.errors import ClusterToolsError


def test_key_depends_on_parameters_inputs_and_code_alone():
    def key(parameters, inputs=None, folder="mocks"):
        return store.stamp(parameters, folder=folder, inputs=inputs)["key"]

    one = {"seed": 1, "box": None}
    others = (
        ({"seed": 2, "box": None},),
        ({"seed": 1},),
        (one, {"catalog": "a"}),
        (one, {"catalog": "b"}),
        (one, {}, "coma"),
    )
    assert key({"box": None, "seed": 1}) == key(one) and len({key(one), *(key(*other) for other in others)}) == 6


def test_stamp_survives_json_as_it_is():
    stamp = store.stamp({"range": (14.0, 15.25), "name": "mdpl2"}, folder="mocks")
    assert json.loads(json.dumps(stamp)) == stamp and stamp["parameters"]["range"] == [14.0, 15.25]
    assert {"python", "numpy", "tensorflow"} <= set(stamp["versions"])


def test_digest_is_stable(tmp_path):
    """A change of these would remake every artefact: SHA-256 of the JSON text, checked with sha256sum."""
    assert store.digest({"b": 1, "a": [2.5, None]}) == store.digest({"a": [2.5, None], "b": 1})
    assert store.digest(b"") == "e3b0c44298fc1c14"
    (tmp_path / "a").write_bytes(b"abc")
    assert store.file_digest(tmp_path / "a") == "ba7816bf8f01cfea"  # FIPS 180-2, example B.1


def test_other_parameters_are_refused_by_name(tmp_path):
    path = tmp_path / "mock.h5"
    found = {"seed": 1, "box_size": 250.0, "range": [14, 15]}
    store.check_parameters(path, found, {"seed": 1, "range": (14, 15)}, "make book")
    store.check_parameters(path, found, {}, "make book")
    words = r"mock\.h5 was made with seed=1, but seed=2 is asked for; .*: make book"
    with pytest.raises(ClusterToolsError, match=words):
        store.check_parameters(path, found, {"seed": 2}, "make book")
    with pytest.raises(ClusterToolsError, match="epochs='nothing', but epochs=20"):
        store.check_parameters(path, found, {"epochs": 20}, "make book")


def test_atomic_file_keeps_its_suffix_and_gets_common_permissions(tmp_path):
    path = tmp_path / "new" / "a.h5"
    old = os.umask(0o027)
    try:
        with store.atomic(path) as temporary:
            assert temporary.suffix == ".h5" and temporary.parent == path.parent and not path.exists()
            temporary.write_bytes(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["a.h5"]


def test_the_same_content_gives_the_same_bytes_at_any_time(tmp_path):
    """Else a chapter that writes its artefacts again would have all chapters run that read them."""
    for name in ("a.h5", "b.h5"):
        hdf5.write(tmp_path / name, "a form", {"key": "k"}, {"column": [1.0, 2.0]})
        time.sleep(1.1)  # HDF5 counts whole seconds
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_commit_outside_a_checkout_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert store.commit() == "unknown"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OSError(errno.ENOSPC, "No space left on device")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "a.txt"
    store.write_text(path, "old")
    refusal = pytest.raises(ClusterToolsError, match=r"a\.txt could not be written \(No space left on device\)")
    with pytest.raises(failure) if isinstance(failure, type) else refusal, store.atomic(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
