"""The survey estimator: real Coma with few galaxies and small fields, no cluster, redshifts, what is told and drawn."""

import dataclasses
import functools
import json

import damage
import numpy as np
import pytest
import small_cluster
import small_networks
from astropy.table import Table, vstack

from cluster_tools import cli, cosmology, paths, sky
from cluster_tools.cosmology import COMA_REDSHIFT
from cluster_tools.errors import ClusterToolsError
from cluster_tools.mocks import observe
from cluster_tools.universe import snapshots, synthetic
from cluster_tools.weighing import (
    galaxy_table,
    one_cluster,
    output,
    selection,
    survey_calibration,
    survey_effects,
    survey_estimate,
    survey_model,
    survey_training,
    training_views,
)  # fmt: skip
from cluster_tools.weighing.survey_calibration import GRID
from cluster_tools.weighing.survey_model import SurveyModel

PLACE = {"centre": (194.95, 27.98), "redshift": COMA_REDSHIFT}


@pytest.fixture(scope="module")
def model():
    return SurveyModel.load()


@pytest.fixture(scope="module", params=[9.5, None])
def coma(request):
    galaxies = galaxy_table.read(paths.PACKAGE_DATA / "desi_coma.csv")
    return selection.select_galaxies(galaxies, name="Coma", **PLACE, min_log_mstar=request.param, fewest=8)


def part_of(observation, chosen, **changes):
    part = {"v_los": observation.v_los[chosen], "r_proj": observation.r_proj[chosen]}
    part["galaxies"] = {name: column[chosen] for name, column in observation.galaxies.items()}
    return dataclasses.replace(observation, **part, **changes)


# --- real galaxies --------------------------------------------------------------------------------


def test_coma_thinned_weighs_as_all_of_it(model, coma):
    """The mean stays within 0.1 dex of the full sample's, or within half of its own sigma."""
    full, rng = survey_estimate.estimate(coma, model), np.random.default_rng(1)
    assert full.refusal is None and 14.7 < full.mean < 15.1 and full.sigma < 0.13
    for n in (60, 30, 15):
        drawn = [rng.choice(len(coma.v_los), n, replace=False) for _ in range(30)]
        thinned = [survey_estimate.estimate(part_of(coma, chosen), model) for chosen in drawn]
        mean, sigma = np.mean([[each.mean, each.sigma] for each in thinned], axis=0)
        assert abs(mean - full.mean) < max(0.1, sigma / 2) and sigma > full.sigma, n


@pytest.mark.parametrize("field", [1.5, 1.0, 0.7, 0.5, 0.4])
def test_coma_of_a_small_field_weighs_as_all_of_it(model, coma, field):
    """Without a cut in stellar mass, the core, where Coma has 250 galaxies, is heavier by 2.2 of its sigmas."""
    inside = coma.r_proj < field
    part = part_of(coma, inside, field=survey_effects.estimated_field(field, inside.sum()))
    full, part = (survey_estimate.estimate(each, model) for each in (coma, part))
    sigmas = 2.5 if coma.min_log_mstar is None and field < 1 else 1.5
    assert abs(part.mean - full.mean) < max(0.1, sigmas * part.sigma)


def test_errors_of_velocities_are_taken_off(model, coma):
    rng = np.random.default_rng(2)
    blurred = dataclasses.replace(coma, v_los=coma.v_los + rng.normal(0, 300, len(coma.v_los)))
    full, told, untold = (
        survey_estimate.estimate(each, model, error) for each, error in ((coma, None), (blurred, 300.0), (blurred, 0.0))
    )
    assert abs(told.mean - full.mean) < 0.06 and untold.mean > told.mean


