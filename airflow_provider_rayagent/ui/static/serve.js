// The Serve applications of a cluster.

import { call, change, path, poll } from "./api.js";
import { confirm, element, heading, message, report, show, showAge, table } from "./dom.js";
import { time } from "./format.js";
import { badge } from "./jobs.js";

const REFRESH_SECONDS = 5;
const COLUMNS = [
  ["status", "Status"],
  ["id", "Application"],
  ["time", "Deployed"],
  ["text", "Message"],
  ["action", "Action"],
];

export function serveView(main, connection) {
  const note = element("div");
  const age = element("div");
  const list = element("div.list");
  let asked = null;
  main.replaceChildren(heading("Serve applications"), note, age, list);
  const route = path("connections", connection, "applications");
  const polling = poll(async (signal) => {
    try {
      const found = await call(route, { signal });
      showAge(age, found.age);
      show(list, found.applications, applicationTable);
      if (!found.applications.some(({ name }) => name === asked)) note.replaceChildren();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      showAge(age);
      show(list, { error: error.message }, () => message(error.message));
    }
  }, REFRESH_SECONDS);

  function applicationTable(applications) {
    if (!applications.length) return message("The cluster has no Serve applications.", "info");
    const rows = applications.map((each) =>
      element(
        "tr",
        {},
        element("td.status", {}, badge(each.status)),
        element("td.id", { title: each.name }, each.name),
        element("td.time", {}, time(each.last_deployed_time_s * 1000)),
        element("td.text", { title: each.message }, each.message || "–"),
        element(
          "td.action",
          {},
          element("button.danger", { type: "button", "data-key": each.name, click: () => ask(each.name) }, "Delete"),
        ),
      ),
    );
    return table("Serve applications", COLUMNS, rows);
  }

  async function ask(name) {
    if (!(await confirm(`Delete Serve application ${name}?`, `Delete ${name}`))) return;
    asked = name;
    const words = {
      doing: `Requesting the deletion of ${name}…`,
      done: `Deletion of ${name} requested.`,
      failed: `${name} was not deleted.`,
    };
    if (await report(note, words, () => change("DELETE", `${route}/${encodeURIComponent(name)}`))) polling.now();
  }

  return polling.stop;
}
