"""Weighing any cluster: centre and redshift, cuts, invariances, warnings, many clusters, the command."""

import dataclasses
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import damage
import numpy as np
import pytest
import small_cluster
import small_networks
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack

from cluster_tools import cli, paths, sky
from cluster_tools.coma import survey
from cluster_tools.cosmology import COMA_REDSHIFT, SPEED_OF_LIGHT
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import kde
from cluster_tools.networks import ensembles
from cluster_tools.weighing import cylinders, galaxy_table, many_clusters, one_cluster, output, selection
from cluster_tools.weighing.reference_statistics import ESTIMATORS, ReferenceStatistics

COMA, NETWORKS = paths.PACKAGE_DATA / "desi_coma.csv", paths.PACKAGE_DATA / ensembles.SHIPPED
COMAS_PLACE = ("--centre", 194.95, 27.98, "--redshift", 0.0231)
PLACE = {"centre": small_cluster.CENTRE, "redshift": small_cluster.REDSHIFT}


@pytest.fixture(scope="module")
def model():
    return one_cluster.WeighingModel.load(NETWORKS)


def select(table, **options):
    return selection.select_galaxies(galaxy_table.read(table), name="it", **({"min_log_mstar": None} | options))


def weigh(table, model, **options):
    return one_cluster.weigh(table, model=model, **({"draws": 5, "classical": True} | PLACE | options))


# Centre and redshift


def apart(observation, centre, z):
    """Distance [comoving Mpc/h] of the centre that was found from another one."""
    found = observation.centre_ra, observation.centre_dec
    return sky.phase_space(*found, z, centre_ra=centre[0], centre_dec=centre[1], redshift=z)[1]


def test_coma_is_found():
    # Abell's centre, 194.95 +27.98; the X-ray peak is at 194.95 +27.94 (Neumann et al. 2003). z = 0.0231 (Struble &
    # Rood 1999), with 1000 km/s / sqrt(500) = 45 km/s or 0.00015 of chance.
    observation = selection.select_galaxies(galaxy_table.read(COMA), name="Coma")
    assert apart(observation, (survey.CENTRE_RA, survey.CENTRE_DEC), COMA_REDSHIFT) < 0.15
    assert abs(observation.redshift - COMA_REDSHIFT) < 0.0003
    assert "brightest" in observation.centre_is and "biweight" in observation.redshift_is
    assert observation.n_table == 1118 and 530 < len(observation.v_los) < 550


def test_given_centre_and_redshift_make_the_sample_of_coma():
    observation = selection.select_galaxies(galaxy_table.read(COMA), name="Coma", **PLACE)
    for name, expected in survey.load_sample("desi")["v_los", "r_proj"].items():
        np.testing.assert_allclose(np.sort(getattr(observation, name)), np.sort(expected.value))


@pytest.mark.parametrize("centre", [(0.01, -5.0), (120.0, 85.0), (359.9, 0.0)])
def test_centre_and_redshift_are_found_anywhere_on_the_sky(centre):
    table = small_cluster.table(15.0, 400, centre=centre, redshift=0.05)
    observation = select(table | {"log_mstar": np.full(400, np.nan)})
    assert apart(observation, centre, 0.05) < 0.3
    assert abs(observation.redshift - 0.05) * SPEED_OF_LIGHT < 250


def test_stars_and_a_second_cluster_do_not_move_the_redshift():
    main, behind = small_cluster.table(15.0, 300), small_cluster.table(14.5, 100, redshift=0.08, seed=3)
    stars = main | {"dec": main["dec"] + 0.001, "z": np.random.default_rng(1).normal(0, 2e-4, 300)}
    field = {name: np.concatenate([main[name], behind[name], stars[name]]) for name in main}
    assert abs(select(field).redshift - small_cluster.REDSHIFT) < 0.001


