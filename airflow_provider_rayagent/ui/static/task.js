// The tab of a task instance: its job, and how much of the cluster is in use.

import { call, path } from "./api.js";
import { cards, use } from "./cluster.js";
import { element, message, show } from "./dom.js";
import { followTheme } from "./host.js";
import { showJob } from "./job.js";

const main = document.getElementById("main");
const query = new URLSearchParams(location.search);
const { dag_id, run_id, task_id } = Object.fromEntries(query);
const index = query.get("map_index");
// Airflow leaves the placeholder in the address of a task that is not mapped.
const mapIndex = /^\d+$/.test(index) ? index : "-1";

followTheme();
const route = path("dags", dag_id, "runs", run_id, "tasks", task_id, mapIndex);
const summary = element("div.cards");
showJob(main, `${route}/job`, {
  aside: summary,
  // Only to those who may do so the answer has the connection.
  stop: ({ connection_id, job_id }) => connection_id && path("connections", connection_id, "jobs", job_id, "stop"),
  extra: async (signal) => {
    try {
      show(summary, use(await call(`${route}/cluster`, { signal })), cards);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      show(summary, { error: error.message }, () => message(error.message));
    }
  },
});
