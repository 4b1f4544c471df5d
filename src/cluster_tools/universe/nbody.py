"""Make the library of neighbourhoods: an N-body run for each simulation, and the surroundings of its clusters.

pysco-nbody, a particle-mesh code, moves 256^3 particles in 250 Mpc/h from z = 49 to the snapshot, in about five minutes
on one core. Around each of its clusters, `cut` keeps matter in units of R200c and V200c.
`make neighbourhoods` runs this module; pysco is needed for nothing else.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from cluster_tools import hdf5, paths, store
from cluster_tools.cosmology import RHO_CRITICAL, SIMULATIONS, Simulation, colossus_cosmology, efunc, v200c
from cluster_tools.errors import ClusterToolsError
from cluster_tools.universe import neighbourhoods
from cluster_tools.universe.neighbourhoods import INNER, OUTER, POSITION_STEP, VELOCITY_STEP
from cluster_tools.universe.snapshots import quick_tree, shortest

BOX = 250.0  # comoving Mpc/h
PARTICLES = 256  # along each axis, and cells of the mesh
SEEDS = {"uchuu": 4, "mdpl2": 1}  # independent runs
LOG_M_HOST = 14.0  # log10 Msun/h: R200c of lighter haloes is less than the mesh resolves
# Haloes of a mesh are too wide, so that R200c comes out too small. Abundances (Tinker et al. 2008) ask for 0.18 to 0.25
# dex more in mass.
WIDER = 1.15
APART = 3.0  # R200c of a heavier cluster, within which a halo has no neighbourhood of its own
KEPT = 1200  # particles of the neighbourhood of a cluster of 10^14.3 Msun/h; more of heavier ones
PEAK = 8.0  # density over the mean, of the cells where haloes are looked for
FORMAT = "cluster_tools nbody 1"


def simulate(sim: Simulation, path: Path, *, seed: int) -> None:
    """Run pysco and write the particles to `path`, whole or not at all.

    Datasets ``position`` [comoving Mpc/h] and ``velocity`` [km/s], float32 (n, 3). Raises `ClusterToolsError` if pysco
    is not installed.
    """
    try:
        import pysco
    except ImportError as error:
        raise ClusterToolsError("pysco-nbody is not installed; run it with: make neighbourhoods") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as scratch:
        spectrum = Path(scratch) / "spectrum.dat"
        k = np.geomspace(1e-4, 50, 2000)
        np.savetxt(spectrum, np.c_[k, colossus_cosmology(sim).matterPowerSpectrum(k, 0.0)])
        pysco.run({
            "theory": "newton", "nthreads": 1, "verbose": 1, "base": scratch,
            "H0": 100 * sim.hubble, "Om_m": sim.omega_m, "T_cmb": 2.7255, "N_eff": 3.046, "w0": -1.0, "wa": 0.0,
            "boxlen": BOX, "ncoarse": int(np.log2(PARTICLES)), "npart": PARTICLES**3, "mass_scheme": "TSC",
            "initial_conditions": "2LPT", "z_start": 49, "seed": seed, "power_spectrum_file": str(spectrum),
            "position_ICS": "center", "fixed_ICS": False, "paired_ICS": False, "dealiased_ICS": False,
            "z_out": f"[{sim.redshift}]", "output_snapshot_format": "HDF5", "save_power_spectrum": "z_out",
            "integrator": "leapfrog", "n_reorder": 50, "Courant_factor": 1.0, "max_aexp_stepping": 10,
            "linear_newton_solver": "multigrid", "gradient_stencil_order": 5, "Npre": 2, "Npost": 1, "epsrel": 1e-2,
        })  # fmt: skip
        (output,) = Path(scratch).glob("output_00001/*.h5")
        with h5py.File(output) as particles:
            position = np.mod(particles["position"][()], np.float32(1)) * np.float32(BOX)
            velocity = particles["velocity"][()] * np.float32(particles.attrs["unit_l"] / particles.attrs["unit_t"])
        hdf5.write(path, FORMAT, _parameters(sim, seed), {"position": position, "velocity": velocity})


def _parameters(sim: Simulation, seed: int) -> dict:
    return {"simulation": sim.name, "seed": seed, "box_size": BOX, "particles": PARTICLES**3, "redshift": sim.redshift}


def cut(sim: Simulation, position: np.ndarray, velocity: np.ndarray, rng) -> dict[str, np.ndarray]:
    """`neighbourhoods.COLUMNS` from positions and velocities (n, 3) of a run's particles [comoving Mpc/h, km/s]."""
    tree, peaks, number = _peaks(position)
    mass = RHO_CRITICAL * sim.omega_m * BOX**3 / len(position)  # Msun/h, of a particle
    e2 = efunc(sim.redshift, omega_m=sim.omega_m) ** 2
    hosts = []
    for centre in peaks[number * mass > 10 ** (LOG_M_HOST - 0.5)]:
        radius = _r200c(tree, position, centre, mass, RHO_CRITICAL * e2 / (1 + sim.redshift) ** 3)
        log_m = np.log10(800 / 3 * np.pi * RHO_CRITICAL * e2) + 3 * np.log10(max(radius, 1e-9) / (1 + sim.redshift))
        hosts.append((log_m + 3 * np.log10(WIDER), radius * WIDER, centre))
    columns, taken = {name: [] for name in neighbourhoods.COLUMNS}, []
    for log_m, radius, centre in sorted(hosts, key=lambda host: -host[0]):
        near_another = any(np.linalg.norm(shortest(centre - other, BOX)) < APART * r for r, other in taken)
        if log_m < LOG_M_HOST or near_another:
            continue
        taken.append((radius, centre))
        near = np.array(tree.query_ball_point(centre, OUTER * radius))
        speed = float(v200c(radius, sim.redshift, omega_m=sim.omega_m))
        own = velocity[tree.query_ball_point(centre, radius)].mean(axis=0, dtype=float)
        x = shortest(position[near] - centre, BOX) / radius
        r = np.linalg.norm(x, axis=1)
        inside = (r > INNER) & (r < OUTER)
        x, v = x[inside], ((velocity[near] - own) / speed)[inside]
        chosen = rng.permutation(len(x))[: int(KEPT * max(1.0, 10 ** (log_m - 14.3)))]
        row = [log_m], [len(x) * mass / 10**log_m], [len(chosen)], x[chosen] / POSITION_STEP, v[chosen] / VELOCITY_STEP
        for values, column in zip(row, columns.values()):
            column.append(values)
    for name in ("position", "velocity"):
        limits = np.iinfo(neighbourhoods.COLUMNS[name])
        columns[name] = [np.clip(np.rint(values), limits.min, limits.max) for values in columns[name]]
    return {name: np.concatenate(columns[name]).astype(kind) for name, kind in neighbourhoods.COLUMNS.items()}


