// The frame of a picture in SVG: pixels of values, a grid with its labels, titles of both axes.

import { svg } from "./dom.js";

// box: sizes and margins in pixels; then the values at both ends of x and of y. Lines of the grid: [value, label].
export function frame({ width, height, left, right, top, bottom }, [x0, x1], [y0, y1]) {
  const x = (value) => left + ((value - x0) / (x1 - x0)) * (width - left - right);
  const y = (value) => top + ((y1 - value) / (y1 - y0)) * (height - top - bottom);
  const middle = (top + height - bottom) / 2;
  const grid = (across, up) => [
    across.map(([value, label]) => [
      svg("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: height - bottom }),
      svg("text", { class: "tick", x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, label),
    ]),
    up.map(([value, label]) => [
      svg("line", { class: value ? "grid" : "grid zero", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: left - 7, y: y(value) + 4, "text-anchor": "end" }, label),
    ]),
  ];
  const titles = (under, beside) => [
    svg("text", { class: "axis", x: (left + width - right) / 2, y: height - 7, "text-anchor": "middle" }, under),
    svg(
      "text",
      { class: "axis", x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` },
      beside,
    ),
  ];
  return { x, y, grid, titles };
}