def test_the_brightest_galaxy_near_the_densest_place_is_the_centre():
    table = small_cluster.table(15.0, 300)
    del table["log_mstar"]
    table |= {"mag_r": np.full(300, 16.0), "mag_g": np.full(300, 16.8)}
    near = np.argsort(np.hypot(table["ra"] - small_cluster.CENTRE[0], table["dec"] - small_cluster.CENTRE[1]))[3]
    table["mag_r"][near], table["z"][near] = 12.0, small_cluster.REDSHIFT
    table["mag_r"][np.argmax(table["dec"])] = 11.0  # brighter, but far out
    observation = select(table)
    assert (observation.centre_ra, observation.centre_dec) == (table["ra"][near], table["dec"][near])


# Cuts


def test_every_row_is_used_or_counted_once():
    table = Table(small_cluster.table(n=200))
    table["log_mstar"][:20] = np.nan
    table["dec"][20:25] += 5
    table["z"][25:30] += 0.05
    table["ra"][30] = np.inf
    observation = select(table, min_log_mstar=9.5, **PLACE)
    reasons = (selection.BEYOND_APERTURE, selection.BEYOND_WINDOW, selection.NO_MASS, galaxy_table.POSITION)
    assert [observation.rejected[reason] for reason in reasons] == [5, 5, 20, 1] and observation.n_table == 200


