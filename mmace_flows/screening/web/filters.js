// The filters beside the periodic table. Wrong values come back from the server with the name of their field.

import { el } from "./dom.js";
import { words } from "./question.js";
import { periodicTable } from "./periodic.js";
import { ORDERINGS } from "./scatter.js";

const RANGES = [
  ["K₁", "MJ/m³", "min_k1", "max_k1"],
  ["μ₀Mₛ", "T", "min_ms", "max_ms"],
  ["κ", "", "min_hardness", "max_hardness"],
];

export function filters({ question, facets, problems, onchange }) {
  const problemOf = (field) => problems.find((one) => one.field === field)?.message;
  // both change before the answer comes and all of this is drawn anew: a second click adds to the first
  let mode = question.any_of ? "any_of" : "elements";
  let included = words(question.any_of || question.elements);

  function input(field, label, props = {}) {
    const problem = problemOf(field);
    return el("input", {
      type: "text",
      id: `f-${field}`,
      name: field,
      value: question[field] ?? "",
      "aria-label": label,
      autocomplete: "off",
      spellcheck: "false",
      "aria-invalid": problem ? "true" : null,
      "aria-describedby": problem ? `p-${field}` : null,
      onchange: (event) => onchange({ [field]: event.target.value.trim() }, `f-${field}`),
      ...props,
    });
  }
  const note = (...fields) =>
    fields
      .filter(problemOf)
      .map((field) => el("p", { class: "problem", id: `p-${field}`, role: "alert" }, problemOf(field)));
  const number = (field, label) =>
    input(field, label, { inputmode: "decimal", class: "short", placeholder: field.startsWith("min") ? "from" : "to" });

  function choice(field, label, options) {
    return el(
      "select",
      {
        id: `f-${field}`,
        "aria-label": label,
        onchange: (event) => onchange({ [field]: event.target.value }, `f-${field}`),
      },
      el("option", { value: "" }, "any"),
      options.map(([value, text]) => el("option", { value, selected: question[field] === value }, text)),
    );
  }

  const taken = () => ({
    elements: mode === "elements" ? included.join(",") : "",
    any_of: mode === "any_of" ? included.join(",") : "",
  });
  const setElements = ({ excluded, focus, ...now }) => {
    included = now.included;
    onchange({ ...taken(), exclude: excluded.join(",") }, `[data-symbol="${focus}"]`);
  };

  const modes = el(
    "div",
    { class: "segments", role: "radiogroup", "aria-label": "How chosen elements count" },
    [
      ["elements", "all of them"],
      ["any_of", "at least one"],
    ].map(([value, text]) =>
      el(
        "label",
        null,
        el("input", {
          type: "radio",
          name: "mode",
          id: `mode-${value}`,
          checked: mode === value,
          onchange: () => {
            mode = value;
            onchange(taken(), `mode-${value}`);
          },
        }),
        el("span", null, text),
      ),
    ),
  );

  const chosenOrders = words(question.ordering);
  const checkedOrders = () => ORDERINGS.filter((one) => orders.querySelector(`#o-${one}`).checked).join(",");
  const orders = el(
    "div",
    { class: "chips", role: "group", "aria-label": "Magnetic ordering" },
    ORDERINGS.map((one) =>
      el(
        "label",
        { class: "chip" },
        el("input", {
          type: "checkbox",
          id: `o-${one}`,
          checked: chosenOrders.includes(one),
          onchange: () => onchange({ ordering: checkedOrders() }, `o-${one}`),
        }),
        el("span", null, el("i", { class: `swatch ${one}` }), one),
      ),
    ),
  );

  return el(
    "section",
    { class: "filters", "aria-label": "Filters" },
    el(
      "div",
      { class: "by-element" },
      el(
        "div",
        { class: "by-element-head" },
        el("h2", null, "Elements"),
        modes,
        el("span", { class: "hint" }, "click: take in · again: exclude"),
      ),
      periodicTable({ there: facets.elements, included, excluded: words(question.exclude), onchange: setElements }),
      note("elements", "any_of", "exclude"),
    ),
    el(
      "div",
      { class: "by-value" },
      el("div", { class: "field full" }, el("span", { class: "label" }, "Magnetic order"), orders, note("ordering")),
      RANGES.map(([name, unit, low, high]) =>
        el(
          "div",
          { class: "field" },
          el("span", { class: "label" }, name, unit ? el("small", null, ` ${unit}`) : null),
          el(
            "div",
            { class: "pair" },
            number(low, `${name} at least`),
            el("span", null, "–"),
            number(high, `${name} at most`),
          ),
          note(low, high),
        ),
      ),
      el(
        "div",
        { class: "field" },
        el("label", { for: "f-max_ehull", class: "label" }, "E above hull", el("small", null, " eV/atom")),
        input("max_ehull", null, { inputmode: "decimal", placeholder: "at most" }),
        note("max_ehull"),
      ),
      el(
        "div",
        { class: "field" },
        el("label", { for: "f-formula", class: "label" }, "Formula"),
        input("formula", null, { placeholder: "FePt" }),
        note("formula"),
      ),
      el(
        "div",
        { class: "field" },
        el("label", { for: "f-space_group", class: "label" }, "Space group"),
        choice(
          "space_group",
          null,
          facets.space_groups.map((one) => [String(one.number), `${one.symbol} (${one.number})`]),
        ),
        note("space_group"),
      ),
      el(
        "div",
        { class: "field" },
        el("label", { for: "f-level", class: "label" }, "Values by"),
        choice("level", null, [
          ["DFT", "DFT"],
          ["model", "model"],
        ]),
        note("level"),
      ),
      el(
        "div",
        { class: "field" },
        el("label", { for: "f-campaign", class: "label" }, "Campaign"),
        choice(
          "campaign",
          null,
          facets.campaigns.map((one) => [one, one]),
        ),
        note("campaign"),
      ),
    ),
  );
}
