"""Real clusters of the Hectospec Cluster Survey against Rines et al. (2013), and all of the survey from a server."""

import io
from urllib.parse import unquote

import numpy as np
import pytest
from astropy.table import Table
from local_server import serving

from cluster_tools import ClusterToolsError, paths, sky
from cluster_tools.weighing import cylinders, galaxy_table, hecs, many_clusters, output

HECS = paths.PACKAGE_DATA / "hecs"


@pytest.fixture(scope="module")
def clusters() -> Table:
    return Table.read(HECS / "clusters.csv", format="ascii.csv")


def test_members_have_the_published_number_and_dispersion(clusters):
    rows = Table.read(HECS / "galaxies.csv", format="ascii.csv")
    galaxies = galaxy_table.read(HECS / "galaxies.csv", with_mass=False)
    assert len(galaxies) == len(rows) == 1254  # none rejected, none at the place of another
    is_member, name = rows["member"][galaxies["row"] - 1] == 1, rows["cluster"][galaxies["row"] - 1]
    for cluster in clusters:
        place = {"centre_ra": cluster["ra"], "centre_dec": cluster["dec"], "redshift": cluster["z"]}
        columns = {column: galaxies[column][name == cluster["cluster"]] for column in ("ra", "dec", "z")}
        v_los, r_proj = sky.phase_space(**columns, **place)
        members = is_member[name == cluster["cluster"]]
        # The paper counts its members beyond the field, too.
        assert 0.45 * cluster["members"] < members.sum() <= cluster["members"], cluster["cluster"]
        assert r_proj.max() < 4 and np.abs(v_los).max() < 4300, cluster["cluster"]
        # r200 in physical Mpc/h from M200 = 100 H(z)^2 r200^3 / G, to comoving.
        hubble = 100 * np.sqrt(0.3 * (1 + cluster["z"]) ** 3 + 0.7)
        r200 = (cluster["m200"] * 1e14 * 4.30091e-9 / (100 * hubble**2)) ** (1 / 3) * (1 + cluster["z"])
        dispersion = v_los[members & (r_proj < r200)].std(ddof=1)
        error = cluster["sigma_plus"] if dispersion > cluster["sigma"] else cluster["sigma_minus"]
        assert abs(dispersion - cluster["sigma"]) < 1.5 * error, cluster["cluster"]


def test_masses_agree_with_published_ones_within_their_scatter(clusters):
    records, failures = many_clusters.weigh_many(
        galaxy_table.read(HECS / "galaxies.csv", with_mass=False),
        centres=cylinders.read_centres(HECS / "clusters.csv"),
        min_log_mstar=None,
    )
    assert not failures and [record["cluster"] for record in records] == list(clusters["cluster"])
    low, ours, high = (np.array([r[f"log_m200c{at}"] for r in records]) for at in ("_16", "", "_84"))
    offset = ours - 14 - np.log10(clusters["m200"])
    formal = clusters["m200_error"] / clusters["m200"] / np.log(10)
    scatter = 0.15  # dex, of caustic masses by projection
    assert np.all(np.abs(offset) < 3 * np.sqrt(((high - low) / 2) ** 2 + formal**2 + scatter**2))
    assert abs(offset.mean()) < 0.3 and offset.std(ddof=1) < 0.25
    assert all("calibrated on mock observations up to z = 0.6" in output.text(record) for record in records)


@pytest.fixture
def vizier(tables, monkeypatch, tmp_path):
    """Answer as VizieR does, with `tables`; yields the names asked for."""
    from astroquery.vizier import VizierClass

    asked: list[str] = []

    def answer(request):
        lines = request.rfile.read(int(request.headers["Content-Length"])).decode().splitlines()
        body = dict(unquote(line).partition("=")[::2] for line in lines)
        asked.append(body["-source"].removeprefix(hecs.CATALOGUE + "/"))
        assert body["-out.max"] == "unlimited"
        text, table = io.BytesIO(), tables[asked[-1]]
        if table is None:
            text.write(b"<html>maintenance</html>")
        else:
            table[body["-out"].split(",")].write(text, format="votable")
        request.send(text.getvalue(), Content_Length=len(text.getvalue()))

    monkeypatch.setenv("CLUSTER_TOOLS_CACHE", str(tmp_path))
    with serving(answer) as url:
        monkeypatch.setattr(VizierClass, "_server_to_url", lambda self, return_type: f"{url}/{return_type}")
        yield asked


@pytest.fixture
def tables(clusters, monkeypatch) -> dict:
    """Tables as VizieR's, of the clusters and galaxies that ship."""
    galaxies = Table.read(HECS / "galaxies.csv", format="ascii.csv")
    galaxies.rename_columns(("ra", "dec", "quality"), ("RAJ2000", "DEJ2000", "q_cz"))
    places = {"Name": clusters["cluster"], "RAJ2000": clusters["ra"], "DEJ2000": clusters["dec"], "z": clusters["z"]}
    first = Table(places | {"sig": clusters["sigma"], "Nm": clusters["members"]})
    second, third = galaxies[galaxies["table"] == 2], galaxies[galaxies["table"] == 3]
    second["q_cz"][:5] = "X"
    answers = {"table1": first, "table2": second.filled(), "table3": third.filled("Q")}
    monkeypatch.setattr(hecs, "TABLES", {n: (len(answers[n]), columns) for n, (_, columns) in hecs.TABLES.items()})
    return answers


def test_the_survey_is_fetched_once_and_can_be_weighed(vizier):
    for _ in range(2):
        galaxies, clusters = hecs.fetch()
    assert vizier == ["table1", "table2", "table3"]  # then from the cache
    assert len(galaxies) == 1254 - 5  # those of medium confidence are left out
    shipped = galaxy_table.read(HECS / "galaxies.csv", with_mass=False)
    read = galaxy_table.read(galaxies, with_mass=False)
    assert set(read["z"]) < set(shipped["z"]) and np.isin(read["ra"], shipped["ra"]).all()
    about = cylinders.about(read, cylinders.read_centres(clusters))
    assert list(about) == ["A1033", "A1302", "A1361", "A1366", "A2034", "A2055", "A2069"]
    assert len(about["A2069"]().table()) > 200


@pytest.mark.parametrize("fault", ["cut", "page"])
def test_an_answer_that_is_not_whole_is_refused_and_not_kept(fault, tables, vizier, tmp_path):
    tables["table2"] = tables["table2"][:-1] if fault == "cut" else None
    with pytest.raises(ClusterToolsError, match=r"VizieR at .* expected 7\d\d rows of RAJ2000"):
        hecs.fetch()
    assert [path.name for path in tmp_path.iterdir()] == ["hecs_table1.ecsv"]