def test_galaxies_on_the_edge_are_cut_as_in_the_mocks():
    v_los = np.r_[np.linspace(-500, 500, 12), 3784.9, -3785.1, 0, 0]
    r_proj = np.r_[np.linspace(0.1, 1, 12), 1, 1.1, 2.2999, 2.3001]
    observation = select(on_sky(v_los, r_proj, 0.03), centre=(10, 0), redshift=0.03)
    assert len(observation.v_los) == 14
    np.testing.assert_allclose([observation.v_los.max(), observation.r_proj.max()], [3784.9, 2.2999], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"centre": (10.0, 10.0)}, "No galaxy near the centre"),
        ({"centre": (10.0, 10.0), "redshift": 0.0231}, "has 0 galaxies to weigh"),
        ({"centre": (1, 2, 3)}, "centre is"),
        ({"centre": (np.nan, 0)}, "centre is"),
        ({"redshift": 6900}, "redshift is 6900"),
        ({"redshift": 0.0}, "redshift is 0.0"),
        ({"redshift": "a"}, "redshift is 'a'"),
        ({"redshift": 0.2}, "No galaxy lies within 2000 km/s"),
        ({"min_log_mstar": "a"}, "min_log_mstar='a'"),
        ({"min_log_mstar": 11.6}, "below 10"),
    ],
)
def test_what_cannot_be_weighed_is_refused_in_a_sentence(options, words):
    with pytest.raises(ClusterToolsError, match=words) as refusal:
        select(small_cluster.table(), **options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("centre", [
    ("12:59:48", "+27:58:48"), ("12h59m48s", "27d58m48s"), ["194.95", "27.98"], "[194.95, 27.98]", "194.95 27.98",
    "12:59:48 +27:58:48", "12 59 48 +27 58 48", "('12:59:48', '27:58:48')",
    SkyCoord(194.95, 27.98, unit="deg"), (194.95 * u.deg, 1678.8 * u.arcmin),
])  # fmt: skip
def test_centres_are_numbers_angles_or_text(centre):
    assert selection.checked_centre(centre) == pytest.approx((194.95, 27.98), abs=1e-9)


def test_two_clusters_in_one_line_of_sight_are_both_named():
    one, other = small_cluster.table(14.6, 60), small_cluster.table(14.6, 45, redshift=0.063, seed=2)
    both = {name: np.concatenate([one[name], other[name]]) for name in one}
    [note] = select(both, centre=small_cluster.CENTRE).notes
    assert "two clusters in the line of sight: z = 0.06" in note and "z = 0.02" in note and "give the redshift" in note
    assert select(both, **PLACE).notes == () and select(one).notes == ()


# Invariances


def test_image_does_not_know_order_rotation_or_place():
    """Nor do classical estimates know order and sign of v_los: tests/test_properties.py."""
    v_los, r_proj = small_cluster.phase_space(14.8, 150, 1)
    expected = kde.phase_space_images(v_los, r_proj, [0, 150])[0]
    for seed, centre in ((1, small_cluster.CENTRE), (3, (10.0, -60.0))):
        ra, dec, z = sky.positions(v_los, r_proj, centre_ra=centre[0], centre_dec=centre[1], redshift=0.0231, seed=seed)
        observation = select({"ra": ra[::-1], "dec": dec[::-1], "z": z[::-1]}, centre=centre, redshift=0.0231)
        np.testing.assert_allclose(observation.image(), expected, atol=1e-7)


# The mass and what is beside it


def test_heavier_clusters_weigh_more_and_r200c_fits_the_mass(model):
    found = [weigh(small_cluster.table(m, 300, seed=2), model, draws=20) for m in (14.0, 15.0)]
    assert found[1].mean - found[0].mean > 0.5
    for each in found:
        lo, median, hi = each.quantiles
        assert lo < median < hi and each.abundance[1] < median + 0.02
        # 200 times the critical density, 2.7754e11 E^2 with E^2 = 0.3 (1.0231)^3 + 0.7, in the physical sphere.
        volume = 4 / 3 * np.pi * (each.r200c[1] / 1.0231) ** 3
        assert 10**median / volume == pytest.approx(200 * 2.7754e11 * (0.3 * 1.0231**3 + 0.7), rel=1e-3)
        assert len(each.samples) == 40 and {e.name for e in each.estimates} == set(ESTIMATORS)


def test_usual_clusters_are_not_warned_of_and_odd_ones_are(model):
    usual = weigh(small_cluster.table(14.6, 200), model)
    assert usual.warnings == () and usual.farther_image > 0.01
    rng = np.random.default_rng(1)
    v_los, r_proj = rng.choice([-3000.0, 3000.0], 300) + rng.normal(0, 50, 300), rng.normal(2.0, 0.05, 300)
    odd = weigh(on_sky(v_los, r_proj), model, centre=(10, 0))
    assert any("unusual as an image: 0.0%" in words for words in odd.warnings)


def on_sky(v_los, r_proj, z=small_cluster.REDSHIFT):
    """A table of galaxies about (10, 0) deg, all of them massive."""
    ra, dec, z = sky.positions(v_los, r_proj, centre_ra=10, centre_dec=0, redshift=z)
    return {"ra": ra, "dec": dec, "z": z, "log_mstar": np.full(len(z), 10.5)}


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"redshift": 0.15}, "its redshift, 0.1500, is outside 0.013 to 0.1"),
        ({}, {"min_log_mstar": None}, "no cut in stellar mass was made"),
        ({}, {"min_log_mstar": 10.0}, "the cut in stellar mass is 10^10 Msun"),
        ({"r_proj": 0.5}, {}, "no galaxy is beyond 1.84 Mpc/h: the table may not reach"),
        ({"v_los": 0.5}, {}, "no galaxy is faster than 3028 km/s: interlopers"),
    ],
)
def test_what_is_unlike_training_is_warned_of(model, change, options, words):
    v_los, r_proj = small_cluster.phase_space(14.6, 300, 1)
    z = options.get("redshift", small_cluster.REDSHIFT)
    table = on_sky(v_los * change.get("v_los", 1), r_proj * change.get("r_proj", 1), z)
    found = weigh(table, model, centre=(10, 0), **options)
    assert any(words in each for each in found.warnings), found.warnings


def test_networks_without_reference_statistics_weigh_and_say_so(model):
    found = weigh(small_cluster.table(), one_cluster.WeighingModel(model.ensemble, None))
    assert np.isnan(found.farther_image) and "come without reference statistics" in found.warnings[-1]
    assert all(np.isnan(each.calibrated) for each in found.estimates)
    assert json.loads(json.dumps(output.record(found), allow_nan=False))["farther_image"] is None


def test_reference_statistics_of_other_networks_are_refused(model, tmp_path):
    model.statistics.write(tmp_path / "a.h5", "another")
    with pytest.raises(ClusterToolsError, match="made with networks='another'"):
        ReferenceStatistics.read(tmp_path / "a.h5", model.ensemble.provenance["key"])


