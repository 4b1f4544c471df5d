"use strict";
// From the text of a table to the mass of a cluster. Runs in a Web Worker, which page.js makes from
// this function's source: pages opened from a disk may not load workers from files.
//
// What is done here is what the package does; each function names its twin there. Numbers and names
// that both need come from setup.js (`cluster_tools.book.web.export`). Arrays are [v_los, r_proj].

function weighCore() {
  let setup;

  class TableError extends Error {}

  // --- the table (cluster_tools.tables) --------------------------------------------------------

  // {names, rows}: commas, semicolons, tabs, bars or blanks between cells, as the line of names has it;
  // lines that begin with # say nothing, unless no other line has the names.
  function readTable(text) {
    const lines = text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/).filter((line) => line.trim());
    if (!lines.length) throw new TableError("The table is empty; paste a line of column names and one galaxy a line.");
    if (lines.length > setup.maxRows) {
      throw new TableError(`The table has ${lines.length} lines; ${setup.maxRows} are the most that this page reads.`);
    }
    const isComment = (line) => line.trimStart().startsWith("#");
    let first = lines.findIndex((line) => !isComment(line));
    if (first < 0) throw new TableError("Every line begins with #, so there is no galaxy; remove the # from the galaxies.");
    if (first > 0 && isNumbers(split(lines[first]))) {
      lines[first - 1] = lines[first - 1].replace(/^\s*#+/, "");
      first -= 1;
    }
    const separator = separatorOf(lines[first]);
    const names = split(lines[first], separator).map((name) => name.trim());
    if (isNumbers(names)) {
      throw new TableError("The first line holds numbers; expected the names of the columns there, such as ra,dec,z.");
    }
    const rows = [];
    for (let i = first + 1; i < lines.length; i++) {
      if (!isComment(lines[i])) rows.push(split(lines[i], separator));
    }
    if (!rows.length) throw new TableError("The table has names of columns, but no galaxy; expected one a line.");
    return { names, rows };
  }

  const separatorOf = (line) => [",", "\t", ";", "|"].find((character) => line.includes(character)) ?? " ";

  function split(line, separator = separatorOf(line)) {
    if (separator === " ") return line.trim().split(/\s+/);
    if (!line.includes('"')) return line.split(separator);
    const cells = [""]; // a quoted cell may hold the separator, and "" for a quotation mark
    let quoted = false;
    for (const character of line) {
      if (character === '"') quoted = !quoted;
      else if (character === separator && !quoted) cells.push("");
      else cells[cells.length - 1] += character;
    }
    return cells;
  }

  const isNumbers = (cells) => cells.length > 0 && cells.every((cell) => Number.isFinite(number(cell)));

  const number = (cell) => (cell === undefined || !cell.trim() ? NaN : Number(cell));

  // Typed columns under standard names: {v_los, r_proj} or {ra, dec, z}; and log_mstar, or mag_g and mag_r.
  function standardColumns({ names, rows }) {
    const known = names.map((name) => name.toLowerCase());
    const find = (wanted) => known.indexOf(setup.names[wanted].find((alias) => known.includes(alias)));
    const listed = names.slice(0, 12).join(", ").slice(0, 200);
    const sky = ["ra", "dec", "z"];
    const lacking = sky.filter((wanted) => find(wanted) < 0);
    const ofPhaseSpace = find("v_los") >= 0 && find("r_proj") >= 0;
    if (lacking.length && !ofPhaseSpace) {
      if (lacking[0] === "z" && known.some((name) => setup.velocities.includes(name))) {
        throw new TableError("The table has velocities but no redshifts; add a column z, for velocities cz in km/s as z = cz / 299792.458.");
      }
      throw new TableError(`The table has no column of ${lacking.join(", ")}; found: ${listed}. Expected ra, dec and z, or v_los and r_proj.`);
    }
    const light = [["log_mstar"], ["mag_g", "mag_r"], ["flux_g", "flux_r"]].find((choice) => choice.every((name) => find(name) >= 0));
    const columns = {};
    for (const wanted of [...(lacking.length ? ["v_los", "r_proj"] : sky), ...(light ?? [])]) {
      const index = find(wanted);
      const values = Float64Array.from(rows, (cells) => number(cells[index]));
      if (wanted.startsWith("flux")) columns[wanted.replace("flux", "mag")] = values.map((flux) => 22.5 - 2.5 * Math.log10(flux));
      else columns[wanted] = values;
    }
    return columns;
  }

  // Errors of velocities [km/s], one a row, NaN where unknown; null without such a column (galaxy_table._velocity_errors).
  function velocityErrors({ names, rows }) {
    const known = names.map((name) => name.toLowerCase());
    const index = known.indexOf(setup.errors.find((alias) => known.includes(alias)));
    if (index < 0) return null;
    const errors = rows.map((cells) => number(cells[index])).map((each) => (each > 0 && Number.isFinite(each) ? each : NaN));
    const all = errors.filter(Number.isFinite).sort((a, b) => a - b);
    if (all.length && median(all) > setup.largestZError) return errors;
    return errors.map((each) => each * setup.speedOfLight);
  }

  const EXPECTED = {
    ra: [0, 360, "degrees from 0 to 360"],
    dec: [-90, 90, "degrees from -90 to 90"],
    z: [-0.01, 10, "redshifts, not velocities in km/s"],
    v_los: [-299792.458, 299792.458, "km/s"],
    r_proj: [0, 100, "comoving Mpc/h, not kpc/h"],
    log_mstar: [0, 15, "log10 of the stellar mass in Msun"],
    mag_g: [-10, 40, "AB magnitudes"],
    mag_r: [-10, 40, "AB magnitudes"],
  };

  // Which rows have usable numbers where they are needed and are no repetition, and how many are not so.
  function usable(columns) {
    const names = Object.keys(columns).slice(0, columns.ra ? 3 : 2);
    const rows = columns[names[0]].length;
    const counts = { unreadable: 0, repeated: 0 };
    for (const name of Object.keys(columns)) {
      const [low, high, expected] = EXPECTED[name];
      const values = columns[name].filter(Number.isFinite);
      if (!values.length) throw new TableError(`Column ${name} holds no number; expected ${expected}.`);
      if (values.every((value) => value > high)) {
        throw new TableError(`Column ${name} holds ${values[0]} and the like; expected ${expected}.`);
      }
    }
    const good = [];
    for (let i = 0; i < rows; i++) {
      // A comparison with NaN is false.
      if (names.every((name) => columns[name][i] >= EXPECTED[name][0] && columns[name][i] <= EXPECTED[name][1])) good.push(i);
      else counts.unreadable += 1;
    }
    if (!good.length) throw new TableError(`None of ${rows} rows has a usable number in each of ${names.join(", ")}.`);
    if (!columns.ra) return { good, counts };
    // Of galaxies at one place, rounded to 1 arcsec, the one of lowest redshift counts.
    const [seen, once] = [new Set(), []];
    for (const i of good.sort((a, b) => columns.z[a] - columns.z[b])) {
      const place = `${Math.round(columns.ra[i] * 3600) % (360 * 3600)} ${Math.round(columns.dec[i] * 3600)}`;
      if (!seen.has(place)) once.push(i);
      seen.add(place);
    }
    counts.repeated = good.length - once.length;
    return { good: once, counts };
  }

  // --- on the sky (cluster_tools.sky) ---------------------------------------------------------

  const RADIAN = Math.PI / 180;

  // Comoving distance [Mpc/h] in flat LCDM, by Simpson's rule.
  function comovingDistance(z) {
    const steps = 64;
    let sum = 0;
    for (let i = 0; i <= steps; i++) {
      const weight = i === 0 || i === steps ? 1 : i % 2 ? 4 : 2;
      sum += weight / expansion((z * i) / steps);
    }
    return ((setup.speedOfLight / 100) * sum * z) / (3 * steps);
  }

  const expansion = (z) => Math.sqrt(setup.omegaM * (1 + z) ** 3 + 1 - setup.omegaM); // H(z) / H0

  // Great-circle angle [rad], by Vincenty's formula, exact at all distances; arguments in radians.
  function separation(ra1, dec1, ra2, dec2) {
    const [sin1, cos1, sin2, cos2] = [Math.sin(dec1), Math.cos(dec1), Math.sin(dec2), Math.cos(dec2)];
    const [sin, cos] = [Math.sin(ra2 - ra1), Math.cos(ra2 - ra1)];
    return Math.atan2(Math.hypot(cos2 * sin, cos1 * sin2 - sin1 * cos2 * cos), sin1 * sin2 + cos1 * cos2 * cos);
  }

  // Distances from a centre on the sky [comoving Mpc/h], galaxy i at redshift z(i).
  function radii({ ra, dec }, centre, z) {
    const angle = (i) => separation(centre.ra * RADIAN, centre.dec * RADIAN, ra[i] * RADIAN, dec[i] * RADIAN);
    return ra.map((_, i) => comovingDistance(Math.max(z(i), 0)) * angle(i));
  }

  function observables(galaxies, centre) {
    const v_los = galaxies.z.map((each) => (setup.speedOfLight * (each - centre.z)) / (1 + centre.z));
    return { v_los, r_proj: radii(galaxies, centre, () => centre.z) };
  }

  // Bell et al. 2003 (cluster_tools.sky.stellar_mass): log10 Msun, from AB magnitudes.
  function stellarMass(magG, magR, z) {
    const modulus = 25 + 5 * Math.log10((comovingDistance(z) / setup.h) * (1 + z));
    const absoluteR = magR - modulus - 2.5 * Math.log10(1 + z);
    return -0.306 + 1.097 * (magG - magR) - 0.15 - 0.4 * (absoluteR - 4.65);
  }

  // --- centre and redshift, where they are not given (cluster_tools.weighing.centres) --------------------

  const WINDOW = 2000; // km/s about the redshift: galaxies of the cluster, mostly
  const [CORE, BRIGHTEST_WITHIN, WIDTH] = [1, 0.25, 0.3]; // comoving Mpc/h
  const [STEPS, MOST, LEAST] = [100, 4000, 0.003]; // of iterations; galaxies between which all distances are taken; redshift

  function median(sorted) {
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  // Beers et al. 1990, as astropy.stats.biweight_location; `x` ascending.
  function biweightLocation(x) {
    const middle = median(x);
    const deviation = median(x.map((each) => Math.abs(each - middle)).sort());
    if (deviation === 0) return middle;
    let [sum, norm] = [0, 0];
    for (const each of x) {
      const u = (each - middle) / (6 * deviation);
      if (Math.abs(u) >= 1) continue;
      sum += (each - middle) * (1 - u ** 2) ** 2;
      norm += (1 - u ** 2) ** 2;
    }
    return middle + sum / norm;
  }

  const near = (z, clusterZ) => Math.abs(z - clusterZ) <= (WINDOW / setup.speedOfLight) * (1 + clusterZ);

  // Of the galaxies within 2000 km/s, about the fullest such window.
  function redshift(all) {
    const z = all.filter((each) => each > LEAST).sort();
    if (!z.length) throw new TableError(`No galaxy near the centre has a redshift above ${LEAST}; check centre and redshifts, or give the redshift.`);
    let [most, fullest, first, last] = [0, [], 0, 0];
    for (const each of z) {
      const reach = (WINDOW / setup.speedOfLight) * (1 + each);
      while (z[first] < each - reach) first++;
      while (last < z.length && z[last] <= each + reach) last++;
      if (last - first > most) [most, fullest] = [last - first, []];
      if (last - first === most) fullest.push(each);
    }
    const middle = median(fullest);
    let found = z.reduce((best, each) => (Math.abs(each - middle) < Math.abs(best - middle) ? each : best));
    for (let step = 0; step < STEPS; step++) {
      const again = biweightLocation(z.filter((each) => near(each, found)));
      if (Math.abs(again - found) < 1e-8) break;
      found = again;
    }
    return found;
  }

  // Where on the sky the galaxies near a redshift are densest, with a Gaussian kernel: {ra, dec}.
  function densest({ ra, dec, z }, clusterZ) {
    const points = [];
    for (let i = 0; i < z.length; i++) {
      if (!near(z[i], clusterZ)) continue;
      const cos = Math.cos(dec[i] * RADIAN);
      points.push([cos * Math.cos(ra[i] * RADIAN), cos * Math.sin(ra[i] * RADIAN), Math.sin(dec[i] * RADIAN)]);
    }
    if (!points.length) throw new TableError(`No galaxy lies within ${WINDOW} km/s of the redshift ${clusterZ}; check it, or give the centre.`);
    const width = WIDTH / comovingDistance(clusterZ); // radians
    const apart = (a, b) => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2; // squared chord
    points.sort((a, b) => a[2] - b[2] || a[1] - b[1] || a[0] - b[0]);
    const every = Math.ceil(points.length / MOST);
    const some = points.filter((_, i) => i % every === 0);
    const reach = (2 * Math.sin(Math.min(width, Math.PI) / 2)) ** 2;
    let [most, place] = [0, null];
    for (const point of some) {
      let count = 0;
      for (const other of some) if (apart(point, other) <= reach) count++;
      if (count > most) [most, place] = [count, point];
    }
    for (let step = 0; step < STEPS; step++) { // mean shift uphill
      const again = [0, 0, 0];
      for (const point of points) {
        const weight = Math.exp(-apart(point, place) / (2 * width ** 2));
        for (let axis = 0; axis < 3; axis++) again[axis] += weight * point[axis];
      }
      const length = Math.hypot(...again);
      const next = again.map((each) => each / length);
      const moved = Math.sqrt(apart(next, place));
      if (moved < 1e-5 * width) break;
      place = next;
    }
    return { ra: (Math.atan2(place[1], place[0]) / RADIAN + 360) % 360, dec: Math.asin(place[2]) / RADIAN };
  }

  // The brightest or most massive galaxy near the densest place, or that place: {ra, dec, how}.
  function centreOf(galaxies, clusterZ) {
    const place = densest(galaxies, clusterZ);
    const radius = radii(galaxies, place, () => clusterZ);
    const rank = galaxies.mag_r ?? galaxies.log_mstar?.map((each) => -each);
    let best = -1;
    for (let i = 0; rank && i < rank.length; i++) {
      if (!(radius[i] <= BRIGHTEST_WITHIN && near(galaxies.z[i], clusterZ) && Number.isFinite(rank[i]))) continue;
      if (best < 0 || rank[i] < rank[best]) best = i;
    }
    if (best < 0) return { ...place, how: "centre: the densest place on the sky" };
    const which = galaxies.mag_r ? "brightest" : "most massive";
    return { ra: galaxies.ra[best], dec: galaxies.dec[best], how: `centre: the ${which} galaxy near the densest place` };
  }

  // {centre: {ra, dec, z}, how}: what is given, and of the rest, what is found and how (cluster_tools.weighing.one_cluster.observe).
  function findCentre(galaxies, given) {
    const how = [];
    let { ra, dec, z } = given;
    if (ra === undefined) {
      const found = centreOf(galaxies, z ?? redshift(galaxies.z));
      [ra, dec] = [found.ra, found.dec];
      how.push(found.how);
    }
    if (z === undefined) {
      const radius = radii(galaxies, { ra, dec }, (i) => galaxies.z[i]);
      const within = (reach) => galaxies.z.filter((_, i) => radius[i] <= reach);
      const core = within(CORE);
      z = redshift(core.length >= setup.fewest ? core : within(setup.aperture));
      how.push("redshift: biweight location of the galaxies near the centre");
    }
    return { centre: { ra, dec, z }, how };
  }

  // --- the networks (cluster_tools.networks.survey_network) ------------------------------------------

  // Base64 of all networks' weights, little-endian as the machines that browsers run on: [kernel, bias] of each layer.
  function decode(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const all = new Float32Array(bytes.buffer);
    let at = 0;
    const take = (length) => all.subarray(at, (at += length));
    const { networks, layers } = setup.survey;
    return Array.from({ length: networks }, () => layers.map(([inputs, outputs]) => [take(inputs * outputs), take(outputs)]));
  }

  const relu = (x) => x.map((value) => Math.max(value, 0));
  const softmax = (x) => {
    const most = Math.max(...x);
    const weight = x.map((value) => Math.exp(value - most));
    const sum = weight.reduce((total, each) => total + each, 0);
    return weight.map((each) => each / sum);
  };

  // One cluster's {answer, labels} of one network (survey_network.forward), from galaxies [v_los, r_proj].
  function forward(layers, v, r, known) {
    const dense = (number, x) => {
      const [kernel, bias] = layers[number];
      const y = Float64Array.from(bias);
      for (let i = 0; i < x.length; i++) {
        if (x[i] === 0) continue;
        for (let o = 0, at = i * y.length; o < y.length; o++) y[o] += x[i] * kernel[at + o];
      }
      return Array.from(y);
    };
    const mean = (rows, weights) => {
      const sum = new Array(rows[0].length).fill(0);
      let total = 0.001;
      rows.forEach((row, g) => {
        total += weights[g];
        row.forEach((value, i) => { sum[i] += weights[g] * value; });
      });
      return sum.map((value) => value / total);
    };
    const one = Array.from(v, () => 1);
    let x = Array.from(v, (speed, g) => {
      const km = speed / 1000;
      const galaxy = [km, r[g], Math.log(0.05 + Math.abs(km)), Math.log(0.05 + r[g])];
      return relu(dense(1, relu(dense(0, [...galaxy, ...known]))));
    });
    const beside = dense(2, [...mean(x, one), ...known]);
    x = x.map((galaxy) => relu(dense(4, relu(dense(3, galaxy).map((value, i) => value + beside[i])))));
    const labels = x.map((galaxy) => softmax(dense(5, galaxy)));
    const members = mean(x, labels.map((label) => label[2]));
    const answer = dense(8, relu(dense(7, relu(dense(6, [...mean(x, one), ...members, ...known])))));
    return { answer, labels };
  }

  // Density on the grid of a network's mixture, cut off at its ends.
  function densityOf(answer) {
    const { components: k, minSigma, grid, range: [low, high] } = setup.survey;
    const weight = softmax(answer.slice(0, k));
    const sigma = answer.slice(2 * k, 3 * k).map((value) => minSigma + Math.exp(value));
    const density = grid.map((mass) => {
      const y = (2 * (mass - low)) / (high - low) - 1;
      return weight.reduce((sum, w, i) => sum + (w / sigma[i]) * Math.exp(-0.5 * ((y - answer[k + i]) / sigma[i]) ** 2), 0);
    });
    const whole = cumulative(density).at(-1);
    return density.map((value) => value / whole);
  }

  // --- the posterior (cluster_tools.weighing.survey_calibration) -------------------------------------

  function cumulative(density) {
    const share = [0];
    for (let i = 1; i < density.length; i++) share.push(share[i - 1] + (density[i] + density[i - 1]) / 2);
    return share;
  }

  // Linear interpolation in rising xs, as numpy.interp.
  function interp(x, xs, ys) {
    if (x <= xs[0]) return ys[0];
    if (x >= xs.at(-1)) return ys.at(-1);
    let k = 1;
    while (xs[k] < x) k++;
    return ys[k - 1] + ((x - xs[k - 1]) / (xs[k] - xs[k - 1])) * (ys[k] - ys[k - 1]);
  }

  function quantilesOf(density, levels) {
    const share = cumulative(density);
    const whole = share.at(-1);
    return levels.map((level) => interp(level, share.map((each) => each / whole), setup.survey.grid));
  }

  // Probabilities of labels (survey_calibration.recalibrated).
  function recalibrated(labels, logM200c) {
    const m = logM200c - 14.3;
    const [interloper, infalling, stretch] = setup.survey.labels.map(([a, b, c]) => a + b * m + c * m ** 2);
    return softmax(labels.map((p, k) => stretch * Math.log(Math.max(p, 1e-6)) + [interloper, infalling, 0][k]));
  }

  // The package's words, with its format of numbers: {name} or {name:.2f}.
  const say = (key, values = {}) => setup.survey.words[key].replace(/\{(\w+)(?::\.(\d)f)?\}/g, (_, name, digits) =>
    digits === undefined ? String(values[name]) : values[name].toFixed(digits));

  // Halo mass function at masses [log10 Msun/h], up to a constant (survey_model.abundance).
  function abundance(mass, z) {
    const { redshifts, abundance: table, grid } = setup.survey;
    let k = 1;
    while (k < redshifts.length - 1 && redshifts[k] <= z) k++;
    const share = (z - redshifts[k - 1]) / (redshifts[k] - redshifts[k - 1]);
    const log = mass.map((m) => interp(m, grid, table[k - 1].map((each, i) => (1 - share) * each + share * table[k][i])));
    return log.map((each) => Math.exp(each - log[0]));
  }

  // The mass of selected galaxies, or why there is none (cluster_tools.weighing.survey_estimate.estimate).
  function estimate({ v, r, z, fieldRadius, hasMasses, error, isFound }, networks, progress) {
    const { survey } = setup;
    const expands = (at) => expansion(at) / (1 + at);
    const scale = expands(z) / expands(setup.trainedAt);
    const shift = Math.log10(expansion(z) / expansion(setup.trainedAt));
    const used = Array.from(r.keys()).filter((i) => r[i] * scale <= setup.aperture);
    const n = used.length;
    const field = Math.min(fieldRadius * scale, setup.aperture);
    const [nearest, farthest] = survey.holds;
    if (!(z >= nearest && z <= farthest)) return { refusal: say("redshift", { z, low: nearest, high: farthest }) };
    if (n < setup.fewest) return { refusal: say("few", { n, least: setup.fewest }) };
    if (field < 0.9 * survey.smallestField) return { refusal: say("field", { field, least: survey.smallestField }) };
    if (error > survey.largestError) return { refusal: say("error", { error, most: survey.largestError }) };
    const known = [
      Math.log10(Math.min(n, survey.mostTold) / 50), Math.log(Math.max(field, 0.2) / setup.aperture) + 0.7,
      error / 150 - 1, hasMasses ? setup.minLogMstar - 9.85 : 0, hasMasses ? 1 : 0,
    ];
    const answers = networks.map((layers, i) => {
      const answer = forward(layers, used.map((g) => v[g]), used.map((g) => r[g] * scale), known);
      progress((i + 1) / networks.length);
      return answer;
    });
    const average = (x) => x.reduce((sum, each) => sum + each, 0) / x.length;
    const densities = answers.map(({ answer }) => densityOf(answer));
    const density = survey.grid.map((_, i) => average(densities.map((each) => each[i])));
    const logOdds = average(answers.map(({ answer }) => answer.at(-1)));
    const member = Array(r.length).fill(null);
    const mass = survey.grid.map((each) => each - shift);
    const [low, middle, high, lowest, highest] = quantilesOf(density, [0.16, 0.5, 0.84, 0.025, 0.975]);
    used.forEach((g, place) => { member[g] = recalibrated([0, 1, 2].map((k) => average(answers.map(({ labels }) => labels[place][k]))), middle)[2]; });
    const ending = isFound ? "_found" : "";
    const [leasts, faints, uniforms] = ["least", "faint", "uniform"].map((name) => survey.presence.map((bin) => bin[name + ending]));
    const usual = (values) => interp(Math.log(n), survey.presence.map((bin) => Math.log(bin.n)), values);
    const [least, faint, uniform] = [leasts, faints, uniforms].map(usual);
    const enough = uniforms.findIndex((each) => each <= survey.mostUniform);
    const ends = (values) => [enough, Math.max(enough - 1, 0)].map((k) => values.at(enough < 0 ? -1 : k));
    const clear = interp(survey.mostUniform, ends(uniforms), ends(leasts));
    const isSparse = isFound && clear > least;
    const [first, last] = [mass[0] + survey.edge, mass.at(-1) - survey.edge];
    const found = { logOdds, member, members: member.reduce((sum, p) => sum + (p ?? 0), 0), field: field / scale };
    if (logOdds < least) return { ...found, refusal: say("no cluster", { odds: logOdds, least }) };
    if (middle - shift < first) return { ...found, refusal: say("light", { mass: first }) };
    if (middle - shift > last) return { ...found, refusal: say("heavy", { mass: last }) };
    if (isSparse && logOdds < clear) return { ...found, refusal: say("no centre", { n, odds: logOdds, least: clear }) };
    const prior = abundance(mass, z);
    const samples = quantilesOf(density, Array.from({ length: survey.samples }, (_, i) => (i + 0.5) / survey.samples)).map((each) => each - shift);
    const mean = average(samples);
    const share = cumulative(density).map((each, _, all) => each / all.at(-1));
    const warnings = [];
    if (uniform > survey.mostUniform && !isSparse) warnings.push(say("sparse", { n: v.length, percent: 100 * uniform }));
    if (logOdds < faint) warnings.push(say("faint"));
    const fastest = v.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
    if (v.length * survey.onRim >= survey.expectedOnRim && fastest < survey.rim * setup.velocityCut) warnings.push(say("slow", { v: survey.rim * setup.velocityCut }));
    if (interp(first, mass, share) > survey.cutOff) warnings.push(say("upper limit", { mass: mass[0] }));
    if (1 - interp(last, mass, share) > survey.cutOff) warnings.push(say("lower limit", { mass: mass.at(-1) }));
    if (z < survey.near) warnings.push(say("near", { z, percent: (100 * 300) / (z * setup.speedOfLight) }));
    return {
      ...found, warnings,
      posterior: {
        log_m200c: mass, density, mean, sigma: Math.sqrt(average(samples.map((each) => (each - mean) ** 2))),
        quantiles: [low, middle, high].map((each) => each - shift), quantiles95: [lowest, highest].map((each) => each - shift),
        abundance: quantilesOf(density.map((each, i) => each * prior[i]), [0.16, 0.5, 0.84]).map((each) => each - shift),
      },
    };
  }

  // Comoving R200c [Mpc/h] (cluster_tools.coma.nfw.r200c).
  function r200c(logM200c, z) {
    const density = 200 * setup.criticalDensity * expansion(z) ** 2;
    return (1 + z) * Math.cbrt((3 * 10 ** logM200c) / (4 * Math.PI * density));
  }

  // --- all of it -------------------------------------------------------------------------------

  function weigh(text, given, base64, progress) {
    const table = readTable(text);
    const columns = standardColumns(table);
    const { good, counts } = usable(columns);
    const kept = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, Float64Array.from(good, (i) => values[i])]));
    const found = kept.ra ? findCentre(kept, given) : { centre: { z: given.z ?? setup.trainedAt }, how: [] };
    const { v_los, r_proj } = kept.ra ? observables(kept, found.centre) : kept;
    const mass = kept.log_mstar ?? kept.mag_r?.map((magR, i) => stellarMass(kept.mag_g[i], magR, found.centre.z));
    Object.assign(counts, { outside: 0, fast: 0, massless: 0, light: 0 });
    const used = [];
    for (let i = 0; i < v_los.length; i++) {
      if (r_proj[i] > setup.aperture) counts.outside += 1;
      else if (Math.abs(v_los[i]) >= setup.velocityCut) counts.fast += 1;
      else if (mass && !(mass[i] >= 0 && mass[i] <= 15)) counts.massless += 1;
      else if (mass && mass[i] < setup.minLogMstar) counts.light += 1;
      else used.push(i);
    }
    const rows = Object.values(columns)[0].length;
    const galaxies = { rows, used: used.length, rejected: counts, because: because(counts) };
    if (used.length < setup.fewest) {
      throw new TableError(
        `${used.length} of ${galaxies.rows} galaxies can be used, but at least ${setup.fewest} are needed${because(counts) && ` (${because(counts)})`}; ` +
        "check the units of the columns, and the centre and redshift.");
    }
    const [v, r] = [v_los, r_proj].map((values) => Float64Array.from(used, (i) => values[i]));
    const inside = Array.from(r_proj).filter((radius) => radius <= setup.aperture);
    const largest = inside.reduce((most, radius) => Math.max(most, radius), 0);
    const fieldRadius = Math.min(largest * (1 + 0.5 / inside.length), setup.aperture);
    const z = found.centre.z;
    const all = kept.ra ? velocityErrors(table) : null;
    const errors = used.map((i) => all?.[good[i]] / (1 + kept.z?.[i])).filter(Number.isFinite).sort((a, b) => a - b);
    const error = given.error ?? (errors.length ? median(errors) : setup.survey.unknownError);
    const errorIs = given.error === undefined ? (errors.length ? "the median of the table's" : "assumed") : "given";
    const answer = estimate({ v, r, z, fieldRadius, hasMasses: Boolean(mass), error, isFound: found.how.length > 0 }, decode(base64), progress);
    return {
      galaxies, ...found, hasMasses: Boolean(mass), error, errorIs, v_los: v, r_proj: r, ...answer,
      r200c: answer.posterior?.quantiles.map((logM200c) => r200c(logM200c, z)),
    };
  }

  const because = (counts) => Object.entries(setup.reasons)
    .filter(([reason]) => counts[reason]).map(([reason, words]) => `${counts[reason]} ${words}`).join(", ");

  self.onmessage = ({ data }) => {
    try {
      setup = data.setup;
      const result = weigh(data.text, data.given, data.weights, (share) => self.postMessage({ progress: share }));
      self.postMessage({ result });
    } catch (error) {
      if (!(error instanceof TableError)) throw error;
      self.postMessage({ refused: error.message });
    }
  };
}