def test_a_complete_table_tells_more_if_the_networks_know(model):
    """On mock observations from a box that no network has seen: smaller intervals, and errors, than if they do not."""
    box = synthetic.synthetic("mdpl2", box_size=160.0, seed=2, min_log_mstar=9.0, log_m_host=13.0)
    views = training_views.observe(box, 800, empty=0, seed=1)
    seen = survey_effects.observe(views, np.tile(np.arange(len(views)), 4), 3)
    mass = views.log_m200c[seen.row]  # a small box has no heavier hosts
    seen = seen.select((seen.conditions[:, -1] == 1) & (seen.richness > 15) & (mass > 13.6) & (mass < 14.4))
    mass, error, width = views.log_m200c[seen.row], {}, {}
    for told in (1, 0):
        seen.conditions[:, -1] = told
        answer = model.answer(seen.v_los, seen.r_proj, seen.offsets, seen.conditions)
        low, median, high = survey_calibration.quantiles(answer.log_likelihood, (0.16, 0.5, 0.84)).T
        error[told], width[told] = np.sqrt(np.mean((median - mass) ** 2)), np.mean(high - low) / 2
    assert len(mass) > 150 and error[1] < 0.95 * error[0] and width[1] < 0.9 * width[0]


def test_completeness_is_told_by_the_command_and_from_python(model, tmp_path, capsys):
    table, file = small_cluster.table(14.8, 150), tmp_path / "a.csv"
    Table(table).write(file)
    told, untold = (
        one_cluster.weigh(table, **PLACE, min_log_mstar=None, model=model, complete=each) for each in (True, False)
    )
    assert told.sigma != untold.sigma
    place = [*map(str, PLACE["centre"]), "--redshift", str(PLACE["redshift"]), "--min-log-mstar", "none"]
    for mass, option in ((told, ["--complete"]), (untold, [])):
        assert cli.main(["weigh", str(file), "--json", *option, "--centre", *place]) == 0
        [record] = json.loads(capsys.readouterr().out)["clusters"]
        assert record["log_m200c_sigma"] == pytest.approx(mass.sigma, abs=1e-4)


def test_errors_are_the_median_of_a_column_of_the_table(model):
    table, n = small_cluster.table(14.8, 60), 60
    kms = np.r_[np.full(n - 9, 90.0), np.full(9, np.nan)]
    for name, column in {"e_cz": kms, "zerr": kms / cosmology.SPEED_OF_LIGHT, "VERR": np.nan_to_num(kms)}.items():
        found = one_cluster.weigh(table | {name: column}, **PLACE, min_log_mstar=None, model=model)
        assert found.assumed["velocity_error"] == pytest.approx(90 / (1 + COMA_REDSHIFT), rel=0.01), name
        assert "velocity errors       88 km/s, the median of the table's" in output.text(output.record(found))
    given = one_cluster.weigh(table | {"e_cz": kms}, **PLACE, min_log_mstar=None, model=model, velocity_error=5.0)
    assert given.assumed["velocity_error"] == 5 and given.assumed["velocity_error_is"] == "given"
    assert one_cluster.weigh(table, **PLACE, min_log_mstar=None, model=model).assumed["velocity_error"] == 30


# --- members --------------------------------------------------------------------------------------


def test_members_are_the_rows_of_the_table_with_probabilities(model, tmp_path):
    table = small_cluster.table(14.8, 80)
    table["z"][3] = np.nan
    written, csv = tmp_path / "members.ecsv", tmp_path / "a.csv"
    Table(table).write(csv)
    assert cli.main(["weigh", str(csv), "--members", str(written), "--min-log-mstar", "10"]) == 0
    members = Table.read(written)
    total = members["p_member"] + members["p_infalling"] + members["p_interloper"]
    np.testing.assert_allclose(total, 1, atol=2e-4)
    for name in ("ra", "z"):
        np.testing.assert_allclose(table[name][members["row"] - 1], members[name], atol=1e-9)
    assert 4 not in members["row"] and (table["log_mstar"][members["row"] - 1] >= 10).all()
    found = one_cluster.weigh(csv, min_log_mstar=10.0, model=model)
    for number in (found.members["p_member"].sum(), output.record(found)["n_members"]):
        assert number == pytest.approx(members["p_member"].sum(), abs=0.01)