@pytest.mark.parametrize(
    ("kind", "words"),
    [({"input_dim": 1}, "1D images"), ({"input_dim": 2, "reweighted": True}, "2D images, re-weighted to Coma")],
)
def test_networks_that_weigh_no_other_cluster_are_refused(kind, words, tmp_path):
    networks = small_networks.ensemble(small_networks.network(input_dim=kind["input_dim"]))
    networks.provenance["parameters"] |= kind
    networks.save(tmp_path / "a")
    with pytest.raises(ClusterToolsError, match=f"a holds networks of {words}, but plain ones of 2D images"):
        one_cluster.WeighingModel.load(tmp_path / "a")


# The command


def command(*words):
    return cli.main(["weigh", "--networks", str(NETWORKS), "--draws", "3", "--classical", *map(str, words)])


def test_the_command_prints_json_and_writes_table_and_figure(tmp_path, capsys):
    output, figure, name = tmp_path / "a.ecsv", tmp_path / "a.png", r"$\frac A_1"  # no formula
    assert command(COMA, *COMAS_PLACE, "--json", "--output", output, "--figure", figure, "--name", name) == 0
    printed = json.loads(capsys.readouterr().out)
    [found] = printed["clusters"]
    assert found["cluster"] == name and found["n_used"] == 541 and len(found["samples"]) == 6
    assert found["rejected"]["below 10^9.5 Msun in stars"] == 437
    table = Table.read(output)
    assert table["log_m200c"][0] == pytest.approx(found["log_m200c"]) and table["r200c"].unit == "Mpc / littleh"
    assert table["samples"].shape == (1, 6) and str(table["log_m200c"].unit) == "dex(solMass / littleh)"
    provenance = table.meta["provenance"]
    assert provenance["table"] == "desi_coma.csv" and {"numpy", "tensorflow"} <= set(provenance["versions"])
    assert figure.stat().st_size > 10_000 and sorted(p.name for p in tmp_path.iterdir()) == ["a.ecsv", "a.png"]


def test_the_command_prints_text_to_read(capsys):
    assert command(COMA, *COMAS_PLACE, "--name", "A1656") == 0
    out = capsys.readouterr().out
    assert out.startswith("A1656\n") and "541 of 1118 used (137 beyond 2.3 Mpc/h" in out
    assert all(words in out for words in ("log10 M200c", "R200c", "caustic", "how usual", "194.9500 +27.9800 deg"))


@pytest.mark.parametrize("dec", ["-22.", "-2.2e1", "-22:00:00", "-22d"])
def test_southern_centres_are_no_options(tmp_path, dec, capsys):
    Table(small_cluster.table(centre=(150.3, -22.0))).write(tmp_path / "a.csv")
    code = command(tmp_path / "a.csv", "--centre", "150.3", dec)
    assert code == (2 if dec == "-22d" else 0), capsys.readouterr().err
    assert "-22.0000 deg, given" in capsys.readouterr().out or code == 2


@pytest.mark.parametrize(("encoding", "form"), [("ascii", "--seed=1"), ("cp1252", "--json")])
def test_terminals_of_any_encoding_can_show_a_mass(tmp_path, monkeypatch, encoding, form):
    Table(small_cluster.table()).write(tmp_path / "ä.csv")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed := io.BytesIO(), encoding, write_through=True))
    assert command(tmp_path / "ä.csv", form, "--name=Å") == 0
    said = printed.getvalue()
    assert json.loads(said)["clusters"][0]["cluster"] == "Å" if form == "--json" else b"caustic" in said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nosuch.csv"], 1, "does not exist"),
        ([COMA, "--redshift", "far"], 2, "--redshift is 'far'"),
        ([COMA, "--centre", "a", "b"], 2, "centre is ['a', 'b']"),
        ([COMA, "--output", "a.txt"], 2, "ends in .ecsv"),
        ([COMA, "--draws", "0"], 2, "at least 1"),
        ([COMA, "--column", "z"], 2, "NAME=COLUMN"),
        ([COMA, "--column", "z=nosuch"], 1, "no column 'nosuch'"),
        ([COMA, "--cluster-column", "id", "--figure", "a.png"], 2, "are for one cluster"),
        ([COMA, "--cluster-column", "id"], 1, "no column 'id'"),
        ([COMA, "--clusters", COMA, "--redshift", "0.1"], 2, "--clusters has centres and redshifts"),
        ([COMA, "--draws", str(10**9)], 1, "draws is 1000000000, but a whole number from 1 to 10000"),
        ([COMA, "--networks", "nosuch"], 1, "ensemble.json is missing"),
    ],
)
def test_exit_codes_and_no_traceback(words, code, said, capsys):
    assert command(*words) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and said in err


