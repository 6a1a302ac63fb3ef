// The periodic table as a filter: a click takes an element in, a second one excludes it, a third leaves it open.

import { el } from "./dom.js";
import { ELEMENTS } from "./elements.js";

const NEXT = { open: "in", in: "out", out: "open" };
const SAID = { open: "not filtered", in: "must be there", out: "excluded" };
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export function periodicTable({ there, included, excluded, onchange }) {
  const known = new Set(there);
  const state = (symbol) => (included.includes(symbol) ? "in" : excluded.includes(symbol) ? "out" : "open");
  const buttons = ELEMENTS.map((one) => {
    const now = state(one.symbol);
    const known_ = known.has(one.symbol) || now !== "open";
    const button = el(
      "button",
      {
        type: "button",
        class: `element ${now}`,
        disabled: !known_,
        tabindex: "-1",
        "aria-label": `${one.symbol}: ${SAID[now]}`,
        "aria-pressed": now === "open" ? "false" : now === "in" ? "true" : "mixed",
        data: { symbol: one.symbol },
        title: known_ ? `${one.symbol}: ${SAID[now]}` : `${one.symbol}: in no material`,
        onclick: () => toggle(one.symbol),
      },
      el("small", null, one.number),
      one.symbol,
    );
    button.style.gridRow = one.row;
    button.style.gridColumn = one.column;
    return button;
  });

  function toggle(symbol) {
    const next = NEXT[state(symbol)];
    included = included.filter((other) => other !== symbol).concat(next === "in" ? symbol : []);
    excluded = excluded.filter((other) => other !== symbol).concat(next === "out" ? symbol : []);
    onchange({ included, excluded, focus: symbol });
  }

  // arrows move through the table, which is one stop of the tab key
  function move(event) {
    const step = MOVES[event.key];
    const from = ELEMENTS.find((one) => one.symbol === event.target.dataset?.symbol);
    if (!step || !from) return;
    event.preventDefault();
    const open = ELEMENTS.filter((one, index) => !buttons[index].disabled && one !== from);
    const ahead = open.filter((one) => (one.row - from.row) * step[0] + (one.column - from.column) * step[1] > 0);
    const distance = (one) =>
      Math.abs(one.row - from.row) * (step[0] ? 1 : 20) + Math.abs(one.column - from.column) * (step[1] ? 1 : 20);
    const best = ahead.sort((a, b) => distance(a) - distance(b))[0];
    if (best) buttons[best.number - 1].focus();
  }

  const first = buttons.find((button) => !button.disabled);
  if (first) first.tabIndex = 0;
  const table = el(
    "div",
    { class: "periodic", role: "group", "aria-label": "Elements: press to take in, again to exclude", onkeydown: move },
    buttons,
  );
  table.addEventListener("focusin", (event) => {
    for (const button of buttons) button.tabIndex = -1;
    event.target.tabIndex = 0;
  });
  return table;
}
