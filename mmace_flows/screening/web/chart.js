// Energy along the great circle from the easy towards the hard direction, by model and by DFT.

import { el, number, svg } from "./dom.js";

const WIDTH = 560,
  HEIGHT = 280,
  LEFT = 58,
  RIGHT = 14,
  TOP = 12,
  BOTTOM = 42;

export function circleChart(circle) {
  const lines = ["dft", "model"].filter((name) => circle[name]);
  const top = Math.max(1e-6, ...lines.flatMap((name) => circle[name])) * 1.08;
  const x = (degrees) => LEFT + (degrees / 180) * (WIDTH - LEFT - RIGHT);
  const y = (energy) => TOP + (1 - energy / top) * (HEIGHT - TOP - BOTTOM);
  const parts = [];
  for (const degrees of [0, 45, 90, 135, 180]) {
    parts.push(
      svg("line", { class: "grid", x1: x(degrees), x2: x(degrees), y1: TOP, y2: HEIGHT - BOTTOM }),
      svg("text", { class: "tick", x: x(degrees), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, `${degrees}°`),
    );
  }
  const digits = top > 2 ? 1 : top > 0.2 ? 2 : 3;
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = (share * top) / 1.08;
    parts.push(
      svg("line", { class: share ? "grid" : "grid zero", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, number(value, digits)),
    );
  }
  for (const name of lines)
    parts.push(
      svg("polyline", {
        class: `curve ${name}`,
        points: circle.degrees
          .map((degrees, i) => `${x(degrees).toFixed(1)},${y(circle[name][i]).toFixed(1)}`)
          .join(" "),
      }),
    );
  parts.push(
    svg(
      "text",
      { class: "axis", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" },
      "angle from the easy direction",
    ),
    svg(
      "text",
      {
        class: "axis",
        x: 13,
        y: (TOP + HEIGHT - BOTTOM) / 2,
        "text-anchor": "middle",
        transform: `rotate(-90 13 ${(TOP + HEIGHT - BOTTOM) / 2})`,
      },
      "meV/atom",
    ),
  );
  const described = lines
    .map((name) => `${name === "dft" ? "DFT" : "model"} up to ${number(Math.max(...circle[name]), 3)} meV per atom`)
    .join(", ");
  return el(
    "div",
    { class: "plot" },
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Energy along the great circle: ${described}` },
      parts,
    ),
    el(
      "p",
      { class: "legend" },
      lines.map((name) => el("span", null, el("i", { class: `line ${name}` }), name === "dft" ? "DFT" : "model")),
    ),
  );
}
