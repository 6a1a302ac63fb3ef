// The question that the page asks: the same filters as the command line and REST, kept in the address.

export const DEFAULTS = { sort: "-k1", limit: "50", page: "1" };
export const FIELDS = [
  "elements",
  "any_of",
  "exclude",
  "formula",
  "ordering",
  "level",
  "space_group",
  "campaign",
  "min_k1",
  "max_k1",
  "min_strength",
  "min_ms",
  "max_ms",
  "min_hardness",
  "max_hardness",
  "max_ehull",
  "max_atoms",
  "sort",
  "limit",
  "page",
];

export function parse(text) {
  const given = new URLSearchParams(text);
  const question = {};
  for (const field of FIELDS) {
    const value = given.get(field)?.trim();
    if (value && value !== DEFAULTS[field]) question[field] = value;
  }
  return question;
}

export function text(question, without = []) {
  const params = new URLSearchParams();
  for (const field of FIELDS) {
    const value = question[field];
    if (value && value !== DEFAULTS[field] && !without.includes(field)) params.set(field, value);
  }
  return params.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
}

// a change of filters begins at the first page again
export function changed(question, changes) {
  const next = { ...question, ...changes };
  if (!("page" in changes)) delete next.page;
  return next;
}

export const words = (value) =>
  value
    ? value
        .split(",")
        .map((word) => word.trim())
        .filter(Boolean)
    : [];

export const hasFilters = (question) => FIELDS.some((field) => question[field] && !(field in DEFAULTS));

export function command(question) {
  const parts = ["mmace query anisotropy"];
  for (const field of FIELDS) {
    const value = question[field];
    if (value && value !== DEFAULTS[field]) {
      const quoted = /^[A-Za-z0-9_.,/+-]+$/.test(value) ? value : `'${value.replaceAll("'", "")}'`;
      parts.push(`--${field.replaceAll("_", "-")} ${quoted}`);
    }
  }
  return parts.join(" ");
}

export function python(question) {
  const given = FIELDS.filter((field) => question[field] && question[field] !== DEFAULTS[field]);
  return `AnisotropyQuery(${given.map((field) => `${field}=${JSON.stringify(question[field])}`).join(", ")})`;
}
