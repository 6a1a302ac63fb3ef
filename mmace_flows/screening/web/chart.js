// Energy along the great circle from the easy towards the hard direction, by model and by DFT.

import { frame } from "./axes.js";
import { el, number, svg } from "./dom.js";

const BOX = { width: 560, height: 280, left: 58, right: 14, top: 12, bottom: 42 };

export function circleChart(circle) {
  const lines = ["dft", "model"].filter((name) => circle[name]);
  const top = Math.max(1e-6, ...lines.flatMap((name) => circle[name])) * 1.08;
  const { x, y, grid, titles } = frame(BOX, [0, 180], [0, top]);
  const digits = top > 2 ? 1 : top > 0.2 ? 2 : 3;
  const energies = [0, 0.25, 0.5, 0.75, 1].map((share) => (share * top) / 1.08);
  const parts = grid(
    [0, 45, 90, 135, 180].map((degrees) => [degrees, `${degrees}°`]),
    energies.map((value) => [value, number(value, digits)]),
  );
  for (const name of lines)
    parts.push(
      svg("polyline", {
        class: `curve ${name}`,
        points: circle.degrees
          .map((degrees, i) => `${x(degrees).toFixed(1)},${y(circle[name][i]).toFixed(1)}`)
          .join(" "),
      }),
    );
  parts.push(titles("angle from the easy direction", "meV/atom"));
  const described = lines
    .map((name) => `${name === "dft" ? "DFT" : "model"} up to ${number(Math.max(...circle[name]), 3)} meV per atom`)
    .join(", ");
  return el(
    "div",
    { class: "plot" },
    svg(
      "svg",
      {
        viewBox: `0 0 ${BOX.width} ${BOX.height}`,
        role: "img",
        "aria-label": `Energy along the great circle: ${described}`,
      },
      parts,
    ),
    el(
      "p",
      { class: "legend" },
      lines.map((name) => el("span", null, el("i", { class: `line ${name}` }), name === "dft" ? "DFT" : "model")),
    ),
  );
}