def _peaks(position: np.ndarray):
    """Tree of the particles, centres of haloes (n, 3) [Mpc/h] and the number of particles within 1 Mpc/h of each."""
    from scipy import ndimage

    n = PARTICLES
    cell = np.minimum((position * (n / BOX)).astype(np.int64), n - 1) @ (n**2, n, 1)
    density = np.bincount(cell, minlength=n**3).reshape(n, n, n).astype(np.float32)
    density = ndimage.gaussian_filter(density, 0.7, mode="wrap")
    top = (density == ndimage.maximum_filter(density, 3, mode="wrap")) & (density > PEAK * len(position) / n**3)
    centre = (np.argwhere(top) + 0.5) * (BOX / n)
    tree = quick_tree(position, BOX)
    for _ in range(3):
        for i, inside in enumerate(tree.query_ball_point(centre, 1.0)):
            if inside:
                centre[i] = np.mod(centre[i] + shortest(position[inside] - centre[i], BOX).mean(axis=0), BOX)
    number = tree.query_ball_point(centre, 1.0, return_length=True)
    order = np.argsort(-number)
    centre, number = centre[order], number[order]
    first = [min(pair) == i for i, pair in enumerate(quick_tree(centre, BOX).query_ball_point(centre, 0.5))]
    return tree, centre[first], number[first]


def _r200c(tree, position, centre, mass: float, critical: float) -> float:
    """Comoving radius [Mpc/h] inside which the mean density is 200 times `critical`; 0 where it is nowhere so high."""
    near = position[tree.query_ball_point(centre, 3.5)]
    r = np.sort(np.linalg.norm(shortest(near - centre, BOX), axis=1))[20:]
    above = np.flatnonzero((np.arange(len(r)) + 21) * mass > 800 / 3 * np.pi * r**3 * critical)
    return float(r[above[-1]]) if len(above) else 0.0


def main(runs: Path) -> int:
    """Make both libraries, and return the exit code; a run with its particles in the folder `runs` is not repeated."""
    try:
        digests = {}
        for name, seed in SEEDS.items():
            sim, path = SIMULATIONS[name], runs / f"{name}.h5"
            expected = _parameters(sim, seed)
            if not path.is_file():
                print(f"N-body run for {sim.title}, about five minutes", flush=True)
                simulate(sim, path, seed=seed)
            with hdf5.opened(path, FORMAT, "delete it and run the same command again") as file:
                position, velocity = file["position"][()], file["velocity"][()]
                parameters = hdf5.provenance(file)
            store.check_parameters(path, parameters, expected, f"rm {paths.shown(path)}; make neighbourhoods")
            columns = cut(sim, position, velocity, np.random.default_rng(seed))
            digests[name] = neighbourhoods.write(sim, columns, parameters)
            print(f"{sim.title}: {len(columns['log_m200c'])} clusters", flush=True)
        # In a module, so that the stamps of boxes depend on the libraries.
        text = '"""Digests of the libraries of neighbourhoods, written by `make neighbourhoods`."""\n\n'
        text += f"DIGESTS = {json.dumps(digests, sort_keys=True)}\n"
        store.write_text(paths.PACKAGE / "universe" / "neighbourhood_digests.py", text)
    except ClusterToolsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(paths.project_root() / "_build" / "nbody"))
