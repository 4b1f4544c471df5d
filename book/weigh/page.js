"use strict";
// The form and the figures of weigh.md. What a reader's table holds is only ever set as text, never as HTML.

(() => {
  const setup = self.weighSetup;
  const part = (name) => document.getElementById(`weigh-${name}`);
  let text = ""; // of a table too long to be shown in its field
  let worker = null;
  let result = null; // what the page shows, and saves

  // --- what goes in ----------------------------------------------------------------------------

  const LONGEST_SHOWN = 500_000; // characters; a longer text would make the field slow

  function say(message, kind = "") {
    part("status").textContent = message;
    part("status").className = kind;
  }

  function show(content, name) {
    part("table").value = content.length <= LONGEST_SHOWN ? content : "";
    text = content.length <= LONGEST_SHOWN ? "" : content;
    part("source").textContent = text ? `${name}: ${(text.length / 1e6).toFixed(1)} MB, too long to be shown here` : name;
    for (const name of ["ra", "dec", "z", "error", "columns"]) part(name).value = "";
    part("complete").checked = false;
  }

  async function read(file) {
    if (!file) return;
    if (file.size > setup.maxBytes) {
      say(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB; ${setup.maxBytes / 1e6} MB are the most that this page reads.`, "refused");
      return;
    }
    try {
      show(decoded(await unzipped(await file.arrayBuffer())), file.name);
    } catch (error) {
      say(error instanceof RangeError ? error.message : `${file.name} is damaged; get it again.`, "refused");
      return;
    }
    weigh();
  }

  async function unzipped(bytes) {
    const [first, second] = new Uint8Array(bytes);
    if (first !== 0x1f || second !== 0x8b) return bytes;
    const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")).getReader();
    const parts = [];
    for (let size = 0; ;) {
      const { done, value } = await reader.read();
      if (done) return new Blob(parts).arrayBuffer();
      parts.push(value);
      size += value.length;
      if (size > setup.maxBytes) throw new RangeError(`The file holds more than ${setup.maxBytes / 1e6} MB, the most that this page reads.`);
    }
  }

  // UTF-16 as marked; UTF-8 if it can be, otherwise Latin-1 (cluster_tools.table_files._encoding).
  function decoded(bytes) {
    const [first, second] = new Uint8Array(bytes);
    if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
    if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      return new TextDecoder("latin1").decode(bytes);
    }
  }

  function given() {
    const centre = { complete: part("complete").checked };
    const { angle } = weighTable(setup, RangeError);
    const fields = [["ra", -180, 360, "hours"], ["dec", -90, 90, "degrees"], ["z", 0.003, 5], ["error", 0, 10_000]];
    for (const [name, low, high, unit] of fields) {
      const field = part(name);
      const value = field.value.trim() === "" ? null : angle(field.value, unit);
      const good = value === null || (value >= low && value <= high);
      field.setAttribute("aria-invalid", String(!good));
      if (!good) throw new RangeError(`The field ${name} is ${field.value}; expected a number from ${low} to ${high}, or nothing.`);
      if (value !== null) centre[name] = name === "ra" && value < 0 ? value + 360 : value;
    }
    const pairs = part("columns").value.split(",").filter((pair) => pair.trim());
    if (!pairs.every((pair) => /^[^=]+=./.test(pair))) throw new RangeError("The field columns has other text; expected names, such as z=ZBEST, or nothing.");
    centre.columns = Object.fromEntries(pairs.map((pair) => pair.split(/=(.*)/s).map((name) => name.trim())));
    if (("ra" in centre) !== ("dec" in centre)) throw new RangeError("The centre needs both ra and dec, or neither.");
    return centre;
  }

  // --- the work --------------------------------------------------------------------------------

  // A script, not a request: a page opened from a disk may not fetch.
  const loadWeights = () => self.weighWeights ? Promise.resolve() : new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = part("form").dataset.weights;
    script.onload = resolve;
    script.onerror = () => reject(new Error("The networks' weights could not be loaded; load the page again."));
    document.head.append(script);
  });

  async function weigh() {
    worker?.terminate();
    part("result").hidden = true;
    let centre;
    try {
      centre = given();
      say("Loading the networks …");
      await loadWeights();
    } catch (error) {
      say(error.message, "refused");
      return;
    }
    const source = URL.createObjectURL(new Blob([`${weighTable}\n(${weighCore})()`], { type: "text/javascript" }));
    worker = new Worker(source);
    URL.revokeObjectURL(source);
    const [begun, own] = [performance.now(), worker];
    worker.onmessage = ({ data }) => {
      if (own !== worker) return;
      if (data.progress) say(`Asking the networks: ${Math.round(100 * data.progress)}% …`);
      if (data.refused) say(data.refused, "refused");
      if (data.result) present(data.result, (performance.now() - begun) / 1000);
    };
    worker.onerror = () => say("The table could not be weighed; this is a fault of the page, not of the table.", "refused");
    say("Reading the table …");
    worker.postMessage({ setup, weights: self.weighWeights, text: text || part("table").value, given: centre });
  }

  // --- what comes out --------------------------------------------------------------------------

  const number = (value, digits) => value.toFixed(digits).replace("-", "\u2212");

  const range = ([low, middle, high], digits) => `${number(middle, digits)} (${number(low, digits)} to ${number(high, digits)})`;

  function present(found, seconds) {
    result = found;
    const { galaxies, posterior, centre } = found;
    const rows = [
      ["Galaxies", `${galaxies.used} used of ${galaxies.rows}${galaxies.because && `; left out: ${galaxies.because}`}`],
      ["Cluster", cluster(centre, found.how)],
      ["Velocity errors", `${number(found.error, 0)} km/s, ${found.errorIs}`],
    ];
    if (posterior) rows.push(["Members expected", `${number(found.members, 0)} of ${galaxies.used}`]);
    if (found.dynamics) rows.push(["Dynamical state", found.dynamics]);
    if (found.field) rows.push(["Field", `${number(found.field, 2)} comoving h⁻¹ Mpc`]);
    if (posterior) {
      const { quantiles } = posterior;
      rows.unshift(
        ["log₁₀ M200c [h⁻¹ M☉]", range(quantiles, 2)],
        ["2.5 to 97.5%", posterior.quantiles95.map((q) => number(q, 2)).join(" to ")],
        ["M200c [10¹⁴ h⁻¹ M☉]", range(quantiles.map((q) => 10 ** (q - 14)), 1)],
        ["M200c [10¹⁴ M☉, h = 0.7]", range(quantiles.map((q) => 10 ** (q - 14) / 0.7), 1)],
        ["With the halo mass function as prior", range(posterior.abundance, 2)],
        ["R200c [comoving h⁻¹ Mpc]", range(found.r200c, 2)],
        ["Mean and standard deviation", `${number(posterior.mean, 2)} ± ${number(posterior.sigma, 2)}`]);
    }
    part("numbers").replaceChildren(...rows.map(([name, value], i) => {
      const [row, head, cell] = ["tr", "th", "td"].map((tag) => document.createElement(tag));
      [head.scope, head.textContent, cell.textContent] = ["row", name, value];
      row.append(head, cell);
      if (i === 0) row.className = "first";
      return row;
    }));
    part("warnings").replaceChildren(...(found.warnings ?? []).map((warning) => {
      const item = document.createElement("li");
      item.textContent = warning;
      return item;
    }));
    part("phase-space").replaceChildren(phaseSpace(found));
    part("posterior").replaceChildren(...(posterior ? [posteriorCurve(posterior)] : []));
    part("result").hidden = false;
    if (posterior) say(`log₁₀ M200c = ${range(posterior.quantiles, 2)}, from ${galaxies.used} galaxies, in ${seconds.toFixed(1)} s.`);
    else say(`No mass: ${found.refusal}.`, "no-mass");
    part("status").scrollIntoView({ block: "start", behavior: "auto" });
  }

  function cluster({ ra, dec, z }, how) {
    const position = ra === undefined ? "" : `centre ${number(ra, 4)}°, ${number(dec, 4)}°, `;
    return `${position}redshift ${z.toFixed(4)}${how.length ? ` (${how.join("; ")})` : ""}`;
  }

  // --- figures ---------------------------------------------------------------------------------

  function svg(name, attributes = {}, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [380, 330, 68, 12, 10, 50];

  // A frame with ticks and labels, and where (x, y) of the data lie in it.
  function frame(title, description, xs, ys, xLabel, yLabel) {
    const x = (value) => LEFT + ((value - xs.low) / (xs.high - xs.low)) * (WIDTH - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - ((value - ys.low) / (ys.high - ys.low)) * (HEIGHT - TOP - BOTTOM);
    const label = (value, attributes) => svg("text", attributes, value);
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${description}` });
    const axes = svg("g", { class: "axes" },
      svg("rect", { x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM }),
      ...xs.ticks.flatMap((tick) => [
        svg("path", { d: `M${x(tick)} ${HEIGHT - BOTTOM}v5` }),
        label(number(tick, xs.digits), { x: x(tick), y: HEIGHT - BOTTOM + 20, "text-anchor": "middle" }),
      ]),
      ...ys.ticks.flatMap((tick) => [
        svg("path", { d: `M${LEFT} ${y(tick)}h-5` }),
        label(number(tick, ys.digits), { x: LEFT - 9, y: y(tick) + 5, "text-anchor": "end" }),
      ]),
      label(xLabel, { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }),
      label(yLabel, { transform: `translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }));
    return { drawing, axes, x, y };
  }

  // Points are members, more likely than not, or circles.
  function phaseSpace({ v_los, r_proj, member }) {
    const { aperture, velocityCut } = setup;
    const { drawing, axes, x, y } = frame(
      "Phase space", `${v_los.length} galaxies: filled where they are members, more likely than not.`,
      { low: 0, high: aperture, ticks: [0, 1, 2], digits: 0 },
      { low: -velocityCut, high: velocityCut, ticks: [-3000, -1500, 0, 1500, 3000], digits: 0 },
      "R_proj [comoving h⁻¹ Mpc]", "v_los [km/s]");
    const every = Math.ceil(v_los.length / 5000); // more points would hide one another
    const [members, others] = [[], []];
    for (let i = 0; i < v_los.length; i += every) {
      (member?.[i] > 0.5 ? members : others).push(`M${x(r_proj[i]).toFixed(1)} ${y(v_los[i]).toFixed(1)}h0`);
    }
    drawing.append(svg("path", { class: "galaxies others", d: others.join("") }), svg("path", { class: "galaxies", d: members.join("") }), axes);
    return drawing;
  }

  function posteriorCurve({ log_m200c: grid, density, quantiles, mean, sigma }) {
    const [low, high] = [mean - 4 * sigma, mean + 4 * sigma];
    const step = [0.05, 0.1, 0.2, 0.5, 1].find((each) => (high - low) / each < 6) ?? 2;
    const ticks = [];
    for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
    const most = density.reduce((a, b) => Math.max(a, b));
    const { drawing, axes, x, y } = frame(
      "Posterior", `A curve over log10 M200c, with its median and 16 to 84% range, ${range(quantiles, 2)}.`,
      { low, high, ticks, digits: step < 0.1 ? 2 : 1 }, { low: 0, high: 1.08 * most, ticks: [], digits: 0 },
      "log₁₀ M200c [h⁻¹ M☉]", "posterior density");
    const inside = grid.map((mass, i) => [mass, density[i]]).filter(([mass]) => mass >= low && mass <= high);
    const line = (points) => points.map(([mass, height]) => `${x(mass).toFixed(1)} ${y(height).toFixed(1)}`).join("L");
    const middle = inside.filter(([mass]) => mass >= quantiles[0] && mass <= quantiles[2]);
    drawing.append(
      svg("path", { class: "likely", d: `M${x(middle[0][0])} ${y(0)}L${line(middle)}L${x(middle.at(-1)[0])} ${y(0)}Z` }),
      svg("path", { class: "curve", d: `M${line(inside)}` }),
      svg("path", { class: "median", d: `M${x(quantiles[1])} ${y(0)}V${y(1.08 * most)}` }), axes);
    return drawing;
  }

  // Everything, as a file; typed arrays become lists.
  function save() {
    const content = JSON.stringify(result, (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
    link.download = "cluster.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // --- the form --------------------------------------------------------------------------------

  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    weigh();
  });
  part("table").addEventListener("input", () => { text = part("source").textContent = ""; });
  part("file").addEventListener("change", (event) => read(event.target.files[0]));
  part("save").addEventListener("click", save);
  part("example").addEventListener("click", () => {
    const { table, source, ...centre } = setup.example;
    show(table, `Coma: ${source}`);
    for (const [name, value] of Object.entries(centre)) part(name).value = value;
    weigh();
  });
  // A file may be dropped anywhere: one that misses the field would otherwise replace the page.
  for (const kind of ["dragover", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      if (kind === "drop") read(event.dataTransfer.files[0]);
    });
  }
  part("form").hidden = false;
})();