def test_members_of_many_clusters_are_one_table(tmp_path):
    rows = vstack([Table(small_cluster.table(14.5, 40, seed, centre=(20.0 * seed, 5.0))) for seed in (1, 2)])
    rows["group"] = np.repeat(["g0", "g1"], 40)
    rows.write(tmp_path / "all.ecsv")
    words = ["weigh", tmp_path / "all.ecsv", "--cluster-column", "group", "--members", tmp_path / "members.ecsv"]
    assert cli.main(list(map(str, words))) in (0, 3)
    members = Table.read(tmp_path / "members.ecsv")
    assert set(members["cluster"]) == {"g0", "g1"} and (members["row"][members["cluster"] == "g1"] > 40).all()


# --- no mass --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [300, 1500])
def test_a_uniform_field_has_no_mass_and_exit_code_4(n, tmp_path, capsys):
    rng = np.random.default_rng(n)
    ra, dec, z = 190 + rng.uniform(-2.2, 2.2, n), rng.uniform(-2, 2, n), rng.uniform(0.01, 0.036, n)
    file = tmp_path / "field.csv"
    np.savetxt(file, np.stack([ra, dec, z], axis=1), delimiter=",", header="ra,dec,z", comments="")
    assert cli.main(["weigh", str(file)]) == 4
    assert "\n  no mass: no cluster stands out" in capsys.readouterr().out
    assert cli.main(["weigh", str(file), "--json", "--output", str(tmp_path / "a.ecsv")]) == 4
    [record] = json.loads(capsys.readouterr().out)["clusters"]
    assert record["log_m200c"] is None and record["refusal"] and record["samples"] == []


@pytest.mark.parametrize("n", [11, 20, 30])
def test_few_galaxies_of_a_uniform_field_are_no_cluster_where_none_is_given(model, n):
    """Without this refusal, 15 to 40% of such fields have a mass; a cluster of 14.3 stands out."""
    rng = np.random.default_rng(n)

    def said(v_los, r_proj, seed) -> str:
        ra, dec, z = sky.positions(v_los, r_proj, centre_ra=150, centre_dec=20, redshift=0.05, seed=seed)
        try:
            found = one_cluster.weigh({"ra": ra, "dec": dec, "z": z}, model=model)
        except ClusterToolsError as too_few:
            return str(too_few)
        return found.refusal or "; ".join(("mass", *found.warnings))

    fields = [said(rng.uniform(-3785, 3785, n), 2.3 * np.sqrt(rng.random(n)), seed) for seed in range(40)]
    clusters = [said(*small_cluster.phase_space(14.3, n, seed), seed) for seed in range(20)]
    masses = [np.mean([each.startswith("mass") for each in some]) for some in (fields, clusters)]
    assert masses[0] <= 0.15 and masses[1] >= 0.85 and any("place is not given" in each for each in fields)
    assert all("5% of uniform fields" in each for each in clusters if each.startswith("mass"))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"redshift": 0.7}, None, "redshift, 0.7000, is outside 0.005 to 0.6"),
        ({"redshift": 0.004}, None, "redshift, 0.0040, is outside"),
        ({"field": 0.3}, None, "galaxies end 0.30 Mpc/h from the centre"),
        ({}, 400.0, "errors of 400 km/s"),
    ],
)
def test_what_was_not_learnt_is_refused(model, coma, changes, error, words):
    found = survey_estimate.estimate(dataclasses.replace(coma, **changes), model, error)
    assert words in found.refusal and np.isnan(found.mean) and np.isnan(found.within("500c")).all()
    assert output.text(output.record(found)).splitlines()[1].startswith("  no mass: ")


def test_doubts_come_first_and_the_gravest_of_them(model, coma):
    slow = part_of(coma, np.abs(coma.v_los) < 2000)
    found = survey_estimate.estimate(dataclasses.replace(slow, redshift=0.0101), model)
    lines = output.text(output.record(found)).splitlines()
    assert "interlopers" in lines[1] and "down to the observer" in lines[2] and lines[3].startswith("  centre")
    few = part_of(coma, np.random.default_rng(1).permutation(len(coma.v_los))[:12])
    assert "12 galaxies do not tell a cluster" in survey_estimate.estimate(few, model).warnings[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (PLACE | {"min_log_mstar": None}, "at least 8 are needed"),
        ({"velocity_error": -3}, "velocity_error is -3"),
    ],
)
def test_seven_galaxies_and_wrong_options_are_refused(options, words):
    with pytest.raises(ClusterToolsError, match=words):
        one_cluster.weigh(small_cluster.table(14.8, 7), **options)


