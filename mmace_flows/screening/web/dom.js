// Making elements, and numbers and formulas as people write them. Text only ever enters as text nodes.

export const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.setAttribute("class", value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export const el = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

export function number(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value) < 0.5 * 10 ** -digits ? (0).toFixed(digits) : value.toFixed(digits);
  return text.replace("-", "−");
}

// "Fe3Sn2" with its numbers as subscripts
export function formula(text) {
  return text
    .split(/(\d+)/)
    .filter(Boolean)
    .map((part) => (/^\d+$/.test(part) ? el("sub", null, part) : part));
}

// "P6_3/mmc": what follows an underscore is a subscript, a minus before a digit a bar
export function spaceGroup(text) {
  return text
    .split(/(_\d|-\d)/)
    .filter(Boolean)
    .map((part) => {
      if (/^_\d$/.test(part)) return el("sub", null, part[1]);
      if (/^-\d$/.test(part)) return el("span", { class: "bar" }, part[1]);
      return part;
    });
}

// the magnetic ordering, and after an arrow what DFT made of it where it did not stay
export function ordering(row) {
  const title = row.became ? `DFT, started ${row.ordering}, ended ${row.became}: only the model knows this ordering` : null;
  const left = row.became ? el("span", { class: "became" }, ` → ${row.became}`) : null;
  return el("span", { class: `order ${row.ordering}`, title }, row.ordering, left);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const when = (text) => (text ? new Date(text).toLocaleString() : "");
