"""The historical masses against the paper's numbers, and the ledger against itself and the sources."""

import numpy as np
import pytest

from cluster_tools.coma import literature, nfw
from cluster_tools.errors import ClusterToolsError

ESTIMATES = {(e.key, e.variant): e for e in literature.estimates()}
AT_ZERO = {(e.key, e.variant): e for e in literature.estimates(z=0.0)}


@pytest.mark.parametrize(
    "key, variant, m200c, m200c_lo, m200c_hi",
    [
        # In 1e15 Msun/h. Worked out apart from this package by root finding on the NFW mass with
        # rho_crit = 2.7754e11 h^2 Msun/Mpc^3; values and ranges by Ho et al. (2022), Methods.
        ("the1986", "strict", 0.660, 0.543, 0.781),
        ("the1986", "relaxed", 0.660, 0.169, 2.145),
        ("hughes1989", "strict", 0.666, 0.563, 0.772),
        ("hughes1989", "relaxed", 0.666, 0.359, 1.206),
        ("geller1999", "", 0.762, 0.574, 0.958),
        ("lokas2003", "", 0.828, 0.592, 1.065),
        ("kubo2007", "", 1.88, 1.32, 2.53),
        ("gavazzi2009", "", 0.357, 0.210, 0.658),
        ("falco2014", "", 0.533, 0.394, 0.672),
        ("kodiramanah2020", "", 10**-0.16, 10**-0.27, 10**-0.05),
        # arXiv:2504.04135, 2603.16706 and 2606.12523, abstracts; h = 0.7.
        ("benisty2025", "", 1.241, 0.77, 2.0),
        ("pedratti2026", "", 10**-0.138, 0.644, 0.808),
        ("hyeonghan2026", "", 10**-0.241, 0.525, 0.623),
    ],
)
def test_estimates_as_m200c_at_z_0(key, variant, m200c, m200c_lo, m200c_hi):
    e = AT_ZERO[key, variant]
    found = np.array([e.m200c, e.m200c_lo, e.m200c_hi]) / 1e15
    assert found == pytest.approx([m200c, m200c_lo, m200c_hi], rel=2e-3)


def test_estimates_agree_with_the_printed_masses_but_for_the_slips():
    """With the critical density at Coma's redshift, as the paper defines it, all come out to the printed digit."""
    printed, table = literature.published()["historical"], literature.beside_paper(ESTIMATES.values())
    assert len(printed) == len(table) == 9
    kubo = table.set_index("label").loc["Kubo et al."]
    assert kubo["m200c"] == pytest.approx(1.88) and kubo["paper_m200c"] == 1.88 and kubo["paper_plus"] == 0.65
    for row in printed:
        e, meant = ESTIMATES[row["key"], row["variant"]], row | row.get("corrected", {})
        within = 0.05e15 if e.key == "the1986" else 0.005e15
        assert e.linear == pytest.approx([meant[name] for name in ("m200c", "minus", "plus")], abs=within), row["key"]


def test_measured_concentrations():
    """Geller et al.: R200c = 1.45 Mpc/h physical over 0.192; Łokas & Mamon: 9.4 at 102 is about 7; both by hand."""
    measured = literature.concentrations()
    assert measured["geller1999"] == pytest.approx((7.67, 1.18, 1.71), abs=0.02)
    assert measured["lokas2003"][0] == pytest.approx(7.1, abs=0.05) and np.isnan(measured["lokas2003"][1])
    assert measured["gavazzi2009"] == (5.0, 2.5, 3.2)  # their abstract


def test_assumptions_move_the_masses_that_depend_on_them():
    def moved(**options):
        return {e.key for e in literature.estimates(**options) if e.m200c != ESTIMATES[e.key, e.variant].m200c}

    assert moved(c200c=4.0) == {"the1986", "hughes1989", "falco2014"}  # where a concentration was assumed
    assert moved(z=0.0) == {"the1986", "hughes1989", "geller1999"}  # masses inside a fixed physical radius
    # Ho et al. (2022), Figure 3: an asterisk where M200c was not explicitly published.
    stars = {key for (key, _), e in ESTIMATES.items() if e.reconstructed}
    assert stars == {"the1986", "hughes1989", "geller1999", "lokas2003", "falco2014"}


