"use strict";
// From the text of a table to its galaxies, as the package reads them (cluster_tools.table_files, cells, tables and
// weighing.galaxy_table; each function names its twin). Names, words and patterns come from setup.js.

function weighTable(setup, TableError) {
  const whole = (pattern) => new RegExp(`^(?:${pattern})$`, "i");
  const patterns = Object.fromEntries(Object.entries(setup.patterns).map(([name, pattern]) => [name, whole(pattern)]));
  const KILOMETRES = { "km/s": 1, "km.s-1": 1, kms: 1, km_s: 1, "kms-1": 1, "km/sec": 1, "m/s": 0.001, "m.s-1": 0.001, "ms-1": 0.001 };
  const ANGLES = { deg: 1, degree: 1, arcmin: 1 / 60, arcsec: 1 / 3600, rad: 180 / Math.PI };
  const quoted = (text) => `'${text}'`;
  const refuse = (words) => { throw new TableError(`'the table'${words}`); };

  // --- cells (cluster_tools.cells) -------------------------------------------------------------

  const SAME = { "\uFEFF": "", "$": "", "\u2212": "-", "\u00A0": " ", "\u02B0": "h", "\u1D50": "m", "\u02E2": "s" };
  function textOf(cell) {
    const text = cell.replace(/[\uFEFF$\u2212\u00A0\u02B0\u1D50\u02E2]/g, (sign) => SAME[sign]).trim().replace(/^"+|"+$/g, "").trim();
    return text.match(patterns.quoted)?.[1] ?? text;
  }
  const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
  const isNumber = (cell) => NUMBER.test(cell.trim()) || /^[-+]?(nan|inf|infinity)$/i.test(cell.trim());
  const ANGLE = /^([-+]?)\s*(\d{1,3})\s*([hd°:\s])\s*([0-5]?\d(?:\.\d*)?)(?:\s*[m'′:\s]\s*([0-5]?\d(?:\.\d*)?))?\s*(?:[ms"″'′]|'')?$/;

  // Numbers, NaN where a value is missing; [row, cell] of the first that is none is thrown (cells.numbers).
  function numbers(cells, sexagesimal, thousands = false) {
    let texts = cells.map(textOf).map((cell) => (patterns.missing.test(cell) ? "nan" : cell));
    texts = texts.map((cell) => (cell.match(patterns.followed)?.[1] ?? cell).trimEnd().replaceAll("–", "-"));
    const commas = texts.filter((cell) => cell.includes(","));
    const isThousands = (cell) => patterns.thousands.test(cell);
    const mayPart = commas.every(isThousands);
    if (mayPart && thousands) texts = texts.map((cell) => (isThousands(cell) ? cell.replace(/[,'\s]/g, "") : cell));
    else if ((sexagesimal || !mayPart) && commas.every((cell) => patterns.comma.test(cell))) texts = texts.map((cell) => cell.replace(",", "."));
    return Float64Array.from(texts, (cell, row) => {
      const plain = cell.replace(/^([-+.\d]+)d([-+]?\d+)$/i, "$1e$2");
      if (plain === "nan" || NUMBER.test(plain)) return Number(plain);
      const angle = sexagesimal && plain.match(ANGLE);
      if (angle) {
        const size = Number(angle[2]) + Number(angle[4]) / 60 + Number(angle[5] ?? 0) / 3600;
        const hours = angle[3] === "h" || (sexagesimal === "hours" && !"d°".includes(angle[3]));
        return (angle[1] === "-" ? -1 : 1) * size * (hours ? 15 : 1);
      }
      if (isNumber(plain)) return NaN; // infinite
      throw [row, cells[row]];
    });
  }

  function isValue(cell) {
    try { return numbers([cell], "degrees").length === 1; } catch { return false; }
  }

  // --- text (cluster_tools.table_files._delimited) ---------------------------------------------

  function split(line, delimiter) {
    if (!line.includes('"')) return delimiter === " " ? line.trim().split(/ +/) : line.split(delimiter).map((cell) => cell.replace(/^ +/, ""));
    const cells = [""]; // a quoted cell may hold the delimiter, and "" for a quotation mark
    let isQuoted = false;
    for (let i = 0; i < line.length; i++) {
      const last = cells.length - 1;
      if (line[i] === '"' && isQuoted && line[i + 1] === '"') cells[last] += line[++i];
      else if (line[i] === '"') isQuoted = !isQuoted;
      else if (!isQuoted && line[i] === " " && !cells[last]) continue;
      else if (!isQuoted && line[i] === delimiter) cells.push("");
      else cells[last] += line[i];
    }
    return cells;
  }

  function tidy(line, first, delimiter) {
    if (delimiter === "&") return line.split("\\\\")[0].trim();
    if (delimiter === " ") return line.replace(/\t/g, " ").trim();
    return delimiter === "|" && first.startsWith("|") ? line.replace(/^\|/, "").replace(/\|$/, "") : line;
  }

  const rowOf = (line, delimiter, first = line) => split(tidy(line, first, delimiter), delimiter);

  function namesOf(line, given) {
    const count = (character) => line.split(character).length;
    let delimiter = given ?? ["\t", ";", ",", "|", "&"].reduce((best, each) => (count(each) > count(best) ? each : best));
    if (!line.includes(delimiter)) {
      delimiter = " ";
      line = line.split(" # ")[0].replace(/(?<!\s)\s+(?=[[(][^\s\])]{1,20}[\])])/g, ""); // a comment, and the blank before a unit
    }
    if (delimiter === "&") line = line.replace(/\\[a-z]+\{|[${}]/g, "");
    return { delimiter, names: rowOf(line, delimiter).map((name) => name.trim().replace(/^'(.*)'$/, "$1")) };
  }

  // A line without a comment behind its values (table_files._without_comment).
  function withoutComment(line, delimiter, columns) {
    const at = line.includes(" #") ? line.indexOf(" #") : line.indexOf("\t#");
    const values = line.slice(0, Math.max(at, 0));
    const before = values.split('"').length % 2 ? rowOf(values, delimiter, line) : [];
    if (at < 0 || before.length !== columns) return line;
    return isValue(before.at(-1)) || rowOf(line, delimiter).length !== columns ? values : line;
  }

  // The delimiter of the rows, and all names of columns (table_files._layout).
  function layout(delimiter, names, lines) {
    const rows = lines.map((line) => withoutComment(line, delimiter, names.length)).filter((line) => namesOf(line).names.some(isNumber)).slice(0, 2);
    const own = rows.filter((row) => delimiter === " " || !row.includes(delimiter)).map((row) => namesOf(row).delimiter).slice(0, 1);
    for (const each of [delimiter, ...own]) {
      const cells = rows.map((row) => rowOf(row, each));
      if (cells.some((row) => row.length === names.length)) return { delimiter: each, names };
      const isCounted = cells.length === 2 && cells.every((row) => row.length === names.length + 1);
      if (isCounted && ["0,1", "1,2"].includes(cells.map((row) => row[0]).join())) return { delimiter: each, names: ["", ...names] };
    }
    return { delimiter, names };
  }

  // {names, units, rows} of text.
  function parse(text, chosen) {
    const all = text.split(/\r\n|\r|\n/);
    if (/^\s*(SIMPLE|<|PK|PAR1|BZh)/.test(text) || text.slice(0, 20_000).includes("\0")) {
      refuse(" is FITS, VOTable or no text; `cluster-tools weigh` reads these two, or save it as CSV.");
    }
    const lines = all.map((line) => line.replace(/^[ \uFEFF]+| +$/g, "")).filter((line) => line && !patterns.rule.test(line));
    if (!lines.length) throw new TableError("The table is empty; paste a line of column names and one galaxy a line.");
    if (lines.length > setup.maxRows) {
      throw new TableError(`The table has ${lines.length} lines; ${setup.maxRows} are the most that this page reads.`);
    }
    const fixed = all.some((line) => line.includes("Byte-by-byte Description")) ? machineReadable(all) : isIpac(lines) ? ipac(all) : null;
    if (fixed) {
      if (!fixed.rows.length || !fixed.names.length) refuse(" has no rows; expected a header and one galaxy a row.");
      return fixed;
    }
    const isComment = (line) => line.startsWith("#");
    let start = lines.findIndex((line) => !isComment(line));
    if (start < 0) throw new TableError("Every line begins with #, so there is no galaxy; remove the # from the galaxies.");
    const comments = lines.slice(0, start);
    const ecsv = comments[0]?.includes("%ECSV") ? comments.join("\n") : "";
    const given = ecsv ? (ecsv.match(/^# delimiter: ['"]?([^'"\s])/m)?.[1] ?? " ") : undefined;
    let first = lines[start];
    let head = first;
    let { delimiter, names } = namesOf(first, given);
    if (comments.length && names.every(isNumber)) {
      const last = comments.at(-1).replace(/^#/, "").trim();
      const above = [undefined, delimiter].map((each) => namesOf(last, each).names).find((each) => each.length === names.length);
      if (above) [names, start, head] = [above, start - 1, ""];
    } else if (!hasPositions(names, chosen)) {
      const below = lines.slice(start + 1, start + 1 + setup.head).findIndex((line) => hasPositions(namesOf(line).names, chosen));
      if (below >= 0) {
        start += 1 + below;
        first = head = lines[start];
        ({ delimiter, names } = namesOf(first));
      }
    }
    if (names.length < 2 || names.filter(isNumber).length > names.length / 2) {
      refuse(` has '${names.join(",").slice(0, 60)}' where the names of its columns should be; expected a first line such as ` +
        "'ra,dec,z,log_mstar', and commas, semicolons, tabs or blanks between values: write it so.");
    }
    const below = lines.slice(start + 1).filter((line) => line !== head && !isComment(line));
    ({ delimiter, names } = layout(delimiter, names, below.slice(0, setup.head)));
    let rows = below.map((line) => rowOf(withoutComment(line, delimiter, names.length), delimiter, first));
    const isDashes = (row) => row?.every((cell) => /^-+$/.test(cell.trim()));
    let units = [];
    if (rows.length > 1 && !isDashes(rows[0]) && isDashes(rows[1])) [units, rows] = [rows[0], rows.slice(2)];
    else if (isDashes(rows[0])) rows = rows.slice(1);
    else if (rows[0]?.some((cell) => patterns.unit.test(bare(cell))) && !rows[0].some(isNumber)) [units, rows] = [rows[0], rows.slice(1)];
    if (!units.length && ecsv) {
      const fields = [...ecsv.matchAll(/name: ([^,}\n]+)(?:,\s*unit: ([^,}\n]+))?/g)];
      units = names.map((name) => fields.find((field) => field[1].trim() === name)?.[2] ?? "");
    }
    if (!rows.length) refuse(" has no rows; expected a header and one galaxy a row.");
    rows.forEach((row, i) => {
      if (row.length !== names.length && (delimiter === " " || row.slice(names.length).some((cell) => cell.trim()))) {
        refuse(` cannot be read (row ${i + 1} has ${row.length} values, but there are ${names.length} names of columns); ` +
          "it may be cut short or damaged: get it again, or mend it in astropy.");
      }
    });
    return { names, rows, units: names.map((_, i) => unitText(units[i] ?? "")) };
  }

  const bare = (cell) => cell.trim().replace(/^"|"$/g, "").replace(/[$^{}]/g, "");
  const unitText = (cell) => (patterns.unit.test(bare(cell)) ? bare(cell).replace(/^[[(]|[\])]$/g, "") : cell.trim().replace(/^"|"$/g, ""));

  const isIpac = (lines) => /^[|\\]/.test(lines[0]) && lines.some((line) => line.startsWith("|")) && lines.some((line) => !/^[|\\]/.test(line));

  // Tables of IPAC: values below the names, types and units between bars.
  function ipac(lines) {
    const heads = lines.filter((line) => line.startsWith("|"));
    const bars = [...(heads[0] ?? "").matchAll(/\|/g)].map((bar) => bar.index);
    const cellsOf = (line) => bars.slice(1).map((bar, i) => (line ?? "").slice(bars[i], i + 2 < bars.length ? bar : undefined).replace(/\|/g, "").trim());
    const missing = cellsOf(heads[3]);
    const rows = lines.filter((line) => line.trim() && !/^[|\\]/.test(line)).map(cellsOf);
    return { names: cellsOf(heads[0]), units: cellsOf(heads[2]), rows: rows.map((row) => row.map((cell, i) => (cell === missing[i] ? "" : cell))) };
  }

  // Tables of the AAS and of CDS: values at bytes that the head describes, below the last line of dashes.
  function machineReadable(lines) {
    const start = lines.findLastIndex((line) => /^-{20,}\s*$/.test(line)) + 1;
    const fields = lines.slice(0, start).map((line) => line.match(/^\s*(?:(\d+)\s*-\s*)?(\d+)\s+[AIFE]\d+(?:\.\d+)?\s+(\S+)\s+(\S+)/)).filter(Boolean);
    const rows = lines.slice(start).filter((line) => line.trim());
    return {
      names: fields.map((field) => field[4]), units: fields.map((field) => field[3].replace(/^-+$/, "")),
      rows: rows.map((line) => fields.map((field) => line.slice((field[1] ?? field[2]) - 1, field[2]).trim())),
    };
  }

  // --- columns (cluster_tools.tables) ----------------------------------------------------------

  const plain = (name) => name.toLowerCase().replace(/_(km_?s|deg)$|[\s_.]|\(.*\)|\[.*\]/g, "");

  // Candidates for each standard column, best first; `chosen` are given (tables.find).
  function find(names, chosen) {
    const exact = new Map(names.map((name) => [name.trim().toLowerCase(), name]).reverse());
    const within = names.map((name) => [plain(name.replace(/^\w+\.(?=\w+$)/, "")), name]); // such as coord.ra
    const simple = new Map([...within.reverse(), ...names.map((name) => [plain(name), name]).reverse()]);
    const found = {};
    for (const [wanted, aliases] of Object.entries({ ...setup.names, ...setup.quality })) {
      const matches = [...aliases.map((alias) => exact.get(alias)), ...aliases.map((alias) => simple.get(plain(alias)))];
      const once = chosen[wanted] ? [chosen[wanted]] : [...new Set(matches.filter((name) => name !== undefined))];
      if (once.length) found[wanted] = once;
    }
    for (const [wanted, parts] of Object.entries(setup.parts)) {
      if (!found[wanted] && names.includes(parts.at(-2))) found[wanted] = parts.filter((part) => names.includes(part));
    }
    if (!found.z && !found.cz) {
      const velocities = [...setup.velocities.map((name) => exact.get(name)), ...setup.velocities.map((name) => simple.get(plain(name)))];
      if (velocities.some(Boolean)) found.velocity = [...new Set(velocities.filter((name) => name !== undefined))];
    }
    return found;
  }

  function hasPositions(names, chosen) {
    const found = find(names, chosen);
    return ["ra", "dec"].every((wanted) => found[wanted]?.some((name) => names.includes(name)));
  }

  // The galaxies of text, sorted and each once (galaxy_table.read): {columns, counts, rows}, or those of phase space.
  function read(text, chosen = {}) {
    const table = parse(text, chosen);
    const { names, rows } = table;
    const listed = names.slice(0, 12).map(quoted).join(", ").slice(0, 200);
    const known = Object.keys({ ...setup.names, ...setup.quality });
    for (const [wanted, name] of Object.entries(chosen)) {
      if (!known.includes(wanted)) throw new TableError(`columns names '${wanted}', but only ${known.join(", ")} can be given.`);
      if (!names.includes(name)) refuse(` has no column '${name}', which is given for ${wanted} (found ${listed}).`);
    }
    const found = find(names, chosen);
    const cellsOf = (name) => { const at = names.indexOf(name); return rows.map((row) => row[at] ?? ""); };
    const unitOf = (name) => {
      const named = name.toLowerCase().match(/[[(]([^[\]()]*)[\])]\s*$|_(km_?s|deg)$/);
      const within = name.toLowerCase() === "al2000" ? "h" : unitText(named?.[1] ?? named?.[2] ?? "");
      return (table.units[names.indexOf(name)] || (patterns.unit.test(within) ? within : "")).toLowerCase().replace(/\s/g, "");
    };
    const isVelocity = (name) => plain(name) !== "vlos" && unitOf(name) in KILOMETRES;
    const sources = {};
    for (const [wanted, candidates] of Object.entries(found)) {
      sources[wanted] = candidates.find((name) => cellsOf(name).slice(0, 100).some(isNumber)) ?? candidates[0];
    }
    if (!sources.z || (chosen.cz && !chosen.z)) {
      const velocities = [...(found.cz ?? []), ...(found.velocity ?? []).filter(isVelocity)];
      if (velocities.length) sources.z = sources.cz = velocities[0];
    }
    const missing = ["ra", "dec", "z"].filter((wanted) => !sources[wanted]);
    if (missing.length) {
      const lower = names.map((name) => name.toLowerCase());
      const [v, r] = ["v_los", "r_proj"].map((wanted) => names[lower.indexOf(setup.phaseSpace[wanted].find((alias) => lower.includes(alias)))]);
      if (v && r) return phaseSpace({ v_los: cellsOf(v), r_proj: cellsOf(r) }, light(sources, values));
      if (missing.join() === "z" && sources.velocity) {
        const name = sources.velocity;
        refuse(` has velocities in column '${name}' but no redshifts; if they are cz in km/s, say so (--column cz=${name}, ` +
          `columns={'cz': '${name}'}), or add a column 'z' with z = cz / 299792.458.`);
      }
      refuse(` has no column of ${missing[0]} (found ${listed}); rename the right one to '${missing[0]}', or say which it is ` +
        `(--column ${missing[0]}=..., columns={'${missing[0]}': ...}).`);
    }

    // A column in its unit, NaN where it is missing or out of range (tables._values).
    function values(wanted) {
      const { low, high, words, spellings } = setup.expected[wanted];
      const [source, label] = [sources[wanted], `, column '${sources[wanted]}'`];
      const unit = unitOf(source);
      const spelling = unit.replace(/_/g, "").replace("solmass", "msun");
      const angles = { ra: spelling.startsWith("d") && spelling.includes(":") ? "degrees" : "hours", dec: "degrees" }[wanted];
      const cells = cellsOf(source);
      let [all, isRead] = [null, false];
      try {
        isRead = setup.parts[wanted]?.includes(source) ?? false;
        all = isRead ? fromParts(wanted) : numbers(cells, angles, wanted === "z");
      } catch (fault) {
        if (!Array.isArray(fault)) throw fault;
        refuse(`${label}, is not numeric (found '${textOf(fault[1]).slice(0, 40)}' in row ${fault[0] + 1}); expected ${words}: ` +
          "write one number a row, and leave the cell empty where there is none.");
      }
      const finite = all.filter(Number.isFinite);
      const isCz = wanted === "z" && (source === sources.cz || isVelocity(source)) && !(unit && finite.every((value) => Math.abs(value) < high));
      if (isCz && (!unit || unit in KILOMETRES)) all = all.map((value) => (value * (KILOMETRES[unit] ?? 1)) / setup.speedOfLight);
      else if (wanted === "ra" && setup.hours.includes(spelling) && !isRead) all = isAngles(cells) ? all : all.map((value) => 15 * value);
      else if (wanted === "log_mstar" && ["", "msun"].includes(spelling) && isLinear(all)) all = all.map((value) => (value > 0 ? Math.log10(value) : NaN));
      else if (!isRead && !["", "dimensionless", ...spellings, ...setup.sexagesimal].includes(spelling)) {
        const factor = angles ? ANGLES[unit] : wanted === "z" && unit === "%" ? 0.01 : undefined;
        if (!factor) refuse(`${label}, is in '${unit}'; expected ${words}: convert the column, or mend its unit if that is wrong.`);
        all = all.map((value) => factor * value);
      }
      if (wanted === "ra") all = all.map((value) => (value >= -180 && value < 0 ? value + 360 : value));
      if (wanted === "z") all = all.map((value) => (value === 0 ? NaN : value));
      return inRange(all, label, wanted, low, high, words);
    }

    function fromParts(wanted) {
      const [whole, minutes, seconds] = setup.parts[wanted].slice(-3).map((part) => (names.includes(part) ? numbers(cellsOf(part)) : null));
      const signs = wanted === "dec" && names.includes("DE-") ? cellsOf("DE-").map((cell) => textOf(cell) === "-") : [];
      return whole.map((value, i) => (wanted === "ra" ? 15 : signs[i] ? -1 : 1) * (value + (minutes?.[i] ?? 0) / 60 + (seconds?.[i] ?? 0) / 3600));
    }

    const columns = { ra: values("ra"), dec: values("dec"), z: values("z") };
    Object.assign(columns, light(sources, values));
    return cleaned(columns, { ra: unitOf(sources.ra), name: sources.ra });

    function cleaned(all, ra) {
      refuseHours(all, ra);
      const n = rows.length;
      const error = found.error ? velocityErrors(found.error[0], all.z) : new Float64Array(n).fill(NaN);
      const usable = [...Array(n).keys()].filter((i) => ["ra", "dec", "z"].every((name) => Number.isFinite(all[name][i])));
      if (!usable.length) refuse(` has no galaxy with position (deg), redshift among its ${n} rows; check these columns and their units.`);
      const badness = ["warning", "class", "quality", "error"].filter((kind) => found[kind]).map((kind) => badnessOf(kind, cellsOf(found[kind][0])));
      const better = (i, j) => badness.reduce((sign, bad) => sign || compare(bad[i], bad[j]), 0) || compare(all.z[i], all.z[j]);
      const inOrder = (i, j) => ["ra", "dec", "z"].reduce((sign, name) => sign || compare(all[name][i], all[name][j]), 0);
      const kept = once(all, usable.sort((i, j) => better(i, j) || inOrder(i, j))).sort(inOrder);
      const galaxies = Object.fromEntries(Object.entries({ ...all, v_error: error }).map(([name, column]) => [name, Float64Array.from(kept, (i) => column[i])]));
      return { columns: galaxies, rows: n, counts: { unreadable: n - usable.length, repeated: usable.length - kept.length } };
    }

    // Errors of velocities [km/s], NaN where unknown (galaxy_table._velocity_errors).
    function velocityErrors(name, z) {
      let errors = null;
      try { errors = numbers(cellsOf(name)); } catch { return new Float64Array(z.length).fill(NaN); }
      errors = errors.map((each) => (each > 0 && Number.isFinite(each) ? each : NaN));
      const [unit, known] = [unitOf(name), errors.filter(Number.isFinite).sort()];
      let factor = setup.speedOfLight;
      if (unit in KILOMETRES) factor = KILOMETRES[unit];
      else if (unit === "%") factor = setup.speedOfLight / 100;
      else if (setup.velocityErrors.map(plain).includes(plain(name)) || (known.length && median(known) > setup.largestZError)) factor = 1;
      return errors.map((each, i) => (each * factor) / (1 + z[i]));
    }
  }

  // The best of all galaxies within 1 arcsec of one another, from all, the best first (galaxy_table._once).
  function once({ ra, dec }, all) {
    const row = (i) => Math.round(3600 * dec[i]);
    const column = (i, at, turn = 0) => Math.round(3600 * (ra[i] + turn) * Math.cos(((at / 3600) * Math.PI) / 180));
    const [best, radian] = [new Map(), Math.PI / 180];
    for (const i of all) {
      const place = `${column(i, row(i))} ${row(i)}`;
      if (!best.has(place)) best.set(place, i);
    }
    const kept = new Set();
    const isNear = (i, j) => Math.hypot(dec[i] - dec[j], 2 * Math.sin(((ra[i] - ra[j]) / 2) * radian) / radian * Math.cos(dec[i] * radian)) <= 1 / 3600;
    const isRepeated = (i) => [-1, 0, 1].some((up) => [0, 360, -360].some((turn) => [-1, 0, 1].some((left) => {
      const j = best.get(`${column(i, row(i) + up, turn) + left} ${row(i) + up}`);
      return kept.has(j) && isNear(i, j);
    })));
    for (const i of best.values()) if (!isRepeated(i)) kept.add(i);
    return [...kept];
  }

  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const median = (sorted) => (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
  const isAngles = (cells) => cells.slice(0, 100).some((cell) => ANGLE.test(textOf(cell)));
  const isLinear = (all) => { const [positive, linear] = [0, setup.linear].map((least) => all.filter((value) => value > least).length); return positive > 0 && positive <= 2 * linear; };

  // How bad redshifts are, larger for worse (galaxy_table._badness).
  function badnessOf(kind, cells) {
    if (kind === "class") return cells.map((cell) => Number(textOf(cell).toUpperCase() === "STAR"));
    const texts = cells.map(textOf);
    if (kind === "quality" && texts.every((cell) => /^[a-f]?$/i.test(cell))) return texts.map((cell) => (cell.toLowerCase() || "z").charCodeAt(0));
    try {
      return Array.from(numbers(cells), (value) => {
        const bad = { error: value > 0 ? value : Infinity, quality: -value, warning: Math.abs(value) }[kind];
        return Number.isFinite(bad) ? bad : Infinity;
      });
    } catch { return cells.map(() => 0); }
  }

  // Masses or photometry, the best that there is; {} without.
  function light(sources, values) {
    const choice = [["log_mstar"], ["mag_g", "mag_r"], ["flux_g", "flux_r"]].find((each) => each.every((name) => sources[name])) ?? [];
    return Object.fromEntries(choice.map((name) => {
      const column = values(name);
      return name.startsWith("flux") ? [name.replace("flux", "mag"), column.map((flux) => 22.5 - 2.5 * Math.log10(flux))] : [name, column];
    }));
  }

  const general = (value) => String(Number(value.toPrecision(6)));

  // Values, those out of range as NaN; refused if most are too large, or redshifts are velocities (tables._in_range).
  function inRange(all, label, wanted, low, high, words) {
    const finite = all.filter(Number.isFinite);
    const wrong = finite.filter((value) => value < low || value > high);
    const isMixed = wanted === "z" && new Set(finite.filter((value) => value > setup.velocity)).size > setup.mostWords;
    if (wrong.length && (isMixed || 2 * finite.filter((value) => value > high).length > finite.length)) {
      const isFast = wanted === "z" && median(wrong.slice().sort()) > setup.velocity;
      const remedy = isFast ? "if they are cz, say so (--column cz=..., columns={'cz': ...})"
        : ["ra", "dec", "z"].includes(wanted) ? "drop these rows" : "drop these rows or set min_log_mstar=None";
      refuse(`${label}, has ${wrong.length} of ${all.length} values out of range${isFast ? " and holds velocities" : ""} (first ` +
        `${general(wrong[0])} in row ${all.indexOf(wrong[0]) + 1}); expected ${words}: convert the column, or ${remedy}.`);
    }
    return all.map((value) => (value >= low && value <= high ? value : NaN));
  }

  function refuseHours({ ra, dec }, { ra: unit, name }) {
    const good = [...ra.keys()].filter((i) => Number.isFinite(ra[i]) && Number.isFinite(dec[i]));
    const largest = ra.reduce((most, each) => (each > most ? each : most), 0);
    if (unit || !(largest < 24) || good.length < 3) return;
    const mean = (column) => good.reduce((sum, i) => sum + column[i], 0) / good.length;
    const spread = (column) => { const middle = mean(column); return Math.sqrt(good.reduce((sum, i) => sum + (column[i] - middle) ** 2, 0) / good.length); };
    const ratio = (spread(ra) * Math.cos((mean(dec) * Math.PI) / 180)) / spread(dec);
    if (setup.narrow[0] < ratio && ratio < setup.narrow[1]) {
      refuse(`, column ${name}, has values up to ${largest.toFixed(4)} and a sky about 15 times too narrow, as right ascensions ` +
        "in hours have; multiply them by 15. If they are degrees, give the column the unit deg, in ECSV, FITS or VOTable.");
    }
  }

  // Galaxies whose phase space is known already, in the order of the table.
  function phaseSpace(cells, columns) {
    const ranges = { v_los: [-299792.458, 299792.458, "km/s"], r_proj: [0, 100, "comoving Mpc/h, not kpc/h"] };
    for (const [name, [low, high, words]] of Object.entries(ranges)) {
      try { columns[name] = numbers(cells[name], undefined, name === "v_los"); } catch ([row, cell]) {
        refuse(`, column '${name}', is not numeric (found '${textOf(cell).slice(0, 40)}' in row ${row + 1}); expected ${words}.`);
      }
      columns[name] = inRange(columns[name], `, column '${name}'`, name, low, high, words);
    }
    const all = [...columns.v_los.keys()];
    const kept = all.filter((i) => Number.isFinite(columns.v_los[i]) && Number.isFinite(columns.r_proj[i]));
    if (!kept.length) refuse(` has no galaxy with v_los and r_proj among its ${all.length} rows; check these columns and their units.`);
    const galaxies = Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, Float64Array.from(kept, (i) => column[i])]));
    return { columns: galaxies, rows: all.length, counts: { unreadable: all.length - kept.length, repeated: 0 } };
  }

  // Degrees from text, NaN if it is no angle (cells.numbers).
  function angle(text, unit) {
    try { return numbers([text], unit)[0]; } catch { return NaN; }
  }

  return { read, angle };
}
