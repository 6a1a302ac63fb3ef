// Campaigns: where they stand now, asked again every few seconds.

import { get } from "./api.js";
import { duration, el, replace, when } from "./dom.js";
import { failure } from "./failure.js";
import { plainTable } from "./table.js";

const EVERY = 4000; // ms
let timer = null;

export function stopWatching() {
  clearTimeout(timer);
  timer = null;
}

// asks, shows, and asks again as long as this view is on the page
async function watch(main, path, show) {
  const view = el("div", { class: "campaigns" }, el("p", { class: "loading" }, "Loading …"));
  replace(main, view);
  let shown = "";
  async function look() {
    try {
      const found = await get(path);
      if (!view.isConnected) return;
      const text = JSON.stringify(found);
      if (text !== shown) replace(view, show(found)); // what has not changed keeps its focus and selection
      shown = text;
    } catch (error) {
      if (!view.isConnected) return;
      shown = "";
      replace(view, failure(error, look));
      if (error.status === 404) return;
    }
    timer = setTimeout(look, EVERY);
  }
  await look();
}

const share = (done, all) => {
  const bar = el(
    "span",
    {
      class: "progress",
      role: "progressbar",
      "aria-valuemin": 0,
      "aria-valuemax": all,
      "aria-valuenow": done,
      "aria-label": "jobs done",
    },
    el("i"),
  );
  bar.firstChild.style.width = `${all ? (100 * done) / all : 0}%`;
  return bar;
};
const state = (row) => el("span", { class: `state ${row.state}` }, row.state);
const report = (row) =>
  row.has_report
    ? el(
        "a",
        { href: `/api/campaigns/${encodeURIComponent(row.campaign)}/report`, target: "_blank", rel: "noopener" },
        "Report",
      )
    : null;

function jobs(row) {
  const parts = [`${row.jobs_done} of ${row.jobs_expected} jobs done`];
  if (row.jobs_running && row.state === "running") parts.push(`${row.jobs_running} running`);
  if (row.jobs_failed) parts.push(`${row.jobs_failed} failed`);
  if (row.seconds_left && row.state === "running") parts.push(`about ${duration(row.seconds_left)} left`);
  return parts.join(" · ");
}

export const campaigns = (main) =>
  watch(main, "/api/campaigns", (rows) =>
    rows.length === 0
      ? el(
          "section",
          { class: "empty" },
          el("h1", null, "No campaigns yet"),
          el("p", null, "Begin one:"),
          el("pre", null, "mmace run workflows/feni.py --preset small"),
        )
      : [
          el("h1", null, "Campaigns"),
          el(
            "ul",
            { class: "campaign-list" },
            rows.map((row) =>
              el(
                "li",
                null,
                el(
                  "div",
                  { class: "campaign-head" },
                  el("a", { class: "name", href: `#/campaigns/${encodeURIComponent(row.campaign)}` }, row.campaign),
                  state(row),
                  report(row),
                ),
                share(row.jobs_done, row.jobs_expected),
                el("p", { class: "hint" }, jobs(row), ` · begun ${when(row.created)}`),
              ),
            ),
          ),
        ],
  );

export const campaign = (main, name) =>
  watch(main, `/api/campaigns/${encodeURIComponent(name)}`, (row) => [
    el("p", { class: "back" }, el("a", { href: "#/campaigns" }, "← Campaigns")),
    el("div", { class: "campaign-head" }, el("h1", null, row.campaign), state(row), report(row)),
    share(row.jobs_done, row.jobs_expected),
    el(
      "p",
      { class: "hint" },
      jobs(row),
      ` · ${row.recipe}, preset ${row.preset} · `,
      el("a", { href: `#/materials?campaign=${encodeURIComponent(row.campaign)}` }, "its materials"),
    ),
    el(
      "div",
      { class: "pictures" },
      el(
        "section",
        null,
        el("h2", null, "Stages"),
        plainTable(
          ["stage", "done", "running", "failed", "of"],
          row.stages.map((one) => [one.stage, one.done, one.running || "", one.failed || "", one.of]),
          1,
        ),
        row.stuck?.length
          ? [
              el("h3", null, "What holds it up"),
              el(
                "ul",
                { class: "stuck" },
                row.stuck.map((one) => el("li", null, one.what, one.mend ? [": ", el("code", null, one.mend)] : null)),
              ),
            ]
          : null,
        row.running_jobs.length
          ? [
              el("h3", null, "Running now"),
              el(
                "ul",
                null,
                row.running_jobs.map((job) => el("li", null, job)),
              ),
            ]
          : null,
        row.failed_jobs.length
          ? [
              el("h3", null, "Failed"),
              el(
                "ul",
                { class: "failed" },
                row.failed_jobs.map((job) => el("li", null, el("b", null, job.name), ` ${job.message}`)),
              ),
            ]
          : null,
      ),
      el(
        "section",
        null,
        el("h2", null, "Newest events"),
        row.events.length
          ? el(
              "ol",
              { class: "events" },
              row.events
                .slice()
                .reverse()
                .map((one) =>
                  el(
                    "li",
                    null,
                    el("time", { datetime: one.time }, when(one.time)),
                    el("b", null, one.stage),
                    ` ${one.message}`,
                  ),
                ),
            )
          : el("p", { class: "hint" }, "None yet."),
      ),
    ),
    el("details", null, el("summary", null, "Settings"), el("pre", null, JSON.stringify(row.settings, null, 1))),
  ]);