def test_monte_carlo_adds_in_quadrature_what_a_measured_radius_and_an_assumed_concentration_leave_open():
    # Geller et al. (1999): r_s = 0.192 +- 0.035 Mpc/h. To first order d ln M200c is a d ln M + b d ln r_s, the
    # slopes taken by finite differences of the conversion; 0.29 / 1.44 and 0.035 / 0.192 are the two errors.
    def ln_m200c(mass, scale_radius):
        return np.log(nfw.m200c(mass, radius=5.5, scale_radius=scale_radius, z=0.0231))

    a = (ln_m200c(1.44e15 * 1.01, 0.192) - ln_m200c(1.44e15 / 1.01, 0.192)) / np.log(1.01**2)
    b = (ln_m200c(1.44e15, 0.192 * 1.01) - ln_m200c(1.44e15, 0.192 / 1.01)) / np.log(1.01**2)
    sampled = {(e.key, e.variant): e for e in literature.monte_carlo(100_000, seed=1)}
    assert {key for key, _ in sampled} == {"the1986", "hughes1989", "geller1999", "falco2014"}
    e = sampled["geller1999", ""]
    expected = np.hypot(a * 0.29 / 1.44, b * 0.035 / 0.192)
    assert np.log(e.m200c_hi / e.m200c_lo) / 2 == pytest.approx(expected, rel=0.03)
    e, p = sampled["hughes1989", "strict"], ESTIMATES["hughes1989", "strict"]
    low, high = (nfw.m200c(0.92e15, radius=2.5, c200c=7 * 10**s, z=0.0231) for s in (-0.16, 0.16))
    expected = np.hypot(np.log(p.m200c_hi / p.m200c_lo), np.log(high / low))
    assert np.log(e.m200c_hi / e.m200c_lo) == pytest.approx(expected, rel=0.02)


def test_monte_carlo_depends_on_its_seed_and_needs_a_positive_concentration():
    first, again, other = (literature.monte_carlo(500, seed=seed) for seed in (3, 3, 4))
    assert first == again != other
    for bad in (-7.0, np.nan):
        with pytest.raises(ClusterToolsError, match="c200c"):
            literature.monte_carlo(10, seed=1, c200c=bad)


def test_tension_takes_the_facing_errors_either_way_round():
    low, high = (14.0, 9.0, 0.3), (15.0, 0.4, 9.0)
    assert literature.tension(low, high) == literature.tension(high, low) == pytest.approx(2.0)
    # 2.7 sigma, as printed, is the difference over the lower error of Kubo et al. alone: (1.88 - 0.357) / 0.56.
    kubo, gavazzi = ESTIMATES["kubo2007", ""].linear, ESTIMATES["gavazzi2009", ""].linear
    assert (kubo[0] - gavazzi[0]) / kubo[1] == pytest.approx(2.72, abs=0.01)
    assert literature.tension(kubo, gavazzi) == pytest.approx((1.88 - 0.357) / np.hypot(0.56, 0.301), abs=0.01)
    assert ESTIMATES["kodiramanah2020", ""].in_dex == pytest.approx((14.84, 0.11, 0.11))
    # The paper's mass with that of HyeongHan et al. (2026), 14.76 +0.04: 0.34 / hypot(0.15, 0.04) = 2.2 sigma.
    hyeonghan = ESTIMATES["hyeonghan2026", ""].in_dex
    assert literature.tension(hyeonghan, (15.10, 0.15, 0.15)) == pytest.approx(2.2, abs=0.05)


def test_every_entry_of_the_ledger_is_a_number_with_unit_and_section():
    for name, entry in literature.published()["values"].items():
        assert np.issubdtype(np.atleast_1d(entry["value"]).dtype, np.number), name  # YAML takes 1.9e15 for text
        assert isinstance(entry["unit"], str) and entry["section"], name
        assert entry.get("bound", "most") in ("most", "least") and ("minus" in entry) == ("plus" in entry), name


def test_table1_is_the_papers():
    table = literature.published_table1()
    models = list(zip(table["simulation"], table["input_dim"], table["reweighted"], strict=True))
    assert models == [(s, d, w) for w in (False, True) for s in ("uchuu", "mdpl2") for d in (1, 2)]
    # Sums over the printed rows, added by hand, guard against a slipped digit.
    sums = {
        "val_median": 0.52, "val_lo": 0.84, "val_hi": 0.83, "xval_median": 0.41, "xval_lo": 0.93, "xval_hi": 0.87,
        "sqrt_var_val": 1.03, "sqrt_var_xval": 1.04, "coma_mean": 119.41, "coma_sigma": 1.14,
    }  # fmt: skip
    for name, expected in sums.items():
        assert table[name].sum() == pytest.approx(expected), name
    best = table[(table["simulation"] == "uchuu") & (table["input_dim"] == 2) & ~table["reweighted"]].iloc[0]
    headline = literature.published()["values"]["coma_log_m200c"]
    assert (best["coma_mean"], best["coma_sigma"]) == (headline["value"], headline["minus"])


@pytest.mark.parametrize("content", [None, b"values: [1, 2", b"\xff\xfe\x00", b"values: {}", b"- 1"])
def test_a_missing_or_damaged_ledger_says_how_to_mend_it(content, tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTER_TOOLS_ROOT", str(tmp_path))
    if content is not None:
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "published.yml").write_bytes(content)
    with pytest.raises(ClusterToolsError, match=r"results/published\.yml .*git checkout -- results/published\.yml"):
        literature.published()
