// K1 against μ0 Ms with lines of equal hardness κ = sqrt(K1/(μ0 Ms²)).

import { frame } from "./axes.js";
import { el, formula, number, svg } from "./dom.js";

const BOX = { width: 560, height: 430, left: 52, right: 14, top: 14, bottom: 44 };
const VACUUM = 4e-7 * Math.PI;
const HARDNESS = [0.5, 1, 2];
export const ORDERINGS = ["FM", "FiM", "AFM", "non-collinear", "NM"];

// K1 in MJ/m³ at which a material of polarization μ0 Ms (T) has hardness κ
export const k1At = (kappa, polarization) => (kappa * polarization) ** 2 / VACUUM / 1e6;

function ticks(low, high, count = 6) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step)
    found.push(Math.round(value / step) * step);
  return found;
}

export function scatter(points, onopen) {
  const count = points.k1.length;
  const highest = Math.max(0.5, ...points.k1),
    lowest = Math.min(0, ...points.k1);
  const x1 = Math.max(0.5, ...points.polarization) * 1.06;
  const pad = 0.06 * (highest - lowest);
  const y0 = lowest < 0 ? lowest - pad : 0,
    y1 = highest + pad;
  const { x, y, grid, titles } = frame(BOX, [0, x1], [y0, y1]);
  const parts = grid(
    ticks(0, x1).map((value) => [value, number(value, 1)]),
    ticks(y0, y1).map((value) => [value, number(value, y1 - y0 < 16 ? 1 : 0)]),
  );
  for (const kappa of HARDNESS) {
    const end = Math.min(x1, Math.sqrt(y1 * 1e6 * VACUUM) / kappa);
    const line = Array.from({ length: 41 }, (_, i) => (i / 40) * end).map(
      (ms) => `${x(ms).toFixed(1)},${y(k1At(kappa, ms)).toFixed(1)}`,
    );
    const right = end >= x1;
    parts.push(
      svg("polyline", { class: `hardness ${kappa === 1 ? "one" : ""}`, points: line.join(" ") }),
      svg(
        "text",
        {
          class: "hardness-label",
          x: x(end) - (right ? 4 : -4),
          y: y(k1At(kappa, end)) + (right ? -6 : 11),
          "text-anchor": right ? "end" : "start",
        },
        `κ = ${kappa}`,
      ),
    );
  }
  parts.push(titles("μ₀Mₛ (T)", "K₁ (MJ/m³)"));
  const dots = Array.from({ length: count }, (_, i) =>
    svg("circle", {
      class: `dot ${points.ordering[i]} ${points.level[i]}`,
      cx: x(points.polarization[i]).toFixed(1),
      cy: y(points.k1[i]).toFixed(1),
      r: points.level[i] === "DFT" ? 5 : 3.6,
      data: { index: i },
    }),
  );
  const marker = svg("circle", { class: "marker", r: 9, visibility: "hidden" });
  const tip = el("div", { class: "tip", role: "status", "aria-live": "polite", hidden: true });
  let current = -1;

  function show(index) {
    current = index;
    marker.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    tip.hidden = index < 0;
    if (index < 0) return;
    marker.setAttribute("cx", x(points.polarization[index]));
    marker.setAttribute("cy", y(points.k1[index]));
    tip.replaceChildren(
      el("b", null, formula(points.formula[index])),
      ` ${points.ordering[index]} · K₁ ${number(points.k1[index])} MJ/m³ · μ₀Mₛ ${number(points.polarization[index])} T · ${points.level[index]}`,
    );
    tip.style.left = `${(100 * x(points.polarization[index])) / BOX.width}%`;
    tip.style.top = `${(100 * y(points.k1[index])) / BOX.height}%`;
    tip.classList.toggle("left", x(points.polarization[index]) > BOX.width / 2);
  }

  const indexOf = (event) => Number(event.target.dataset?.index ?? -1);
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${BOX.width} ${BOX.height}`,
      role: "application",
      tabindex: "0",
      "aria-label": `Picture of K1 against polarization, ${count} materials. Arrow keys go through them, Enter opens one.`,
      onpointerover: (event) => {
        if (event.target.matches(".dot")) show(indexOf(event));
      },
      onpointerleave: () => show(-1),
      onclick: (event) => {
        if (event.target.matches(".dot")) onopen(points.entry_id[indexOf(event)]);
      },
      onblur: () => show(-1),
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (step && count) {
          event.preventDefault();
          show((current + step + count) % count);
        }
        if (event.key === "Enter" && current >= 0) onopen(points.entry_id[current]);
      },
    },
    parts,
    svg("g", null, dots),
    marker,
  );
  const present = ORDERINGS.filter((one) => points.ordering.includes(one));
  const legend = el(
    "p",
    { class: "legend" },
    present.map((one) => el("span", null, el("i", { class: `swatch ${one}` }), one)),
    points.level.includes("DFT") ? el("span", null, el("i", { class: "swatch ring" }), "DFT") : null,
  );
  return el("figure", { class: "scatter" }, el("div", { class: "plot" }, picture, tip), legend);
}
