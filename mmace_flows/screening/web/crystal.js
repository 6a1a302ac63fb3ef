// The structure of a material with its moments as arrows.

import { element } from "./elements.js";
import { Mesh, add, cross, dot, length, unit } from "./shapes.js";

const EDGE = [0.55, 0.59, 0.65];
const UP = [0.8, 0.26, 0.12],
  DOWN = [0.16, 0.4, 0.75],
  OFF = [0.45, 0.32, 0.62];
const CORNERS = [0, 1].flatMap((i) => [0, 1].flatMap((j) => [0, 1].map((k) => [i, j, k]))); // of the cell
const ARROW = 1.25; // Å on either side of the atom, of the longest moment
const NEAR = 1e-3,
  MOST_ATOMS = 400,
  SMALL_MOMENT = 0.05;

function fractional(cell, position) {
  const [a, b, c] = cell;
  const volume = dot(a, cross(b, c));
  return [dot(position, cross(b, c)), dot(position, cross(c, a)), dot(position, cross(a, b))].map(
    (value) => value / volume,
  );
}

// every atom inside the cell, and again where it lies on a face, edge or corner
function shownAtoms(structure) {
  const shown = [];
  structure.positions.forEach((position, index) => {
    const inside = fractional(structure.cell, position).map((value) => {
      const wrapped = value - Math.floor(value);
      return wrapped > 1 - NEAR ? 0 : wrapped;
    });
    const choices = inside.map((value) => (value < NEAR ? [0, 1] : [0]));
    for (const i of choices[0])
      for (const j of choices[1])
        for (const k of choices[2]) {
          const [x, y, z] = [inside[0] + i, inside[1] + j, inside[2] + k];
          shown.push({
            index,
            place: [0, 1, 2].map(
              (axis) => x * structure.cell[0][axis] + y * structure.cell[1][axis] + z * structure.cell[2][axis],
            ),
          });
        }
  });
  return shown.slice(0, MOST_ATOMS);
}

export function crystalScene(structure, easy) {
  const mesh = new Mesh();
  const [a, b, c] = structure.cell;
  const corner = (i, j, k) =>
    add(
      add(
        a.map((value) => i * value),
        b,
        j,
      ),
      c,
      k,
    );
  for (const from of CORNERS)
    for (const axis of [0, 1, 2])
      if (!from[axis]) mesh.rod(corner(...from), corner(...from.with(axis, 1)), 0.025, EDGE, 0.025, 8);
  const largest = Math.max(...structure.magmoms.map(length));
  const axis = unit(easy);
  const atoms = shownAtoms(structure);
  const rows = atoms.length > 80 ? 12 : 22;
  for (const { index, place } of atoms) {
    const { radius, rgb } = element(structure.symbols[index]);
    mesh.sphere(place, 0.34 * radius, rgb, rows);
    const moment = structure.magmoms[index];
    const size = length(moment);
    if (largest < SMALL_MOMENT || size < 0.02 * largest) continue;
    const share = dot(moment, axis) / size;
    const colour = share > 0.7 ? UP : share < -0.7 ? DOWN : OFF;
    const reach = unit(moment).map((value) => value * ARROW * Math.max(0.45, size / largest));
    mesh.arrow(add(place, reach, -1), add(place, reach), 0.085, colour);
  }
  const centre = corner(0.5, 0.5, 0.5);
  const radius = Math.max(...atoms.map(({ place }) => length(add(place, centre, -1)))) + ARROW + 0.2;
  const labels = [
    ["a", a],
    ["b", b],
    ["c", c],
  ].map(([text, vector]) => ({
    text,
    at: add(
      vector.map((value) => value / 2),
      add(centre, vector, -0.5),
      -0.12,
    ),
    kind: "axis",
  }));
  return { mesh, labels, centre, radius };
}

export const elementsOf = (structure) => [...new Set(structure.symbols)].map((symbol) => element(symbol));
