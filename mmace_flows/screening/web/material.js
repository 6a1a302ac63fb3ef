// One material: what is known, pictures, model against DFT, where it comes from, downloads.

import { get } from "./api.js";
import { el, formula, number, ordering, replace, spaceGroup, when } from "./dom.js";
import { failure } from "./failure.js";
import { circleFigure, closeScenes, structureFigure, surfaceFigure } from "./material_pictures.js";
import { Camera } from "./scene.js";
import { plainTable } from "./table.js";

const EASY = { axis: "easy axis", plane: "easy plane", cone: "easy cone", none: "no anisotropy" };

export async function material(main, key) {
  const path = `/api/anisotropy/${encodeURIComponent(key)}`;
  replace(main, el("p", { class: "loading" }, "Loading …"));
  const address = location.hash;
  let entry, compared;
  try {
    [entry, compared] = await Promise.all([get(path), get(`${path}/comparison`)]);
  } catch (error) {
    if (location.hash !== address) return; // somebody went elsewhere in the meantime
    return void replace(
      main,
      failure(error, () => material(main, key)),
    );
  }
  if (location.hash !== address) return;
  closeScenes();
  document.title = `${entry.formula} ${entry.ordering} · mmace`;
  const camera = new Camera();
  const view = el(
    "article",
    { class: "material" },
    head(entry),
    figures(entry),
    el("div", { class: "pictures" }, structureFigure(entry, camera), surfaceFigure(entry, path, camera)),
    el("div", { class: "pictures" }, circleFigure(entry, compared), comparisonTable(entry, compared)),
    el("div", { class: "pictures" }, provenance(entry), downloads(entry, path)),
  );
  replace(main, view);
  view.querySelectorAll("[data-scene]").forEach((holder) => holder.dispatchEvent(new Event("shown")));
}

function head(entry) {
  return el(
    "div",
    { class: "material-head" },
    el(
      "p",
      { class: "back" },
      el("a", { href: sessionStorage.getItem("mmace-table") ?? "#/materials" }, "← Materials"),
    ),
    el("h1", null, formula(entry.formula)),
    el(
      "p",
      { class: "facts" },
      ordering(entry),
      el("span", { class: `level ${entry.level}` }, `by ${entry.level}`),
      el("span", null, spaceGroup(entry.space_group), ` (${entry.space_group_number}, ${entry.crystal_system})`),
      el("span", null, `${entry.num_atoms} atoms`),
      el("span", null, `${number(entry.volume_per_atom)} Å³/atom`),
    ),
  );
}

function figures(entry) {
  const v = entry.values;
  const kind = v.symmetry === "cubic" ? "cubic" : `about ${direction(v.axis)}`;
  const cards = [
    ["K₁", number(v.k1), "MJ/m³", v.spread === null ? kind : `± ${number(v.spread)}, ${kind}`],
    ["K₂", number(v.k2), "MJ/m³", kind],
    [
      "ΔE_A",
      number(v.strength_mev_per_atom, 3),
      "meV/atom",
      EASY[v.easy_kind] + (v.easy_kind === "axis" ? ` ${direction(v.easy)}` : ""),
    ],
    ["K₁·V", number(v.k1_mev_per_formula, 3), "meV/f.u.", `${number(v.k1_mev_per_atom, 3)} per atom`],
    ["μ₀Mₛ", number(v.polarization), "T", `${number(entry.magnetization)} μB/atom`],
    [
      "κ",
      number(v.hardness),
      "",
      v.hardness === null ? "no net moment" : v.hardness >= 1 ? "hard: above 1" : "below 1",
    ],
    ["μ₀Hₐ", number(v.anisotropy_field), "T", "2 K₁/Mₛ"],
    [
      "E above hull",
      number(entry.energy_above_hull, 3),
      entry.energy_above_hull === null ? "" : "eV/atom",
      entry.energy_above_hull === null ? "an element is missing" : "same method",
    ],
  ];
  return el(
    "dl",
    { class: "cards" },
    cards.map(([name, value, unit, note]) =>
      el(
        "div",
        null,
        el("dt", null, name),
        el("dd", null, value, unit ? el("small", null, ` ${unit}`) : null),
        el("dd", { class: "note" }, note),
      ),
    ),
  );
}

