"""HDF5 files of this package: written whole, under checksums, and refused by name when damaged or foreign."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from cluster_tools import paths, store
from cluster_tools.errors import ClusterToolsError, raised_by, signal_handlers

# All that h5py raises for bytes that are not what they should be; SystemError where one error hides another.
DAMAGE = (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, OverflowError, SystemError)
EXPANSION, ROOM = 1100, 10_000_000  # no compression of HDF5 makes less than a thousandth of its data


class _Disk(io.FileIO):
    """A file that keeps its first failure to itself: HDF5 can crash on a full disk when it is told of it."""

    failure: OSError | None = None

    def write(self, content) -> int:
        left = memoryview(content)
        while len(left) and self.failure is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.failure = error
        return len(content)

    def truncate(self, size=None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return self.tell() if size is None else size


@contextmanager
def create(path: Path | str, form: str, provenance: dict) -> Iterator:
    """A new file, moved to `path` when the block ends; `form` names its layout and version.

    Create each dataset with ``**CHECKED``. Checksums then cover the whole file, if strings have a fixed length:
    Fletcher's the data, those of format 1.10 the rest. Without them, a single wrong byte can crash HDF5. Equal content
    gives equal bytes. `provenance` is a stamp of `store.stamp`. A full disk raises `ClusterToolsError`.
    """
    with store.atomic(path) as temporary, _Disk(temporary, "w+") as disk:
        try:
            with h5py.File(_untimed(disk)) as file:
                file.attrs["format"] = np.bytes_(form)
                set_provenance(file, provenance)
                yield file
        finally:
            if disk.failure is not None:
                raise disk.failure


def _untimed(disk: _Disk) -> h5py.h5f.FileID:
    """A new file on `disk` of format 1.10, which does not say when it was written."""
    creation, access = map(h5py.h5p.create, (h5py.h5p.FILE_CREATE, h5py.h5p.FILE_ACCESS))
    creation.set_obj_track_times(False)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, disk)
    return h5py.h5f.create(b"disk", h5py.h5f.ACC_TRUNC, creation, access)


CHECKED = {"fletcher32": True, "chunks": True}


def write(path: Path | str, form: str, provenance: dict, columns: Mapping[str, np.ndarray], **options) -> None:
    """Write the arrays `columns`, by name, to a file of `create`; h5py's `options` are for each dataset."""
    with create(path, form, provenance) as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, **CHECKED, **options)


@contextmanager
def opened(path: Path | str, form: str, remedy: str) -> Iterator:
    """Open the file at `path` to read; `ClusterToolsError` with `remedy` if it is missing, damaged or not of `form`.

    Errors that a signal handler raises meanwhile pass unchanged.
    """
    shown = paths.shown(path)
    if not Path(path).is_file():
        raise ClusterToolsError(f"{shown} is missing; {remedy}.")
    handlers = signal_handlers()
    try:
        with h5py.File(path, "r") as file:
            refuse_references(file)
            if file.attrs.get("format") != form.encode():
                raise ClusterToolsError(f"{shown} is not a '{form}' file; {remedy}.")
            yield file
    except DAMAGE as error:
        if foreign := raised_by(handlers, error):
            raise foreign from None
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ClusterToolsError(f"{shown} is damaged or cut short ({reason}); {remedy}.") from None


def refuse_references(file) -> None:
    """Raise `ValueError` if an open file has external links, or data that are in other files, or in none.

    h5py would open whatever file they name, and make up as many values as are claimed.
    """

    def outside(name: str, link) -> str | None:  # the first text ends the visit
        if isinstance(link, h5py.ExternalLink):
            return f"{name} is a link to another file, which is not opened"
        item = file.get(name) if isinstance(link, h5py.HardLink) else None
        if not isinstance(item, h5py.Dataset):
            return None
        if item.is_virtual or item.external:
            return f"the values of {name} are in another file, which is not opened"
        if item.nbytes > EXPANSION * (held := item.id.get_storage_size()) + ROOM:
            return f"{name} claims {item.nbytes} bytes, but has {held}"
        return None

    if reason := file.visititems_links(outside):
        raise ValueError(reason)


def set_provenance(file, provenance: dict) -> None:
    """Put the stamp of `store.stamp` into a file that is being written."""
    file.attrs["provenance"] = np.bytes_(json.dumps(provenance))


def provenance(file) -> dict:
    """The stamp of `store.stamp` that the file carries."""
    return json.loads(file.attrs["provenance"])
