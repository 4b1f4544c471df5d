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

  // --- the image (cluster_tools.mocks.kde.phase_space_images) ----------------------------------------

  function phaseSpaceImage(v, r) {
    const { pixels, bandwidth, aperture, velocityCut } = setup;
    const n = v.length;
    const mean = (x) => x.reduce((sum, each) => sum + each, 0) / n;
    const [meanV, meanR] = [mean(v), mean(r)];
    let [vv, vr, rr] = [0, 0, 0];
    for (let g = 0; g < n; g++) {
      vv += (v[g] - meanV) ** 2;
      vr += (v[g] - meanV) * (r[g] - meanR);
      rr += (r[g] - meanR) ** 2;
    }
    [vv, vr, rr] = [vv, vr, rr].map((sum) => (sum / (n - 1)) * bandwidth ** 2);
    const determinant = vv * rr - vr ** 2;
    if (!(determinant > 1e-10 * vv * rr) || !(rr > 1e-16)) {
      throw new TableError("The galaxies have no phase-space density: their velocities or radii are all the same, or on one line.");
    }
    const shear = vr / rr; // the kernel's centre in v moves by this much per Mpc/h
    const variance = determinant / rr; // of v at fixed r
    const image = new Float64Array(pixels * pixels);
    for (let g = 0; g < n; g++) {
      for (let j = 0; j < pixels; j++) {
        const dr = ((j + 0.5) / pixels) * aperture - r[g];
        const peak = Math.exp((-0.5 * dr ** 2) / rr);
        if (peak < 1e-16) continue;
        const centre = v[g] + shear * dr;
        for (let k = 0; k < pixels; k++) {
          const dv = (((k + 0.5) / pixels) * 2 - 1) * velocityCut - centre;
          image[k * pixels + j] += peak * Math.exp((-0.5 * dv ** 2) / variance);
        }
      }
    }
    const total = image.reduce((sum, each) => sum + each, 0);
    return Float32Array.from(image, (each) => each / total);
  }

  // --- the networks (cluster_tools.networks.ensembles.CNNEnsemble.posterior) ----------------------------------------------

  // NumPy's bit generator SFC64 (Doty-Humphrey's Small Fast Chaotic), from its state [low, high, ...]: a
  // function that fills an array with 16 bits each. Numbers of 64 bits are kept as two halves.
  function sfc64(state) {
    let [a0, a1, b0, b1, c0, c1, w0, w1] = state;
    return (bits) => {
      for (let i = 0; i < bits.length; i += 4) {
        const sum = a0 + b0 + w0; // exact, below 2^53
        const [low, high] = [sum >>> 0, (a1 + b1 + w1 + Math.floor(sum / 2 ** 32)) >>> 0];
        w0 = (w0 + 1) >>> 0;
        if (w0 === 0) w1 = (w1 + 1) >>> 0;
        a0 = (b0 ^ ((b0 >>> 11) | (b1 << 21))) >>> 0; // a = b ^ (b >> 11)
        a1 = (b1 ^ (b1 >>> 11)) >>> 0;
        const ninefold = c0 + ((c0 << 3) >>> 0); // b = c + (c << 3)
        b0 = ninefold >>> 0;
        b1 = (c1 + ((c1 << 3) | (c0 >>> 29)) + (ninefold >= 2 ** 32 ? 1 : 0)) >>> 0;
        const turned = (((c0 << 24) | (c1 >>> 8)) >>> 0) + low; // c = rotl(c, 24) + result
        c1 = (((c1 << 24) | (c0 >>> 8)) + high + (turned >= 2 ** 32 ? 1 : 0)) >>> 0;
        c0 = turned >>> 0;
        bits[i] = low;
        bits[i + 1] = low >>> 16;
        bits[i + 2] = high;
        bits[i + 3] = high >>> 16; // beyond the end, nothing is written
      }
    };
  }

  // A convolution along v_los with zeros beyond the ends; a dense layer is one of width 1 over one row.
  function affine({ width, inputs, outputs, relu }, kernel, bias, x) {
    const rows = x.length / inputs;
    const y = new Float64Array(rows * outputs);
    for (let row = 0; row < rows; row++) {
      const sums = y.subarray(row * outputs, (row + 1) * outputs);
      sums.set(bias);
      for (let k = 0; k < width; k++) {
        const source = row + k - (width >> 1);
        if (source < 0 || source >= rows) continue;
        for (let i = 0; i < inputs; i++) {
          const value = x[source * inputs + i];
          if (value === 0) continue;
          const at = (k * inputs + i) * outputs;
          for (let o = 0; o < outputs; o++) sums[o] += value * kernel[at + o];
        }
      }
      if (relu) for (let o = 0; o < outputs; o++) if (sums[o] < 0) sums[o] = 0;
    }
    return y;
  }

  // Outputs [mu, s] of `count` passes with dropout, layer by layer, as cluster_tools.networks.dropout.forward has it;
  // `weights` are [kernel, bias] of each layer.
  function forward(weights, image, count, fill) {
    const { layers, factor, rate, decisions } = setup.networks;
    const least = Math.round(rate * decisions);
    let passes = Array(count).fill(image.map((value) => value * factor));
    layers.forEach((layer, i) => {
      const units = passes[0].length;
      const bits = new Uint16Array(count * units);
      fill(bits);
      passes = passes.map((x, pass) => {
        const kept = x.map((value, unit) => (bits[pass * units + unit] >= least ? (value * decisions) / (decisions - least) : 0));
        return affine(layer, ...weights[i], kept);
      });
    });
    return passes;
  }

  // Base64 of all networks' weights, little-endian as the machines that browsers run on.
  function decode(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const all = new Float32Array(bytes.buffer);
    let at = 0;
    const take = (length) => all.subarray(at, (at += length));
    const { layers, noise } = setup.networks;
    return noise.map(() => layers.map(({ width, inputs, outputs }) => [take(width * inputs * outputs), take(outputs)]));
  }

  // {mu, sigma}, of each draw of each network in log10 M200c.
  function draw(networks, image, progress) {
    const [low, high] = setup.networks.range;
    const toDex = (high - low) / 2;
    const [mu, sigma] = [[], []];
    networks.forEach((weights, i) => {
      const fill = sfc64(setup.networks.noise[i]);
      for (let done = 0; done < setup.draws; done += setup.networks.together) {
        const count = Math.min(setup.networks.together, setup.draws - done);
        for (const [mean, logVariance] of forward(weights, Float64Array.from(image), count, fill)) {
          mu.push(low + (mean + 1) * toDex);
          sigma.push(Math.exp(logVariance / 2) * toDex);
        }
      }
      progress((i + 1) / networks.length);
    });
    return { mu, sigma };
  }

  // The normal distribution's share below x, to 1e-7 (Abramowitz & Stegun 1964, 26.2.17).
  function shareBelow(x) {
    const t = 1 / (1 + 0.2316419 * Math.abs(x));
    const series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
    const above = (Math.exp(-0.5 * x ** 2) / Math.sqrt(2 * Math.PI)) * series;
    return x > 0 ? 1 - above : above;
  }

  // The mean of the draws' Gaussians: its moments, its density on a grid of masses, and its quantiles.
  function mixture(mu, sigma) {
    const average = (x) => x.reduce((sum, each) => sum + each, 0) / x.length;
    const mean = average(mu);
    const spread = Math.sqrt(average(mu.map((m) => (m - mean) ** 2)) + average(sigma.map((s) => s ** 2)));
    const at = (shape, x) => average(mu.map((m, i) => shape((x - m) / sigma[i], sigma[i])));
    const gaussian = (u, s) => Math.exp(-0.5 * u ** 2) / (Math.sqrt(2 * Math.PI) * s);
    const grid = Array.from({ length: setup.grid }, (_, i) => mean + spread * ((12 * i) / (setup.grid - 1) - 6));
    const quantiles = setup.levels.map((level) => {
      let [low, high] = [mean - 6 * spread, mean + 6 * spread];
      for (let step = 0; step < 40; step++) {
        const middle = (low + high) / 2;
        if (at(shareBelow, middle) < level) low = middle;
        else high = middle;
      }
      return (low + high) / 2;
    });
    return { mean, sigma: spread, log_m200c: grid, density: grid.map((x) => at(gaussian, x)), quantiles };
  }

  // Comoving R200c [Mpc/h] (cluster_tools.coma.nfw.r200c).
  function r200c(logM200c, z) {
    const density = 200 * setup.criticalDensity * expansion(z) ** 2;
    return (1 + z) * Math.cbrt((3 * 10 ** logM200c) / (4 * Math.PI * density));
  }

  // --- all of it -------------------------------------------------------------------------------

  function weigh(text, given, base64, progress) {
    const columns = standardColumns(readTable(text));
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
    const image = phaseSpaceImage(v, r);
    const draws = draw(decode(base64), image, progress);
    const posterior = mixture(draws.mu, draws.sigma);
    return {
      galaxies, ...found, hasMasses: Boolean(mass), v_los: v, r_proj: r, image, draws, posterior,
      r200c: posterior.quantiles.map((logM200c) => r200c(logM200c, found.centre.z)),
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