function direction(vector) {
  const smallest = Math.min(...vector.map(Math.abs).filter((value) => value > 0.02));
  const whole = vector.map((value) => value / smallest);
  const near = whole.every((value) => Math.abs(value - Math.round(value)) < 0.03 && Math.abs(value) < 5.5);
  return near
    ? `[${whole.map((value) => String(Math.round(value) + 0).replace("-", "−")).join(" ")}]`
    : `(${vector.map((value) => number(value)).join(", ")})`;
}

function comparisonTable(entry, compared) {
  const both = entry.dft !== null && entry.model !== null;
  const difference = (one) => {
    if (one.difference === null) return "–";
    const share = Math.abs(one.dft) > 0.005 ? ` (${number((100 * one.difference) / Math.abs(one.dft), 0)} %)` : "";
    return `${number(one.difference, 3)}${share}`;
  };
  return el(
    "section",
    null,
    el("h2", null, both ? "Model against DFT" : "Values"),
    el(
      "div",
      { class: "scroll" },
      plainTable(
        ["", "unit", "DFT", "model", ...(both ? ["difference"] : [])],
        compared.quantities.map((one) => [
          one.name,
          one.unit,
          number(one.dft, 3),
          number(one.model, 3),
          ...(both ? [difference(one)] : []),
        ]),
        2,
      ),
    ),
    both
      ? null
      : el(
          "p",
          { class: "hint" },
          entry.dft
            ? "No model has predicted this material yet."
            : "There is no DFT run of this material yet; `mmace soc` makes one from the extended XYZ file below.",
        ),
  );
}

function provenance(entry) {
  const lines = [
    ["entry", entry.entry_id],
    ["parent structure", entry.parent],
    ["campaigns", entry.campaigns.join(", ") || "–"],
    ["brought up to date", `${when(entry.updated)}, mmace-flows ${entry.code_version}`],
  ];
  for (const [name, values] of [
    ["DFT", entry.dft],
    ["model", entry.model],
  ]) {
    if (!values) continue;
    lines.push(
      [`${name}: source`, values.source],
      [`${name}: made`, when(values.created)],
      [
        `${name}: fit`,
        `degree ${values.degree}, error ${number((1e6 * values.fit_error) / entry.num_atoms, 2)} µeV/atom` +
          (values.symmetry_error == null
            ? ""
            : `, of symmetry ${number((1e6 * values.symmetry_error) / entry.num_atoms, 2)} µeV/atom`),
      ],
    );
    for (const [key, value] of Object.entries(values.method))
      lines.push([`${name}: ${key}`, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  }
  return el(
    "section",
    null,
    el("h2", null, "Where it comes from"),
    el(
      "dl",
      { class: "provenance" },
      lines.map(([name, value]) => [el("dt", null, name), el("dd", null, value)]),
    ),
  );
}

function downloads(entry, path) {
  const files = [
    ["structure.cif", "CIF", "the crystal"],
    ["structure.extxyz", "Extended XYZ", "with vector moments, for mmace soc and mmace label"],
    ["structure.json", "Structure as JSON", "positions, cell, moments"],
  ];
  return el(
    "section",
    null,
    el("h2", null, "Downloads"),
    el(
      "ul",
      { class: "files" },
      files.map(([file, name, note]) =>
        el(
          "li",
          null,
          el("a", { href: `${path}/${file}`, download: "" }, name),
          el("span", { class: "hint" }, ` ${note}`),
        ),
      ),
      el(
        "li",
        null,
        el("a", { href: path, target: "_blank", rel: "noopener" }, "Everything as JSON"),
        el("span", { class: "hint" }, " the document as it is stored"),
      ),
    ),
  );
}
