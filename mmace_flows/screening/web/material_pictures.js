// The pictures of one material: structure and surface in 3D, sharing one camera; energy along a circle.

import { get } from "./api.js";
import { circleChart } from "./chart.js";
import { crystalScene, elementsOf } from "./crystal.js";
import { el, number, replace } from "./dom.js";
import { failure } from "./failure.js";
import { Scene } from "./scene.js";
import { gradient, surfaceScene } from "./surface.js";

let scenes = [];

export function closeScenes() {
  for (const scene of scenes) scene.close();
  scenes = [];
}

function stage(make, describe, camera) {
  const holder = el("div", { class: "stage", data: { scene: "" } });
  holder.addEventListener(
    "shown",
    () => {
      try {
        scenes.push(new Scene(holder, { ...make(), camera, describe }));
      } catch (error) {
        replace(holder, el("p", { class: "notice" }, error.message));
      }
    },
    { once: true },
  );
  return holder;
}

export function structureFigure(entry, camera) {
  const largest = Math.max(...entry.structure.magmoms.map((moment) => Math.hypot(...moment)));
  const kinds = elementsOf(entry.structure).map(({ symbol, rgb }) => {
    const swatch = el("i", { class: "ball" });
    swatch.style.background = `rgb(${rgb.map((value) => Math.round(255 * value)).join(" ")})`;
    return el("span", null, swatch, symbol);
  });
  const note = largest < 0.05 ? "no moments" : `arrows: moments, the longest ${number(largest)} μB`;
  return el(
    "figure",
    null,
    el("h2", null, "Structure"),
    stage(
      () => crystalScene(entry.structure, entry.values.easy),
      `Crystal structure of ${entry.formula} with ${note}.`,
      camera,
    ),
    el("figcaption", { class: "legend" }, kinds, el("span", { class: "hint" }, note)),
  );
}

export function surfaceFigure(entry, path, camera) {
  const levels = ["DFT", "model"].filter((level) => entry[level === "DFT" ? "dft" : "model"]);
  const box = el("div", { class: "surface-box" });
  const bar = el(
    "div",
    { class: "gradient", "aria-hidden": "true" },
    gradient().map((rgb) => {
      const part = el("i");
      part.style.background = `rgb(${rgb.join(" ")})`;
      return part;
    }),
  );
  const top = el("span", null, "");
  async function show(level) {
    for (const scene of scenes.filter((one) => box.contains(one.holder))) {
      scene.close();
      scenes.splice(scenes.indexOf(scene), 1);
    }
    replace(box, el("p", { class: "loading" }, "Loading …"));
    try {
      const points = await get(`${path}/surface?level=${level}`);
      if (!box.isConnected) return;
      const made = surfaceScene(points);
      const holder = stage(
        () => made,
        `Energy of ${entry.formula} by ${level} over all directions of the moments, from 0 to ${number(made.highest, 3)} meV per atom.`,
        camera,
      );
      replace(box, holder);
      holder.dispatchEvent(new Event("shown"));
      replace(top, `${number(made.highest, 3)} meV/atom`);
    } catch (error) {
      replace(
        box,
        failure(error, () => show(level)),
      );
    }
  }
  const choose =
    levels.length < 2
      ? null
      : el(
          "div",
          { class: "segments", role: "radiogroup", "aria-label": "Values by" },
          levels.map((level) =>
            el(
              "label",
              null,
              el("input", {
                type: "radio",
                name: "surface-level",
                checked: level === entry.level,
                onchange: () => show(level),
              }),
              el("span", null, level),
            ),
          ),
        );
  requestAnimationFrame(() => show(entry.level));
  return el(
    "figure",
    null,
    el("div", { class: "figure-head" }, el("h2", null, "Anisotropy surface"), choose),
    box,
    el(
      "figcaption",
      { class: "legend" },
      el("span", null, "0"),
      bar,
      top,
      el("span", { class: "hint" }, "energy by direction of the moments; same view as the structure"),
    ),
  );
}

export function circleFigure(entry, compared) {
  return el("figure", null, el("h2", null, "From easy to hard direction"), circleChart(compared.circle));
}