@pytest.mark.parametrize("spoil", [damage.flip_byte, lambda file: file.write_bytes(file.read_bytes()[:1000])])
def test_a_damaged_file_of_networks_is_refused_by_name(tmp_path, spoil):
    file = tmp_path / "survey.h5"
    file.write_bytes((paths.PACKAGE_DATA / survey_model.FILE).read_bytes())
    spoil(file)
    with pytest.raises(ClusterToolsError, match="survey.h5"):
        SurveyModel.load(file)


# --- the result -----------------------------------------------------------------------------------


def test_posterior_is_likelihood_times_prior_on_the_grid(model, coma):
    found = survey_estimate.estimate(coma, model)
    density = np.exp(found.log_likelihood)
    share = np.cumsum(density) / density.sum()
    assert np.interp([0.16, 0.5, 0.84], share, found.grid) == pytest.approx(found.quantiles, abs=0.011)
    assert found.quantiles_95[0] < found.quantiles[0] and found.abundance[1] < found.quantiles[1]
    assert found.samples.mean() == pytest.approx(found.mean, abs=1e-5)
    assert found.labels.sum(axis=1) == pytest.approx(np.ones(len(coma.v_los)))
    near = (np.abs(coma.v_los) < 800) & (coma.r_proj < 0.5)
    assert found.labels[near, 2].mean() > 0.85 and found.labels[np.abs(coma.v_los) > 3300, 2].mean() < 0.3


def test_the_shipped_networks_were_calibrated_on_held_out_mocks(model):
    """In bins of the probability the share of members agrees; one in fifty clusters is refused, or one in twenty."""
    told = model.provenance
    assert len(told["memberships"]) == 10 and sum(row["n"] for row in told["memberships"]) > 1e6
    for row in told["memberships"]:
        assert row["members"] == pytest.approx(row["predicted"], abs=2 * row["error"] + 0.005), row
    for row in told["presence"]:
        assert row["usual_found"] >= 0.95 and row["least_found"] > row["least"]
        assert row["uniform_found"] < (0.42 if row["n"] < 15 else 0.2 if row["n"] < 30 else 0.045)
        assert row["usual"] >= 0.979 and row["uniform"] < (0.3 if row["n"] < 15 else 0.1 if row["n"] < 30 else 0.03)
    # On mock observations from boxes at z up to 0.6 (``train-survey --redshifts``).
    assert [row["redshift"] for row in told["redshifts"]] == list(survey_training.TESTED)
    for row in told["redshifts"]:
        assert 0.64 < row["covers_68"] < 0.72 and 0.92 < row["covers_95"] < 0.97 and abs(row["pit"] - 0.5) < 0.03
        assert abs(row["bias"]) < 0.05 and row["usual"] > 0.94


@pytest.mark.parametrize(
    ("middle", "pass_given", "pass_found", "refused"), [(4.0, 0.062, 0.04, 0.03), (6.5, 0.833, 0.833, 0.02)]
)
def test_uniform_fields_are_kept_out_where_clusters_can_afford_it(middle, pass_given, pass_found, refused):
    """Shares by the normal distribution: odds of clusters are normal about 8, of uniform fields about `middle`."""
    rng, n = np.random.default_rng(4), 40_000
    log_odds, mass = np.r_[rng.normal(8, 1.2, n), rng.normal(middle, 1.0, n)], np.repeat([14.0, np.nan], n)
    fields = mass, np.isnan(mass), np.full(2 * n, 50), log_odds
    (given,), (found,) = (survey_training.presence(*fields, found=each) for each in (False, True))
    assert [given["uniform"], found["uniform"]] == pytest.approx([pass_given, pass_found], abs=0.006)
    assert [1 - given["usual"], 1 - found["usual"]] == pytest.approx([0.02, refused], abs=0.003)


