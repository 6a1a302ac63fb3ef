// What is shown in place of what could not be had.

import { el } from "./dom.js";

export function failure(error, again) {
  return el(
    "section",
    { class: "empty error", role: "alert" },
    el(
      "h2",
      null,
      error.status === 422
        ? "This question cannot be asked"
        : error.status === 404
          ? "Not found"
          : "Something went wrong",
    ),
    (error.problems ?? [{ message: String(error.message ?? error) }]).map((one) =>
      el("p", null, one.field ? el("code", null, one.field) : null, one.field ? " " : null, one.message),
    ),
    el(
      "p",
      null,
      el("button", { type: "button", onclick: again }, "Try again"),
      " ",
      el("a", { href: "#/materials" }, "All materials"),
    ),
  );
}
