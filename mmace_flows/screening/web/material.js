// One material: what is known, its structure and surface in 3D, model against DFT, where it comes from, downloads.

import { get } from "./api.js";
import { circleChart } from "./chart.js";
import { crystalScene, elementsOf } from "./crystal.js";
import { el, formula, number, replace, spaceGroup, when } from "./dom.js";
import { failure } from "./materials.js";
import { Camera, Scene } from "./scene.js";
import { gradient, surfaceScene } from "./surface.js";

const EASY = { axis: "easy axis", plane: "easy plane", cone: "easy cone", none: "no anisotropy" };
let scenes = [];

export function closeScenes() {
  for (const scene of scenes) scene.close();
  scenes = [];
}

export async function material(main, key) {
  const path = `/api/anisotropy/${encodeURIComponent(key)}`;
  replace(main, el("p", { class: "loading" }, "Loading …"));
  let entry, compared;
  try {
    [entry, compared] = await Promise.all([get(path), get(`${path}/comparison`)]);
  } catch (error) {
    return void replace(main, failure(error, () => material(main, key)));
  }
  closeScenes();
  document.title = `${entry.formula} ${entry.ordering} · mmace`;
  const camera = new Camera();
  const view = el("article", { class: "material" }, head(entry), figures(entry),
    el("div", { class: "pictures" }, structureFigure(entry, camera), surfaceFigure(entry, path, camera)),
    el("div", { class: "pictures" }, circleFigure(entry, compared), comparisonTable(entry, compared)),
    el("div", { class: "pictures" }, provenance(entry), downloads(entry, path)));
  replace(main, view);
  view.querySelectorAll("[data-scene]").forEach((holder) => holder.dispatchEvent(new Event("shown")));
}

function head(entry) {
  return el("div", { class: "material-head" }, el("p", { class: "back" }, el("a", { href: sessionStorage.getItem("mmace-table") ?? "#/materials" }, "← Materials")),
    el("h1", null, formula(entry.formula)),
    el("p", { class: "facts" }, el("span", { class: `order ${entry.ordering}` }, entry.ordering), el("span", { class: `level ${entry.level}` }, `by ${entry.level}`),
      el("span", null, spaceGroup(entry.space_group), ` (${entry.space_group_number}, ${entry.crystal_system})`), el("span", null, `${entry.num_atoms} atoms`),
      el("span", null, `${number(entry.volume_per_atom)} Å³/atom`)));
}

function figures(entry) {
  const v = entry.values;
  const kind = v.symmetry === "cubic" ? "cubic" : `about ${direction(v.axis)}`;
  const cards = [
    ["K₁", number(v.k1), "MJ/m³", v.spread === null ? kind : `± ${number(v.spread)}, ${kind}`], ["K₂", number(v.k2), "MJ/m³", kind],
    ["ΔE_A", number(v.strength_mev_per_atom, 3), "meV/atom", EASY[v.easy_kind] + (v.easy_kind === "axis" ? ` ${direction(v.easy)}` : "")],
    ["K₁·V", number(v.k1_mev_per_formula, 3), "meV/f.u.", `${number(v.k1_mev_per_atom, 3)} per atom`],
    ["μ₀Mₛ", number(v.polarization), "T", `${number(entry.magnetization)} μB/atom`],
    ["κ", number(v.hardness), "", v.hardness === null ? "no net moment" : v.hardness >= 1 ? "hard: above 1" : "below 1"],
    ["μ₀Hₐ", number(v.anisotropy_field), "T", "2 K₁/Mₛ"],
    ["E above hull", number(entry.energy_above_hull, 3), "eV/atom", entry.energy_above_hull === null ? "an element is missing" : "same method"],
  ];
  return el("dl", { class: "cards" }, cards.map(([name, value, unit, note]) => el("div", null, el("dt", null, name), el("dd", null, value, unit ? el("small", null, ` ${unit}`) : null), el("dd", { class: "note" }, note))));
}

function direction(vector) {
  const smallest = Math.min(...vector.map(Math.abs).filter((value) => value > 0.02));
  const whole = vector.map((value) => value / smallest);
  const near = whole.every((value) => Math.abs(value - Math.round(value)) < 0.03 && Math.abs(value) < 5.5);
  return near ? `[${whole.map((value) => String(Math.round(value) + 0).replace("-", "−")).join(" ")}]` : `(${vector.map((value) => number(value)).join(", ")})`;
}

function stage(make, describe, camera) {
  const holder = el("div", { class: "stage", data: { scene: "" } });
  holder.addEventListener("shown", () => {
    try {
      scenes.push(new Scene(holder, { ...make(), camera, describe }));
    } catch (error) {
      replace(holder, el("p", { class: "notice" }, error.message));
    }
  }, { once: true });
  return holder;
}

function structureFigure(entry, camera) {
  const largest = Math.max(...entry.structure.magmoms.map((moment) => Math.hypot(...moment)));
  const kinds = elementsOf(entry.structure).map(({ symbol, rgb }) => {
    const swatch = el("i", { class: "ball" });
    swatch.style.background = `rgb(${rgb.map((value) => Math.round(255 * value)).join(" ")})`;
    return el("span", null, swatch, symbol);
  });
  const note = largest < 0.05 ? "no moments" : `arrows: moments, the longest ${number(largest)} μB`;
  return el("figure", null, el("h2", null, "Structure"), stage(() => crystalScene(entry.structure, entry.values.easy), `Crystal structure of ${entry.formula} with ${note}.`, camera),
    el("figcaption", { class: "legend" }, kinds, el("span", { class: "hint" }, note)));
}

