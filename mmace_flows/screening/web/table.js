// Tables: the rows of a page, with headings that sort, and small ones.

import { el, formula, number, ordering, spaceGroup } from "./dom.js";

const COLUMNS = [
  {
    title: "Material",
    sort: "formula",
    cell: (row) => el("a", { href: `#/material/${row.entry_id}` }, formula(row.formula)),
  },
  { title: "Space group", sort: "space-group", wide: true, cell: (row) => spaceGroup(row.space_group) },
  { title: "Order", cell: (row) => ordering(row) },
  {
    title: "K₁",
    unit: "MJ/m³",
    sort: "k1",
    numeric: true,
    cell: (row, scale) => k1Cell(row, scale),
    hint: "anisotropy constant; positive: the axis is easy",
  },
  {
    title: "ΔE_A",
    unit: "meV/atom",
    sort: "strength",
    numeric: true,
    wide: true,
    cell: (row) => number(row.strength, 3),
    hint: "highest minus lowest energy over all directions",
  },
  { title: "μ₀Mₛ", unit: "T", sort: "ms", numeric: true, cell: (row) => number(row.polarization) },
  {
    title: "κ",
    sort: "hardness",
    numeric: true,
    cell: (row) => el("span", { class: row.hardness >= 1 ? "hard" : "" }, number(row.hardness)),
    hint: "hardness √(|K₁|/μ₀Mₛ²); above 1: a permanent magnet is possible",
  },
  {
    title: "E hull",
    unit: "eV/atom",
    sort: "ehull",
    numeric: true,
    wide: true,
    cell: (row) => number(row.energy_above_hull, 3),
    hint: "of what is known by the same method; – where an element is missing",
  },
  {
    title: "By",
    cell: (row) => el("span", { class: `level ${row.level}` }, row.level),
    hint: "where the values come from",
  },
];

function k1Cell(row, scale) {
  const bar = el("span", { class: `k1bar ${row.k1 < 0 ? "negative" : ""}`, "aria-hidden": "true" });
  bar.style.setProperty("--share", String(Math.min(1, Math.abs(row.k1) / scale)));
  const spread = row.spread === null ? null : el("small", { class: "spread" }, ` ± ${number(row.spread)}`);
  return [bar, number(row.k1), spread];
}

export function rowsTable(rows, sort, onsort) {
  const scale = Math.max(1e-9, ...rows.map((row) => Math.abs(row.k1)));
  const descending = sort.startsWith("-");
  const name = sort.replace(/^-/, "");
  const heads = COLUMNS.map((column) => {
    const sorted = column.sort === name;
    const mark = el("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (descending ? "▼" : "▲") : "");
    const label = [column.title, mark, column.unit ? el("small", null, column.unit) : null];
    // the first press of a number's heading brings the largest to the top
    const next = sorted
      ? descending
        ? column.sort
        : `-${column.sort}`
      : column.numeric
        ? `-${column.sort}`
        : column.sort;
    return el(
      "th",
      {
        scope: "col",
        class: `${column.numeric ? "numeric" : ""} ${column.wide ? "wide" : ""}`,
        title: column.hint,
        "aria-sort": sorted ? (descending ? "descending" : "ascending") : column.sort ? "none" : null,
      },
      column.sort
        ? el("button", { type: "button", data: { sort: column.sort }, onclick: () => onsort(next, column.sort) }, label)
        : label,
    );
  });
  const body = rows.map((row) =>
    el(
      "tr",
      {
        data: { entry: row.entry_id },
        onclick: (event) => {
          if (!event.target.closest("a") && !getSelection().toString()) location.hash = `#/material/${row.entry_id}`;
        },
      },
      COLUMNS.map((column) =>
        el("td", { class: `${column.numeric ? "numeric" : ""} ${column.wide ? "wide" : ""}` }, column.cell(row, scale)),
      ),
    ),
  );
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: "rows" },
      el("caption", { class: "hidden" }, "Materials, one row per crystal and magnetic ordering"),
      el("thead", null, el("tr", null, heads)),
      el("tbody", null, body),
    ),
  );
}

// rows: [heading, ...cells]; columns from `numbers` on are numbers
export function plainTable(heads, rows, numbers) {
  const kind = (place) => (place < numbers ? "" : "numeric");
  return el(
    "table",
    { class: "plain" },
    el(
      "thead",
      null,
      el(
        "tr",
        null,
        heads.map((text, i) => el("th", { scope: "col", class: kind(i) }, text)),
      ),
    ),
    el(
      "tbody",
      null,
      rows.map(([name, ...cells]) =>
        el(
          "tr",
          null,
          el("th", { scope: "row" }, name),
          cells.map((cell, i) => el("td", { class: kind(i + 1) }, cell)),
        ),
      ),
    ),
  );
}