def test_views_at_a_higher_redshift_are_brought_to_comas(snapshot):
    """A cluster's members keep their velocities, and their radii are those in physical units times E(z)."""
    near, far = (training_views.observe(snapshot, 30, empty=0, redshift=z, seed=2) for z in (COMA_REDSHIFT, 0.5))
    assert far.r_proj.max() <= training_views.RADIUS * 1.001 and np.abs(far.v_los).max() <= training_views.VELOCITY
    # The same drawn masses stand for haloes lighter by `mass_shift`, and so stretched more, as E(z)^(1/3).
    member = [each.v_los[each.label == training_views.MEMBER] for each in (near, far)]
    assert abs(np.std(member[1]) / np.std(member[0]) - 1) < 0.25


def test_recalibrated_memberships_follow_the_truth():
    """Probabilities whose logits are twice the true ones are brought back."""
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 2, (20_000, 3))
    true, told = (np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in (logits, 2 * logits))
    label, mass = (true.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1), rng.uniform(13, 15.5, 20_000)
    fit = survey_calibration.fit_labels(told, mass, label, np.ones(20_000))
    assert np.abs(survey_calibration.recalibrated(told, mass, fit) - true).mean() < 0.02
    tested = told, survey_calibration.recalibrated(told, mass, fit)
    rows = [survey_calibration.memberships(each, label, np.ones(20_000), np.arange(20_000)) for each in tested]
    off = [max(abs(row["members"] - row["predicted"]) for row in each) for each in rows]
    assert off[0] > 0.1 and off[1] < 0.04


def test_other_masses_are_those_of_colossus(model, coma):
    from colossus.cosmology import cosmology as colossus
    from colossus.halo import mass_defs

    found = survey_estimate.estimate(coma, model)
    colossus.setCosmology("paper", flat=True, H0=70, Om0=0.3, Ob0=0.05, sigma8=0.8, ns=0.96, persistence="")
    median = found.quantiles[1]
    for delta in ("500c", "200m"):
        c200c = float(output.concentration(median))
        mass, *_ = mass_defs.changeMassDefinition(10**median, c200c, COMA_REDSHIFT, "200c", delta)
        assert found.within(delta)[1] == pytest.approx(np.log10(mass), abs=0.003)


@pytest.mark.parametrize("z", [0.01, 0.3, 0.55])
def test_a_cluster_scaled_to_another_redshift_weighs_less_by_its_expansion(model, coma, z):
    """In v_los and R E(z) / (1 + z), M E(z) is the same: Evrard et al. 2008 and the definition of R200c."""
    scale = training_views.scale(z)
    stretched = dataclasses.replace(coma, redshift=z, r_proj=coma.r_proj / scale, field=coma.field / scale)
    near, far = (survey_estimate.estimate(each, model) for each in (coma, stretched))
    expected = np.log10(cosmology.efunc(COMA_REDSHIFT) / cosmology.efunc(z))
    assert far.mean - near.mean == pytest.approx(float(expected), abs=0.02)
    sigma = [cosmology.velocity_dispersion(m, at) for m, at in ((near.mean, COMA_REDSHIFT), (far.mean, z))]
    assert sigma[1] == pytest.approx(sigma[0], rel=0.02)


@pytest.mark.parametrize("n", [50, 200])
def test_heavier_clusters_weigh_more(model, n):
    tables = [small_cluster.table(m, n, seed=2) for m in (14.0, 14.6, 15.2)]
    masses = [one_cluster.weigh(each, **PLACE, min_log_mstar=None, model=model).mean for each in tables]
    assert (np.diff(masses) > 0).all()


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snapshot():
    """Hosts in a box of random galaxies, a fifth of them members."""
    rng = np.random.default_rng(4)
    n, n_hosts, box = 60_000, 60, 200.0
    host = np.where(rng.random(n) < 0.2, rng.integers(0, n_hosts, n), -1)
    place, speed = rng.uniform(0, box, (n_hosts, 3)), rng.normal(0, 300, (n_hosts, 3))
    position = np.where(host[:, None] >= 0, place[host] + rng.normal(0, 0.7, (n, 3)), rng.uniform(0, box, (n, 3))) % box
    velocity = np.where(host[:, None] >= 0, speed[host], 0) + rng.normal(0, 500, (n, 3))
    galaxies = np.empty(n, snapshots.GALAXY)
    galaxies["position"], galaxies["velocity"], galaxies["host"] = position, velocity, host
    galaxies["is_satellite"], galaxies["log_mstar"] = rng.random(n) < 0.5, rng.uniform(9, 11, n)
    hosts = place.astype("f4"), speed.astype("f4"), rng.uniform(13, 15.3, n_hosts)
    return snapshots.collect(cosmology.simulation("mdpl2"), box, *hosts, [galaxies])