function surfaceFigure(entry, path, camera) {
  const levels = ["DFT", "model"].filter((level) => entry[level === "DFT" ? "dft" : "model"]);
  const box = el("div", { class: "surface-box" });
  const bar = el("div", { class: "gradient", "aria-hidden": "true" }, gradient().map((rgb) => { const part = el("i"); part.style.background = `rgb(${rgb.join(" ")})`; return part; }));
  const top = el("span", null, "");
  async function show(level) {
    for (const scene of scenes.filter((one) => box.contains(one.holder))) { scene.close(); scenes.splice(scenes.indexOf(scene), 1); }
    replace(box, el("p", { class: "loading" }, "Loading …"));
    try {
      const points = await get(`${path}/surface?level=${level}`);
      if (!box.isConnected) return;
      const made = surfaceScene(points);
      const holder = stage(() => made, `Energy of ${entry.formula} by ${level} over all directions of the moments, from 0 to ${number(made.highest, 3)} meV per atom.`, camera);
      replace(box, holder);
      holder.dispatchEvent(new Event("shown"));
      replace(top, `${number(made.highest, 3)} meV/atom`);
    } catch (error) {
      replace(box, failure(error, () => show(level)));
    }
  }
  const choose = levels.length < 2 ? null : el("div", { class: "segments", role: "radiogroup", "aria-label": "Values by" }, levels.map((level) => el("label", null,
    el("input", { type: "radio", name: "surface-level", checked: level === entry.level, onchange: () => show(level) }), el("span", null, level))));
  requestAnimationFrame(() => show(entry.level));
  return el("figure", null, el("div", { class: "figure-head" }, el("h2", null, "Anisotropy surface"), choose), box, el("figcaption", { class: "legend" }, el("span", null, "0"), bar, top, el("span", { class: "hint" }, "energy by direction of the moments; same view as the structure")));
}

function circleFigure(entry, compared) {
  return el("figure", null, el("h2", null, "From easy to hard direction"), circleChart(compared.circle));
}

function comparisonTable(entry, compared) {
  const both = entry.dft !== null && entry.model !== null;
  return el("section", null, el("h2", null, both ? "Model against DFT" : "Values"), el("div", { class: "scroll" }, el("table", { class: "plain" },
    el("thead", null, el("tr", null, ["", "unit", "DFT", "model", both ? "difference" : null].filter((text) => text !== null).map((text) => el("th", { scope: "col", class: ["", "unit"].includes(text) ? "" : "numeric" }, text)))),
    el("tbody", null, compared.quantities.map((one) => el("tr", null, el("th", { scope: "row" }, one.name), el("td", null, one.unit), el("td", { class: "numeric" }, number(one.dft, 3)), el("td", { class: "numeric" }, number(one.model, 3)),
      both ? el("td", { class: "numeric" }, one.difference === null ? "–" : `${number(one.difference, 3)}${Math.abs(one.dft) > 0.005 ? ` (${number((100 * one.difference) / Math.abs(one.dft), 0)} %)` : ""}`) : null))))),
    both ? null : el("p", { class: "hint" }, entry.dft ? "No model has predicted this material yet." : "There is no DFT run of this material yet; `mmace soc` makes one from the extended XYZ file below."));
}

function provenance(entry) {
  const lines = [["entry", entry.entry_id], ["parent structure", entry.parent], ["campaigns", entry.campaigns.join(", ") || "–"], ["brought up to date", `${when(entry.updated)}, mmace-flows ${entry.code_version}`]];
  for (const [name, values] of [["DFT", entry.dft], ["model", entry.model]]) {
    if (!values) continue;
    lines.push([`${name}: source`, values.source], [`${name}: made`, when(values.created)], [`${name}: fit`, `degree ${values.degree}, error ${number(1e6 * values.fit_error / entry.num_atoms, 2)} µeV/atom`]);
    for (const [key, value] of Object.entries(values.method)) lines.push([`${name}: ${key}`, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  }
  return el("section", null, el("h2", null, "Where it comes from"), el("dl", { class: "provenance" }, lines.map(([name, value]) => [el("dt", null, name), el("dd", null, value)])));
}

function downloads(entry, path) {
  const files = [["structure.cif", "CIF", "the crystal"], ["structure.extxyz", "Extended XYZ", "with vector moments, for mmace soc and mmace label"], ["structure.json", "Structure as JSON", "positions, cell, moments"]];
  return el("section", null, el("h2", null, "Downloads"), el("ul", { class: "files" }, files.map(([file, name, note]) => el("li", null, el("a", { href: `${path}/${file}`, download: "" }, name), el("span", { class: "hint" }, ` ${note}`))),
    el("li", null, el("a", { href: path, target: "_blank", rel: "noopener" }, "Everything as JSON"), el("span", { class: "hint" }, " the document as it is stored"))));
}
