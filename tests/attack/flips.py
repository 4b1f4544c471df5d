"""Bytes flipped in every kind of file that the project writes and reads again: noticed, or without effect."""

import os
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import small_cluster
import small_networks
import tiny_book
from gaussian_predictions import gaussian
from small_catalog import catalog, read_box, write_box

from cluster_tools import store
from cluster_tools.book import artefacts, chapters, publish
from cluster_tools.errors import ClusterToolsError
from cluster_tools.inference import validation
from cluster_tools.mocks.catalogs import MockCatalog
from cluster_tools.networks.ensembles import CNNEnsemble
from cluster_tools.weighing import galaxy_table, many_clusters


def mock_catalogue(folder: Path):
    rng = np.random.default_rng(1)
    clusters = [(rng.normal(0, 900, 40), rng.uniform(0, 2.3, 40)) for _ in range(60)]
    catalog(clusters, np.full(60, 14.5)).write(folder / "catalogue.h5")
    return lambda: vars(MockCatalog.read(folder / "catalogue.h5"))


def snapshot(folder: Path):
    write_box(folder / "box.h5")
    return lambda: read_box(folder / "box.h5")


def networks(folder: Path):
    small_networks.ensemble(small_networks.network(input_dim=1), small_networks.network(seed=1, fold=1)).save(folder)

    def read():
        loaded = CNNEnsemble.load(folder)
        return [loaded.log_m200c_range, loaded.provenance, [vars(network) for network in loaded.networks]]

    return read


def stored_predictions(folder: Path):
    gaussian(201).write(folder / "predictions.h5")
    return lambda: vars(validation.Predictions.read(folder / "predictions.h5"))


def table(folder: Path):
    rows = pd.DataFrame({"model": ["a", "b"], "value": [0.125, 14.9]})
    artefacts.write_table("smoke", "first", "table.csv", rows, {})
    return lambda: artefacts.load_table("smoke", "table.csv", "01_first").to_csv()


def unless(content):
    """The content, unless there is none: then what it belongs to is made again."""
    if content is None:
        raise ClusterToolsError("made again")
    return content


def chapter(folder: Path):
    """Executed notebook, artefact, figure and record: a changed one has the chapter run again."""
    run = chapters.find_run("smoke", "01_first")
    for path in (chapters.executed_path(run), *(run.results / name for name in run.writes)):
        store.write_text(path, f"content of {path.name}\n" * 20)
    record = {"seconds": 3.2, "versions": {"numpy": "2"}, "digests": chapters.digests(run)}
    store.write_digested(chapters.record_path(run), record)
    return lambda: unless(
        None if chapters.remove_damaged([run]) else [chapters.read_record(run), chapters.digests(run)]
    )


def site(folder: Path):
    """Pages and what they show: a changed file has the site built again."""
    for name in ("index.html", "_images/figure3.svg", "_static/tex-svg.js"):
        store.write_text(folder / "site" / name, f"content of {name}\n" * 20)
    manifest = folder / "site" / publish.MANIFEST
    store.write_digested(manifest, whole := publish.digests(manifest.parent))
    return lambda: unless(whole if store.read_digested(manifest) == publish.digests(manifest.parent) else None)


def summary(folder: Path):
    """``run.json`` and ``results/measured.json``."""
    store.write_digested(folder / "run.json", {"profile": "smoke", "chapters": {"01": {"seconds": 3.5}}})
    return lambda: unless(store.read_digested(folder / "run.json"))


def partial_results(folder: Path):
    """What an interrupted batch goes on from."""
    clusters = pd.concat([pd.DataFrame(small_cluster.table(n=20, seed=n)).assign(group=f"A{n}") for n in range(3)])
    clusters.to_csv(folder / "groups.csv", index=False)
    galaxies = galaxy_table.read(folder / "groups.csv", cluster_column="group")
    (folder / "groups.csv").unlink()
    return lambda: many_clusters.weigh_many(
        galaxies, min_log_mstar=None, draws=1, cores=1, partial=folder / "masses.partial"
    )


KINDS = (mock_catalogue, snapshot, networks, stored_predictions, table, chapter, site, summary, partial_results)


def plain(value):
    """A value of arrays and mappings as text that can be compared."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return store.digest(np.ascontiguousarray(value).tobytes()) if isinstance(value, np.ndarray) else repr(value)


def flip_bytes(count: int, directory: Path, seed: int = 0) -> dict:
    """Flip one byte at a time, as many in each kind, and read."""
    tiny_book.project(directory)
    rng, outcomes = np.random.default_rng(seed), {"noticed": 0, "without effect": 0, "wrong": 0}
    with mock.patch.dict(os.environ, CLUSTER_TOOLS_ROOT=str(directory)):
        for kind in KINDS:
            folder = directory / ("results" if kind in (table, chapter) else kind.__name__)
            folder.mkdir(exist_ok=True)
            read = kind(folder)
            expected = plain(read())
            whole = {path: text for path in sorted(folder.rglob("*")) if path.is_file() and (text := path.read_bytes())}
            for _ in range(-(-count // len(KINDS))):
                path = list(whole)[rng.integers(len(whole))]
                content = bytearray(whole[path])
                content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
                path.write_bytes(content)
                try:
                    outcome = "without effect" if plain(read()) == expected else "wrong"
                except ClusterToolsError:
                    outcome = "noticed"
                except Exception as error:  # a traceback for the user
                    outcome = "wrong"
                    print(f"{type(error).__name__}: {error}")
                if outcome == "wrong":
                    print(f"{kind.__name__}, {path.name}: a flipped byte was not noticed")
                outcomes[outcome] += 1
                for each, before in whole.items():
                    if not each.exists() or each.read_bytes() != before:
                        each.unlink(missing_ok=True)
                        each.write_bytes(before)
    return outcomes
