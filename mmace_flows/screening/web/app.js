// Which view the address asks for; the token, where one is needed; dark and light.

import { beginSession, onTokenNeeded } from "./api.js";
import { campaign, campaigns, stopWatching } from "./campaigns.js";
import { el } from "./dom.js";
import { material } from "./material.js";
import { closeScenes } from "./material_pictures.js";
import { materials } from "./materials.js";

const main = document.getElementById("main");

function show() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?", 2);
  const [, page = "materials", rest] = path.split("/");
  stopWatching();
  closeScenes();
  for (const link of document.querySelectorAll("header nav a")) {
    const here = link.dataset.page === page || (page === "material" && link.dataset.page === "materials");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = "mmace · magnets by anisotropy";
  const name = rest === undefined ? "" : decode(rest);
  if (page === "material" && name) {
    scrollTo(0, 0);
    return material(main, name);
  }
  if (page === "campaigns") return name ? campaign(main, name) : campaigns(main);
  sessionStorage.setItem("mmace-table", location.hash || "#/materials");
  return materials(main, query);
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// one dialog, however many requests wait for it
let asking = null;
onTokenNeeded(() => {
  asking ??= new Promise((done) => {
    const problem = el("p", { class: "problem", role: "alert" });
    const input = el("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
    const dialog = el(
      "dialog",
      { class: "token", "aria-labelledby": "token-title" },
      el(
        "form",
        {
          method: "dialog",
          onsubmit: async (event) => {
            event.preventDefault();
            if (await beginSession(input.value.trim())) {
              dialog.close();
              dialog.remove();
              asking = null;
              done();
            } else {
              problem.textContent = "That is not the token.";
              input.select();
            }
          },
        },
        el("h2", { id: "token-title" }, "This server asks for its token"),
        el("label", { for: "token" }, "Token"),
        input,
        problem,
        el("button", { type: "submit" }, "Go on"),
      ),
    );
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
});

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("mmace-theme", root.dataset.theme);
});
addEventListener("hashchange", show);
show();