# Many clusters


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Three clusters, and one of too few galaxies."""
    parts = []
    for name, n, place in (("A1", 80, (10.0, 5.0)), ("A2", 60, (200.0, -30.0)), ("few", 5, (50.0, 0.0)),
                           ("B <b>", 70, (300.0, 60.0))):  # fmt: skip
        table = Table(small_cluster.table(14.6, n, centre=place))
        table["group"], table["cra"], table["cdec"], table["cz"] = name, place[0], place[1], small_cluster.REDSHIFT
        parts.append(table)
    path = tmp_path_factory.mktemp("groups") / "groups.ecsv"
    rows = vstack(parts)
    rows[np.random.default_rng(1).permutation(len(rows))].write(path)
    return path


OPTIONS = ("--cluster-column", "group", "--min-log-mstar", "none", "--column", "z=z")


def test_many_clusters_one_bad_one_listed_at_the_end(groups, tmp_path, capsys):
    assert command(groups, *OPTIONS, "--output", tmp_path / "masses.ecsv", "--cores", 2) == 3
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("not weighed: few: 'few' has ")
    assert "[4/4]" in err and " left" in err and "B <b>" in out
    table = Table.read(tmp_path / "masses.ecsv")
    assert list(table["cluster"]) == ["A1", "A2", "B <b>"] and list(table.meta["failed"]) == ["few"]
    assert [path.name for path in tmp_path.iterdir()] == ["masses.ecsv"]


def weigh_groups(groups, *, places=None, **options):
    galaxies = galaxy_table.read(groups, columns={"z": "z"}, cluster_column="group", **places or {})
    return many_clusters.weigh_many(galaxies, min_log_mstar=None, draws=3, directory=NETWORKS, **options)


@pytest.mark.parametrize("error", [-3, float("nan"), "fast"])
def test_an_error_of_velocities_is_checked_for_many_clusters_as_for_one(groups, error):
    with pytest.raises(ClusterToolsError, match=f"velocity_error is {error!r}, but a number in km/s"):
        weigh_groups(groups, velocity_error=error)


@pytest.mark.parametrize(
    "wrong", [*({name: True} for name in ("redshift", "velocity_error", "min_log_mstar", "draws")), {"draws": 10**9}]
)
def test_truth_values_and_endless_draws_are_no_numbers(wrong):
    (name,) = wrong
    with pytest.raises(ClusterToolsError, match=name):
        one_cluster.weigh(small_cluster.table(), **wrong)


@pytest.mark.parametrize("cores", [0, -1, 2.5])
def test_a_number_of_cores_is_checked(groups, cores):
    with pytest.raises(ClusterToolsError, match=f"cores is {cores}"):
        weigh_groups(groups, cores=cores)


def test_an_interrupted_run_goes_on_and_ends_as_an_unbroken_one(groups, tmp_path):
    partial, told = tmp_path / "a.partial", []

    def stop(done, *_):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weigh_groups(groups, partial=partial, progress=stop)
    with open(partial, "ab") as file:
        file.write(b'["B <b>", {"half')  # as of a process killed while it wrote
    found = weigh_groups(groups, partial=partial, progress=lambda *each: told.append(each[:2]))
    assert told == [(3, 4), (4, 4)]
    assert found == weigh_groups(groups)
    assert found == weigh_groups(groups, partial=partial)  # all there


def test_a_killed_command_leaves_no_process_and_results_that_the_next_one_takes_up(groups, tmp_path):
    output = tmp_path / "masses.ecsv"
    words = [sys.executable, "-m", "cluster_tools.cli", "weigh", str(groups), *OPTIONS, "--draws", "3", "--cores", "1",
             "--networks", str(NETWORKS), "--output", str(output)]  # fmt: skip
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        first = process.stderr.readline()
        os.kill(process.pid, signal.SIGKILL)  # and none of its children
    assert first.startswith("[1/4]") and not output.exists()
    with pytest.raises(ProcessLookupError):
        for _ in range(600):  # they end at once, but for a busy machine
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    kept = Path(f"{output}.partial").read_bytes().count(b"\n") - 1  # all four, if this process was late to kill
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 3 and kept >= 1
    assert [f"[{number}/4]" in done.stderr for number in range(1, 5)] == [number > kept for number in range(1, 5)]
    assert list(Table.read(output)["cluster"]) == ["A1", "A2", "B <b>"]


def test_whatever_happens_to_one_cluster_the_others_are_weighed(tmp_path, monkeypatch):
    good = cylinders.by_name(galaxy_table.read(small_cluster.table() | {"id": ["A"] * 150}, cluster_column="id"))["A"]()
    killed, huge, odd = (damage.Galaxies(*deed) for deed in ((damage.die,), (damage.ask_for, 10**15), (dict,)))
    clusters = {"A": good, "killed": killed, "B": good, "huge": huge, "odd": odd, "C": good}
    script = ModuleType("__main__")  # of a user who calls from its top: no process may run it again
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text("raise SystemExit('run again')")
    monkeypatch.setitem(sys.modules, "__main__", script)
    weigh = partial(many_clusters._weigh, ("paper", NETWORKS), None, {"draws": 3, "seed": 1}, {"samples": False})
    results = dict(many_clusters._results(weigh, iter(clusters.items()), 2))
    assert set(results) == set(clusters)
    assert results["A"] | {"cluster": ""} == results["B"] | {"cluster": ""} == results["C"] | {"cluster": ""}
    assert "was killed" in results["killed"] and "MemoryError" in results["huge"] and "Error" in results["odd"]
    with pytest.raises(ClusterToolsError, match="are killed, most often for want of memory"):
        dict(many_clusters._results(weigh, ((str(number), killed) for number in range(20)), 1))


def test_bookkeeping_of_many_clusters_is_linear_and_short(model, tmp_path, monkeypatch):
    """Results of 1,000 clusters, kept and read again; only the weighing is left out."""
    record = output.record(weigh(small_cluster.table(), model), samples=False)
    n = 1000
    table = {"ra": np.arange(n) % 360, "dec": np.arange(n) // 360, "z": np.full(n, 0.03), "id": np.arange(n)}
    galaxies, waiting = galaxy_table.read(table, cluster_column="id"), []

    def results(_, clusters, *__):
        for name, cluster in clusters:
            waiting.append(len(cluster.table()))
            yield name, record | {"cluster": name, "log_m200c": float(np.random.default_rng(len(waiting)).random())}
            if len(waiting) == n // 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(many_clusters, "_results", results)
    with pytest.raises(KeyboardInterrupt):
        many_clusters.weigh_many(galaxies, partial=tmp_path / "a.partial")
    records, failed = many_clusters.weigh_many(galaxies, partial=tmp_path / "a.partial")
    assert not failed and waiting == [1] * n
    assert [each["cluster"] for each in records] == sorted(map(str, range(n)))
    assert (tmp_path / "a.partial").stat().st_size < 1000 * n
    assert output.table(records, {})["log_m200c"].shape == (n,)


def test_galaxies_about_centres_are_those_of_each_cluster(groups, tmp_path, capsys):
    every = Table.read(groups)
    centres = Table(rows=[("A1", 10.0, 5.0, 0.0231), ("A2", 200.0, -30.0, 0.0231), ("B", 300.0, 60.0, 0.0231),
                          ("empty", 90.0, 0.0, 0.03), ("far", 10.0, 5.0, np.nan)],
                    names=("Name", "RAdeg", "DEdeg", "zsp"))  # fmt: skip
    every["ra", "dec", "z"].write(tmp_path / "galaxies.fits")
    centres.write(tmp_path / "centres.fits")
    words = (tmp_path / "galaxies.fits", "--cores", 2, "--json", "--min-log-mstar", "none")
    assert command(*words, "--clusters", tmp_path / "centres.fits") == 3
    printed = json.loads(capsys.readouterr().out)
    found = {each["cluster"]: each for each in printed["clusters"]}
    assert "at least 11 are needed" in printed["failed"]["empty"] and "redshift is nan" in printed["failed"]["far"]
    assert "samples" not in found["A1"] and printed["provenance"]["clusters"] == "centres.fits"
    for name, ra, dec, z in centres[:3]:  # by itself, a cluster weighs the same
        assert command(*words, "--centre", ra, dec, "--redshift", z, "--name", name) == 0
        [alone] = json.loads(capsys.readouterr().out)["clusters"]
        assert found[name]["n_used"] == alone["n_used"] > 50
        assert found[name]["log_m200c"] == pytest.approx(alone["log_m200c"], abs=1e-6)


def test_a_dask_cluster_gives_the_same_masses(groups):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as one:
        there = weigh_groups(groups, scheduler=one.scheduler_address)
    assert there == weigh_groups(groups) and len(there[0]) == 3
    with pytest.raises(ClusterToolsError, match="No Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        weigh_groups(groups, scheduler="tcp://127.0.0.1:9")


def test_two_centres_of_one_name_are_refused():
    table = {"name": ["A", "B", "A"], "ra": [1.0, 2.0, 3.0], "dec": [1.0, 2.0, 3.0], "z": [0.1, 0.1, 0.1]}
    with pytest.raises(ClusterToolsError, match="column 'name', has the name 'A' in row 1, 3"):
        cylinders.read_centres(table)
    del table["name"]
    assert list(cylinders.read_centres(table)["cluster"]) == ["1", "2", "3"]


def test_partial_results_of_another_run_are_refused(groups, tmp_path):
    partial = tmp_path / "a.partial"
    with open(partial, "a") as file, pytest.raises(ClusterToolsError, match="in use by another run"):
        fcntl.flock(file, fcntl.LOCK_EX)
        weigh_groups(groups, partial=partial)
    for content in ('["weigh", "another"]\n', "\0\n"):
        partial.write_text(content)
        with pytest.raises(ClusterToolsError, match="a.partial .*delete it"):
            weigh_groups(groups, partial=partial)
    with pytest.raises(ClusterToolsError, match="could not be written"):
        weigh_groups(groups, partial=tmp_path / "nosuch" / "a.partial")


def test_places_of_clusters_may_be_columns(groups):
    records, _ = weigh_groups(groups, places={"centre_columns": ("cra", "cdec"), "redshift_column": "cz"})
    assert [each["centre_ra"] for each in records] == [10.0, 200.0, 300.0]
    assert {each["redshift"] for each in records} == {small_cluster.REDSHIFT}
    records, failed = weigh_groups(groups, places={"redshift_column": "z"})
    assert not records and "its redshift has 80 values" in failed["A1"]


def test_records_make_a_table_with_a_unit_for_all_that_has_one(model):
    found = weigh(small_cluster.table(), model)
    failed = [dataclasses.replace(each, published=np.nan, failure="fails") for each in found.estimates]
    failing = output.record(dataclasses.replace(found, estimates=tuple(failed)))
    table = output.table([output.record(found), failing], {})
    assert np.isnan(table["caustic_published"][1]) and "fails" in output.text(failing)
    assert {name for name, (unit, _) in output.COLUMNS.items() if unit} <= {
        name for name in table.colnames if table[name].unit is not None
    }
