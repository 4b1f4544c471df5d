"use strict";
// From the galaxies of a table (table.js) to the mass of a cluster. Runs in a Web Worker, which page.js makes from
// this function's source: pages opened from a disk may not load workers from files.
//
// What is done here is what the package does; each function names its twin there. Numbers and names
// that both need come from setup.js (`cluster_tools.book.web.export`). Arrays are [v_los, r_proj].

function weighCore() {
  let setup;
  let read; // a table (weighTable)

  class TableError extends Error {}

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

  function direction(ra, dec) {
    const cos = Math.cos(dec * RADIAN);
    return [cos * Math.cos(ra * RADIAN), cos * Math.sin(ra * RADIAN), Math.sin(dec * RADIAN)];
  }

  const apart = (a, b) => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2; // squared chord

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

  // The words that name a second cluster in the line of sight of one at this redshift, if there is one (centres.rival).
  function rival(all, location) {
    const z = all.filter((each) => each > LEAST);
    const window = (WINDOW / setup.speedOfLight) * (1 + location);
    const rich = z.filter((each) => Math.abs(each - location) <= window).length;
    const others = z.filter((each) => Math.abs(each - location) > 2 * window);
    if (others.length < setup.nearlyAsRich * rich || !others.length) return [];
    const other = redshift(others);
    const count = others.filter((each) => near(each, other)).length;
    if (count < Math.max(setup.nearlyAsRich * rich, setup.fewestRival)) return [];
    return [say("two clusters", { other, count, z: location, rich })];
  }

  // Where on the sky the galaxies near a redshift are densest, with a Gaussian kernel: {ra, dec}.
  function densest({ ra, dec, z }, clusterZ) {
    const points = [];
    for (let i = 0; i < z.length; i++) {
      if (!near(z[i], clusterZ)) continue;
      points.push(direction(ra[i], dec[i]));
    }
    if (!points.length) throw new TableError(`No galaxy lies within ${WINDOW} km/s of the redshift ${clusterZ}; check it, or give the centre.`);
    const width = WIDTH / comovingDistance(clusterZ); // radians
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
    const [how, notes] = [[], []];
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
      const around = core.length >= setup.fewestCore ? core : within(setup.aperture);
      z = redshift(around);
      notes.push(...rival(around, z));
      how.push("redshift: biweight location of the galaxies near the centre");
    }
    return { centre: { ra, dec, z }, how, notes };
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
  const say = (key, values = {}) => fill(setup.survey.words[key], values);
  const fill = (words, values) => words.replace(/\{(\w+)(?::\.(\d)f)?\}/g, (_, name, digits) =>
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
  function estimate({ v, r, z, fieldRadius, hasMasses, error, complete, isFound, notes }, networks, progress) {
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
      Math.log10((complete ? n * 10 ** shift : Math.min(n, survey.mostTold)) / 50), Math.log(field / setup.aperture) + 0.7,
      error / 150 - 1, hasMasses ? setup.minLogMstar - 9.85 : 0, hasMasses ? 1 : 0, complete ? 1 : 0,
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
    if (uniform >= survey.mostUniform) warnings.push(say("sparse", { n, percent: 100 * (isSparse ? survey.mostUniform : uniform) }));
    warnings.push(...notes);
    if (logOdds < faint) warnings.push(say("faint"));
    const fastest = used.reduce((most, g) => Math.max(most, Math.abs(v[g])), 0);
    if (n * survey.onRim >= survey.expectedOnRim && fastest < survey.rim * setup.velocityCut) warnings.push(say("slow", { v: survey.rim * setup.velocityCut }));
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

  // Comoving R200c [Mpc/h] (cluster_tools.cosmology.r200c).
  function r200c(logM200c, z) {
    const density = 200 * setup.criticalDensity * expansion(z) ** 2;
    return (1 + z) * Math.cbrt((3 * 10 ** logM200c) / (4 * Math.PI * density));
  }

  // --- the dynamical state (cluster_tools.weighing.dynamics) -----------------------------------

  // Log of the share of a Gaussian below x; erfc by a rational Chebyshev fit (Press et al. 2007, section 6.2.2).
  function logBelow(x) {
    const t = 2 / (2 + Math.abs(x) * Math.SQRT1_2);
    const series = [1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
    const log = Math.log(t / 2) - x ** 2 / 2 - 1.26551223 + series.reduceRight((sum, c) => t * (c + sum), 0);
    return x < 0 ? log : Math.log1p(-Math.exp(log));
  }

  function andersonDarling(v) {
    const n = v.length;
    const mean = v.reduce((sum, each) => sum + each, 0) / n;
    const sigma = Math.sqrt(v.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (n - 1));
    const x = v.map((each) => (each - mean) / sigma).sort((a, b) => a - b);
    const sum = x.reduce((total, each, i) => total + (2 * i + 1) * (logBelow(each) + logBelow(-x[n - 1 - i])), 0);
    const a2 = Math.min((-n - sum / n) * (1 + 0.75 / n + 2.25 / n ** 2), 100); // as in dynamics.py
    if (a2 >= 0.6) return Math.exp(1.2937 - 5.709 * a2 + 0.0186 * a2 ** 2);
    if (a2 > 0.34) return Math.exp(0.9177 - 4.279 * a2 - 1.38 * a2 ** 2);
    if (a2 > 0.2) return 1 - Math.exp(-8.318 + 42.796 * a2 - 59.938 * a2 ** 2);
    return 1 - Math.exp(-13.436 + 101.14 * a2 - 223.73 * a2 ** 2);
  }

  // Galaxies and random numbers are in the package's order, so that the probability is the same.
  function dresslerShectman(places, v) {
    const { neighbours, shuffles: [fewest, most], mostShuffled, multiplier, modulus } = setup.dynamics;
    const n = v.length;
    const near = places.map((place) => {
      const nearest = []; // [distance, galaxy], rising
      for (let g = 0; g < n; g++) {
        const distance = apart(place, places[g]);
        if (nearest.length > neighbours && distance >= nearest[neighbours][0]) continue;
        let at = nearest.length;
        while (at > 0 && nearest[at - 1][0] > distance) at--;
        nearest.splice(at, 0, [distance, g]);
        nearest.length = Math.min(nearest.length, neighbours + 1);
      }
      return nearest.map(([, g]) => g);
    });
    const k = neighbours + 1;
    const middle = v.reduce((sum, each) => sum + each, 0) / n;
    const centred = v.map((each) => each - middle);
    const sigma = Math.sqrt(centred.reduce((sum, each) => sum + each ** 2, 0) / (n - 1));
    const delta = (velocities) => near.reduce((total, group) => {
      let [sum, squares] = [0, 0];
      for (const g of group) [sum, squares] = [sum + velocities[g], squares + velocities[g] ** 2];
      const variance = Math.max((squares - sum ** 2 / k) / (k - 1), 0);
      return total + Math.sqrt((sum / k) ** 2 + (Math.sqrt(variance) - sigma) ** 2);
    }, 0);
    const measured = delta(centred) * (1 - 1e-12);
    const shuffles = Math.min(Math.max(Math.floor(mostShuffled / (n * k)), fewest), most);
    let [larger, state] = [0, 1];
    for (let shuffle = 0; shuffle < shuffles; shuffle++) {
      const order = Float64Array.from(v, (_, i) => (state = (state * multiplier) % modulus) * n + i).sort(); // exact
      if (delta(order.map((each) => centred[each % n])) >= measured) larger++;
    }
    return (1 + larger) / (1 + shuffles);
  }

  // A number with two digits, as Python's ".2g".
  function twoDigits(p) {
    const [digits, power] = p.toExponential(1).split("e").map(Number);
    if (power >= -4) return String(Number(p.toPrecision(2)));
    return `${digits}e-${String(-power).padStart(2, "0")}`;
  }

  // In words, from those of the galaxies that are members, more likely than not; `places` may be unknown.
  function dynamicalState(v, places, member) {
    const { words, grades, fewestMembers } = setup.dynamics;
    const used = [...v.keys()].filter((i) => member[i] > 0.5);
    const velocities = used.map((i) => v[i]);
    if (used.length < fewestMembers || velocities.every((each) => each === velocities[0])) return fill(words.few, { n: used.length, least: fewestMembers });
    const graded = (p, kind) => fill(words[kind], { n: used.length, grade: words[`${kind} grades`][p > grades[0] ? 0 : p > grades[1] ? 1 : 2], p: twoDigits(p) });
    const gaussian = graded(andersonDarling(velocities), "gaussian");
    return places ? gaussian + graded(dresslerShectman(used.map((i) => places[i]), velocities), "substructure") : gaussian;
  }

  // --- all of it -------------------------------------------------------------------------------

  function weigh(text, given, base64, progress) {
    const { columns: kept, rows, counts } = read(text, given.columns);
    const found = kept.ra ? findCentre(kept, given) : { centre: { z: given.z ?? setup.trainedAt }, how: [], notes: [] };
    const { v_los, r_proj } = kept.ra ? observables(kept, found.centre) : kept;
    const mass = kept.log_mstar ?? kept.mag_r?.map((magR, i) => stellarMass(kept.mag_g[i], magR, found.centre.z));
    Object.assign(counts, { outside: 0, fast: 0, massless: 0, light: 0 });
    const used = [];
    for (let i = 0; i < v_los.length; i++) {
      if (!(r_proj[i] <= setup.aperture)) counts.outside += 1;
      else if (Math.abs(v_los[i]) >= setup.velocityCut) counts.fast += 1;
      else if (mass && Number.isNaN(mass[i])) counts.massless += 1;
      else if (mass && mass[i] < setup.minLogMstar) counts.light += 1;
      else used.push(i);
    }
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
    const errors = used.map((i) => kept.v_error?.[i]).filter(Number.isFinite).sort((a, b) => a - b);
    const error = given.error ?? (errors.length ? median(errors) : setup.survey.unknownError);
    const errorIs = given.error === undefined ? (errors.length ? "the median of the table's" : "assumed") : "given";
    const answer = estimate({ v, r, z, fieldRadius, hasMasses: Boolean(mass), error, complete: given.complete, isFound: found.how.length > 0, notes: found.notes }, decode(base64), progress);
    return {
      galaxies, ...found, hasMasses: Boolean(mass), error, errorIs, v_los: v, r_proj: r, ...answer,
      dynamics: answer.posterior ? dynamicalState(v, kept.ra ? used.map((i) => direction(kept.ra[i], kept.dec[i])) : null, answer.member) : "",
      r200c: answer.posterior?.quantiles.map((logM200c) => r200c(logM200c, z)),
    };
  }

  const because = (counts) => Object.entries(setup.reasons)
    .filter(([reason]) => counts[reason]).map(([reason, words]) => `${counts[reason]} ${words}`).join(", ");

  self.onmessage = ({ data }) => {
    try {
      setup = data.setup;
      read = weighTable(setup, TableError).read;
      const result = weigh(data.text, data.given, data.weights, (share) => self.postMessage({ progress: share }));
      self.postMessage({ result });
    } catch (error) {
      if (!(error instanceof TableError)) throw error;
      self.postMessage({ refused: error.message });
    }
  };
}