@pytest.fixture(scope="module")
def views(snapshot):
    seen = training_views.observe(snapshot, 800, seed=1)
    return training_views.together([seen, training_views.uniform(100, seen, seed=1)])


def test_views_hold_the_galaxies_of_the_mock_observations(snapshot, monkeypatch):
    """Each galaxy twice if both directions are one, but for central galaxies; velocities and radii as of `observe`."""
    frames, qr = [], np.linalg.qr
    monkeypatch.setattr(np.linalg, "qr", lambda *each: frames.append(qr(*each)) or frames[-1])
    monkeypatch.setattr(training_views, "TILT", 0.0)
    monkeypatch.setattr(training_views, "LOG_M200C", (14.0, 14.0))
    alike = dataclasses.replace(snapshot, host_log_m200c=np.full(60, 14.0), is_satellite=np.ones(60_000, bool))
    seen, rng = training_views.observe(alike, 5, empty=0, seed=3), np.random.default_rng(3)
    rng.uniform(14, 14, 5)
    host = np.argsort(alike.host_log_m200c)[(rng.random(5) * 60).astype(int)]
    seen = seen.keep((seen.r_proj < observe.APERTURE) & (np.abs(seen.v_los) < observe.VELOCITY_CUT))
    count, v_los, r_proj, is_member = observe.observe(alike, host, frames[0][0][0:10:2, 2])
    np.testing.assert_array_equal(seen.richness, 2 * count)
    for i, galaxies in enumerate(np.split(np.arange(count.sum()), np.cumsum(count)[:-1])):
        ours = np.sort(seen.v_los[seen.slice(i)])
        np.testing.assert_allclose(ours[::2], np.sort(v_los[galaxies]), atol=0.2)
        np.testing.assert_allclose(np.sort(seen.r_proj[seen.slice(i)])[::2], np.sort(r_proj[galaxies]), atol=1e-3)
        assert (seen.label[seen.slice(i)] == training_views.MEMBER).sum() == 2 * is_member[galaxies].sum()


def test_views_are_labelled_and_cover_the_masses(views):
    mass = views.log_m200c[np.isfinite(views.log_m200c)]
    assert len(mass) == 800 and 13 <= mass.min() < 13.5 and 15.2 < mass.max() <= 15.6
    assert views.is_uniform.sum() == 100 and (views.label[np.repeat(views.is_uniform, views.richness)] == 0).all()
    member = views.label == training_views.MEMBER
    assert np.abs(views.v_los[member]).mean() < np.abs(views.v_los[~member]).mean()
    assert views.r_proj.max() <= training_views.RADIUS * 1.001 and np.abs(views.v_los).max() <= training_views.VELOCITY


def test_observations_are_what_the_network_is_told(views):
    seen, again = (survey_effects.observe(views, np.tile(np.arange(len(views)), 3), 1) for _ in range(2))
    assert np.array_equal(again.v_los, seen.v_los) and seen.richness.min() >= survey_effects.FEWEST_GALAXIES
    largest = np.maximum.reduceat(seen.r_proj, seen.offsets[:-1])
    assert (largest <= seen.field * 1.0001).all() and seen.field.min() >= 0.399 and seen.field.max() <= 2.3
    assert np.abs(seen.v_los).max() < observe.VELOCITY_CUT and seen.velocity_error.max() <= 300
    count, field, error, cut, known, complete = seen.conditions.T
    np.testing.assert_allclose(count, np.log10(seen.richness / 50), atol=1e-5)
    assert np.corrcoef(error, seen.velocity_error)[0, 1] > 0.95 and set(known) == {0.0, 1.0}
    assert np.corrcoef(field, np.log(seen.field))[0, 1] > 0.9 and (cut[known == 0] == 0).all()
    # Of uniform fields, those told to be complete are uniform about their centre.
    uniform = views.is_uniform[seen.row]
    share = [
        np.concatenate([(seen.r_proj[seen.slice(i)] / seen.field[i]) ** 2 for i in np.flatnonzero(uniform & each)])
        for each in (complete == 1, complete == 0)
    ]
    assert np.isclose(complete.mean(), 0.25, atol=0.04)
    assert abs(share[0].mean() - 0.5) < 0.015 < abs(share[1].mean() - 0.5)


