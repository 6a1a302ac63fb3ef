// The table of materials with its filters and its picture.

import { get } from "./api.js";
import { el, replace } from "./dom.js";
import { failure } from "./failure.js";
import { filters } from "./filters.js";
import { changed, command, hasFilters, parse, python, text } from "./question.js";
import { scatter } from "./scatter.js";
import { rowsTable } from "./table.js";

let running = null;
let facets = null;

export async function materials(main, address) {
  const question = parse(address);
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  // changes what the address says now, which is ahead of what is drawn while an answer is awaited
  const go = (changes, focus) => {
    sessionStorage.setItem("mmace-focus", focus ?? "");
    location.hash = `#/materials?${text(changed(parse(location.hash.split("?")[1] ?? ""), changes))}`;
  };
  if (!main.querySelector(".materials"))
    replace(main, el("div", { class: "materials" }, el("p", { class: "loading" }, "Loading …")));
  const view = main.querySelector(".materials");
  view.setAttribute("aria-busy", "true");
  let page = null,
    points = null,
    problem = null;
  try {
    const asked = text(question);
    facets = await get("/api/anisotropy/facets", { signal });
    [page, points] = await Promise.all([
      get(`/api/anisotropy?${asked}`, { signal }),
      get(`/api/anisotropy/points?${asked}`, { signal }),
    ]);
  } catch (error) {
    if (error.name === "AbortError") return;
    problem = error;
  }
  if (signal.aborted) return;
  view.setAttribute("aria-busy", "false");
  if (facets === null)
    return void replace(
      view,
      failure(problem, () => materials(main, address)),
    );
  if (!problem && facets.entries === 0) return void replace(view, nothingYet());
  const problems = problem?.problems?.filter((one) => one.field) ?? [];
  const fields = filters({ question, facets, problems, onchange: go });
  const result = problem ? failure(problem, () => materials(main, address)) : found(question, page, points, go);
  replace(view, el("h1", { class: "hidden" }, "Materials"), fields, result);
  view.dataset.shown = address;
  focusAgain(view);
}

// what had the focus before the view was drawn anew has it again
function focusAgain(view) {
  const wanted = sessionStorage.getItem("mmace-focus");
  sessionStorage.removeItem("mmace-focus");
  if (!wanted) return;
  const node = wanted.startsWith("[") ? view.querySelector(wanted) : document.getElementById(wanted);
  node?.focus({ preventScroll: true });
}

function found(question, page, points, go) {
  const sort = question.sort ?? "-k1";
  const clear = el(
    "button",
    {
      type: "button",
      class: "quiet",
      onclick: () => {
        location.hash = "#/materials";
      },
    },
    "Clear all filters",
  );
  if (page.rows.length === 0) {
    return el(
      "section",
      { class: "empty", role: "status" },
      el("h2", null, page.total ? "This page is empty" : "Nothing matches"),
      el(
        "p",
        null,
        page.total
          ? "There are rows on earlier pages."
          : "No material meets all of these filters. Loosen one of them, or begin again.",
      ),
      page.total ? el("button", { type: "button", onclick: () => go({ page: "1" }) }, "To the first page") : clear,
    );
  }
  const before = (page.page - 1) * page.limit;
  const total = `${page.total_is_exact ? "" : "more than "}${page.total.toLocaleString("en")}`;
  const last = page.total_is_exact && before + page.rows.length >= page.total;
  const pages = el(
    "nav",
    { class: "pages", "aria-label": "Pages of rows" },
    el(
      "button",
      {
        type: "button",
        id: "previous",
        disabled: page.page === 1,
        onclick: () => go({ page: String(page.page - 1) }, "previous"),
      },
      "← Previous",
    ),
    el("span", null, `Page ${page.page}`),
    el(
      "button",
      { type: "button", id: "next", disabled: last, onclick: () => go({ page: String(page.page + 1) }, "next") },
      "Next →",
    ),
  );
  return el(
    "section",
    { class: "found" },
    el(
      "div",
      { class: "left" },
      el(
        "div",
        { class: "bar-above" },
        el(
          "p",
          { class: "count", role: "status" },
          el("b", null, `${(before + 1).toLocaleString("en")}–${(before + page.rows.length).toLocaleString("en")}`),
          ` of ${total} materials`,
        ),
        hasFilters(question) ? clear : null,
      ),
      rowsTable(page.rows, sort, (next, name) => go({ sort: next }, `[data-sort="${name}"]`)),
      pages,
    ),
    el(
      "div",
      { class: "right" },
      el("h2", null, "Anisotropy against magnetization"),
      scatter(points, (key) => {
        location.hash = `#/material/${key}`;
      }),
      elsewhere(question),
    ),
  );
}

function elsewhere(question) {
  const asked = text(question);
  const most = text({ ...question, limit: "1000" }, ["page"]);
  const copies = [
    ["Command line", command(question)],
    ["Python", python(question)],
    ["REST", `${location.origin}/api/anisotropy${asked ? `?${asked}` : ""}`],
  ];
  return el(
    "details",
    { class: "elsewhere" },
    el("summary", null, "The same question elsewhere, and downloads"),
    copies.map(([name, line]) =>
      el(
        "div",
        { class: "copy" },
        el("span", null, name),
        el("code", null, line),
        el(
          "button",
          {
            type: "button",
            class: "quiet",
            onclick: async (event) => {
              await navigator.clipboard?.writeText(line).catch(() => {});
              event.target.textContent = "copied";
            },
          },
          "copy",
        ),
      ),
    ),
    el(
      "p",
      { class: "downloads" },
      el("a", { href: `/api/anisotropy/export.csv?${most}`, download: "" }, "CSV"),
      el("a", { href: `/api/anisotropy/export.extxyz?${most}`, download: "" }, "extended XYZ with moments"),
      el("span", { class: "hint" }, "the first 1,000 rows"),
    ),
  );
}

function nothingYet() {
  return el(
    "section",
    { class: "empty first" },
    el("h1", null, "No materials yet"),
    el("p", null, "The table is made from force-theorem runs and from predictions of a model:"),
    el(
      "pre",
      null,
      "mmace soc structure.cif            # anisotropy by DFT\nmmace build anisotropy             # brings the table up to date",
    ),
    el("p", null, "Then reload this page. ", el("a", { href: "#/campaigns" }, "Campaigns"), " show what is running."),
  );
}
