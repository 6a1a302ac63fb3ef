// The anisotropy surface: energy over all directions of the moments, as radius and colour.

import { Mesh, add, colourOf, cross, dot, unit } from "./shapes.js";

const LOW = 0.45; // radius where the energy is lowest; 1 where it is highest
const AXIS = [0.55, 0.59, 0.65],
  EASY = [0.8, 0.26, 0.12],
  HARD = [0.35, 0.37, 0.42];

export function surfaceScene(points) {
  const mesh = new Mesh();
  const radians = (value) => (value * Math.PI) / 180;
  const highest = Math.max(1e-12, ...points.energies.flat());
  const place = (i, j) => {
    const [theta, phi, r] = [
      radians(points.theta[i]),
      radians(points.phi[j]),
      LOW + ((1 - LOW) * points.energies[i][j]) / highest,
    ];
    return [r * Math.sin(theta) * Math.cos(phi), r * Math.sin(theta) * Math.sin(phi), r * Math.cos(theta)];
  };
  const rows = points.theta.length,
    columns = points.phi.length;
  mesh.grid(rows, columns, (i, j) => {
    const here = place(i, j);
    const down = add(place(Math.min(rows - 1, i + 1), j), place(Math.max(0, i - 1), j), -1);
    const round = add(place(i, (j + 1) % (columns - 1)), place(i, (j - 1 + columns - 1) % (columns - 1)), -1);
    const normal = i === 0 || i === rows - 1 ? unit(here) : unit(cross(down, round));
    return [
      here,
      dot(normal, here) < 0 ? normal.map((value) => -value) : normal,
      colourOf(points.energies[i][j] / highest),
    ];
  });
  const labels = [];
  for (const [text, axis] of [
    ["x", [1, 0, 0]],
    ["y", [0, 1, 0]],
    ["z", [0, 0, 1]],
  ]) {
    mesh.rod(
      [0, 0, 0],
      axis.map((value) => 1.3 * value),
      0.008,
      AXIS,
      0.008,
      8,
    );
    labels.push({ text, at: axis.map((value) => 1.4 * value), kind: "axis" });
  }
  for (const [text, axis, colour] of [
    ["easy", points.easy, EASY],
    ["hard", points.hard, HARD],
  ]) {
    mesh.rod(
      axis.map((value) => -1.18 * value),
      axis.map((value) => 1.18 * value),
      0.018,
      colour,
      0.018,
      10,
    );
    labels.push({ text, at: axis.map((value) => -1.3 * value), kind: text });
  }
  return { mesh, labels, centre: [0, 0, 0], radius: 1.62, highest };
}

export const gradient = () =>
  Array.from({ length: 24 }, (_, i) => colourOf(i / 23).map((value) => Math.round(255 * value)));