def test_a_number_of_galaxies_tells_no_mass_where_all_masses_can_show_it(views):
    """With their weights, observations of poor and rich views that are not complete are as frequent at each number."""
    rich = np.argsort(views.richness)[[len(views) // 2, -1]]
    seen = survey_effects.observe(views, np.repeat(rich, 5000), 2)
    seen = seen.select(seen.conditions[:, -1] == 0)
    log_n, poor = np.log(seen.richness), seen.row == rich[0]
    edges = np.log([8, 11, 15])  # well below what the poorer one shows, often less than all for its cut and field
    share = [np.histogram(log_n[each], edges, weights=seen.weight[each])[0] for each in (poor, ~poor)]
    assert share[0] / share[1] == pytest.approx(np.ones(2), abs=0.3)


def test_a_small_training_goes_from_boxes_to_a_file(model, snapshot, monkeypatch, tmp_path):
    """Two steps of two networks from the boxes of a directory; the shipped file is replaced as a whole."""
    monkeypatch.setattr(paths, "PACKAGE_DATA", tmp_path)
    monkeypatch.setattr(snapshots, "open_snapshot", lambda path: snapshot)
    few = functools.partial(survey_training.where_found, n=30)
    monkeypatch.setattr(survey_training, "where_found", few)
    monkeypatch.setattr(training_views, "FEWEST_HOSTS", 8)  # the small box has few heavy ones
    for name in cosmology.SIMULATIONS:
        (tmp_path / f"{name}.h5").write_text(name)
    with small_networks.untraced():
        file = survey_training.ship(tmp_path, networks=2, steps=2, n=400, progress=lambda line: None)
    trained = SurveyModel.load(file)
    parameters = model.provenance["parameters"]  # those of the package come from the command's defaults
    assert (parameters["networks"], parameters["steps"]) == (survey_training.NETWORKS, survey_training.STEPS)
    assert len(trained.weights) == 2 and not np.array_equal(trained.weights[0][0], trained.weights[1][0])
    assert {"calibration", "abundance", "presence", "labels", "memberships", "key"} <= set(trained.provenance)
    # Colossus' mass function, over two decades of mass.
    assert trained.log_abundance.shape == (7, len(GRID)) and (np.diff(trained.log_abundance, axis=1) < 0).all()
    assert file.stat().st_size < 5_000_000


def test_calibration_of_right_posteriors_is_right_and_of_wrong_ones_is_not():
    rng = np.random.default_rng(6)
    true = rng.normal(14.3, 0.2, 4000)
    seen = true + rng.normal(0, 0.2, 4000)
    for sigma, covers in ((0.2, 0.68), (0.1, 0.38)):
        prior = (GRID - 14.3) ** 2 / (2 * 0.2**2) * (sigma == 0.2)
        log_density = -((GRID - seen[:, None]) ** 2) / (2 * sigma**2) - prior
        for times in (1, 3):  # a cluster that is observed again is no other one
            density, mass, cluster = (np.tile(each, (times, 1)) for each in (log_density, true, np.arange(4000)))
            known = dict.fromkeys([*survey_calibration.BINS, "is_complete"], mass.ravel())
            row, *_ = survey_calibration.table(density, np.ones(4000 * times), known, cluster.ravel())
            assert row["covers_68"] == pytest.approx(covers, abs=0.03) and row["pit"] == pytest.approx(0.5, abs=0.02)
            assert row["error_68"] == pytest.approx(np.sqrt(covers * (1 - covers) / 4000), rel=0.05)
