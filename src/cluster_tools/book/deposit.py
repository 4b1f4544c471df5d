"""The book for machines: executed chapters, figures, their numbers and all tables, with a manifest, for an archive.

The manifest is a data package (https://specs.frictionlessdata.io): names, digests, columns with units, licence.
"""

import csv
import hashlib
import mimetypes
import re
import shutil
from pathlib import Path

import yaml

from cluster_tools import paths, store

MANIFEST = "datapackage.json"
# Units of columns of tables, by their names without ``_error``; those of figures have them in brackets.
UNITS = {
    r"coma_mean|mean|log(10)?_m200c\w*|truth": "log10 Msun/h",
    r"x?val_\w+|sqrt_var\w*|(coma_|own_)?sigma|half_width\w*|median|lo|hi": "dex",
    r"coma_spread|shift|bias|change|scatter": "dex",
    r"inside\w*|coverage|share|fraction": "1",
    r"clusters|failed|networks|galaxies|test_rows|rows|draws|folds": "count",
}
SOURCES = [
    {"title": "DESI redshifts and Legacy Surveys photometry of Coma, CC BY 4.0; see src/cluster_tools/data/README.md"},
    {"title": "Ho et al. (2022), Nature Astronomy 6, 936", "path": "https://doi.org/10.1038/s41550-022-01711-1"},
]


def write(source: Path, target: Path, commit: str) -> None:
    """Replace the directory `target` by all files of a site that are no pages, with a manifest.

    `source` is the directory that `publish.stage` filled, `commit` that of the checkout that made the book.
    """
    root, new = paths.project_root(), target.with_name(f".{target.name}-new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source / "data", new / "data")
    shutil.copytree(source / "figures", new / "figures")
    for name in ("CITATION.cff", "LICENSE"):
        shutil.copyfile(root / name, new / name)
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    files = sorted(path for path in new.rglob("*") if path.is_file())
    store.write_json(new / MANIFEST, {
        "profile": "data-package", "name": "coma-mass-book", "title": citation["title"],
        "version": citation["version"], "commit": commit,
        "licenses": [{"name": citation["license"], "path": "LICENSE"}], "sources": SOURCES,
        "resources": [resource(path, new) for path in files],
    })  # fmt: skip
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)


def resource(path: Path, root: Path) -> dict:
    """Return the manifest's entry of a file; that of a table lists its columns and their units."""
    content = path.read_bytes()
    entry = {
        "name": re.sub(r"[^a-z0-9._-]+", "-", path.name.lower()), "path": path.relative_to(root).as_posix(),
        "mediatype": mimetypes.guess_type(path.name)[0] or "text/plain", "bytes": len(content),
        "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
    }  # fmt: skip
    if path.suffix == ".csv":
        header = next(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        entry["schema"] = {"fields": [column(name) for name in header]}
    return entry


def column(name: str) -> dict[str, str]:
    """Return name and unit of a column."""
    plain = re.sub(r"_(error|lower|upper)$", "", name)
    units = re.findall(r"\[(.+)\]$", name)
    units += [unit for pattern, unit in UNITS.items() if re.fullmatch(pattern, plain)]
    return {"name": name} | ({"unit": units[0]} if units else {})
