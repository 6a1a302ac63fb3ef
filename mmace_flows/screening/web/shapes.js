// Meshes: spheres, rods, arrows, and surfaces over the sphere. All are added to one list of triangles.

export const add = (a, b, factor = 1) => a.map((value, i) => value + factor * b[i]);
export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
export const length = (a) => Math.sqrt(dot(a, a));
export const unit = (a) => {
  const size = length(a) || 1;
  return a.map((value) => value / size);
};
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

export class Mesh {
  constructor() {
    this.positions = [];
    this.normals = [];
    this.colours = [];
    this.indices = [];
  }
  get count() {
    return this.positions.length / 3;
  }
  vertex(position, normal, colour) {
    this.positions.push(...position);
    this.normals.push(...normal);
    this.colours.push(...colour);
  }

  // a grid of rows × columns vertices, each made by at(row, column) → [position, normal, colour]
  grid(rows, columns, at) {
    const first = this.count;
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) this.vertex(...at(i, j));
    for (let i = 0; i + 1 < rows; i++) {
      for (let j = 0; j + 1 < columns; j++) {
        const corner = first + i * columns + j;
        this.indices.push(corner, corner + columns, corner + 1, corner + 1, corner + columns, corner + columns + 1);
      }
    }
  }

  sphere(centre, radius, colour, rows = 20) {
    this.grid(rows + 1, 2 * rows + 1, (i, j) => {
      const [theta, phi] = [(Math.PI * i) / rows, (Math.PI * j) / rows];
      const normal = [Math.sin(theta) * Math.cos(phi), Math.sin(theta) * Math.sin(phi), Math.cos(theta)];
      return [add(centre, normal, radius), normal, colour];
    });
  }

  // from → to with radii at both ends: a rod if they are equal, a cone if one is zero
  rod(from, to, radius, colour, end = radius, sides = 18) {
    const along = unit(add(to, from, -1));
    const across = unit(cross(along, Math.abs(along[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0]));
    const other = cross(along, across);
    const slope = (radius - end) / (length(add(to, from, -1)) || 1);
    this.grid(2, sides + 1, (i, j) => {
      const angle = (2 * Math.PI * j) / sides;
      const outward = add(
        across.map((value) => value * Math.cos(angle)),
        other,
        Math.sin(angle),
      );
      return [add(i ? to : from, outward, i ? end : radius), unit(add(outward, along, slope)), colour];
    });
  }

  disc(centre, normal, radius, colour, sides = 18) {
    this.rod(centre, add(centre, normal, 1e-4), radius, colour, 0, sides);
  }

  arrow(from, to, radius, colour) {
    const along = unit(add(to, from, -1));
    const neck = add(to, along, -3.2 * radius);
    this.rod(from, neck, radius, colour);
    this.disc(
      from,
      along.map((value) => -value),
      radius,
      colour,
    );
    this.rod(neck, to, 2.2 * radius, colour, 0);
    this.disc(
      neck,
      along.map((value) => -value),
      2.2 * radius,
      colour,
    );
  }
}

// blue (low) over green to yellow (high), readable without telling red from green
const STOPS = [
  [0.27, 0.2, 0.58],
  [0.16, 0.44, 0.68],
  [0.13, 0.66, 0.6],
  [0.55, 0.8, 0.35],
  [0.99, 0.86, 0.25],
];
export function colourOf(share) {
  const place = Math.max(0, Math.min(1, share)) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(place));
  return STOPS[low].map((value, i) => value + (place - low) * (STOPS[low + 1][i] - value));
}
