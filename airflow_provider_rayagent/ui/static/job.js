// One job: its details, why it failed, and its log.

import { call, change, path, poll } from "./api.js";
import { confirm, element, message, report, show } from "./dom.js";
import { durationOf } from "./durations.js";
import { time } from "./format.js";
import { badge, taskLink } from "./jobs.js";
import { pageLink } from "./links.js";
import { liveLog } from "./log.js";

const REFRESH_SECONDS = 3;
const TASK_NAMES = ["airflow_dag_id", "airflow_run_id", "airflow_task_id", "airflow_map_index"];
const ENDED = ["SUCCEEDED", "FAILED", "STOPPED"];

/**
 * Show a job in a container.
 * @param {string} route of the job; that of its log is below it
 * @param {string} options.id of the job, if it is known
 * @param {(job: object) => string|null} options.stop returns the route that stops it, for those who may
 * @param {HTMLElement} options.back a link to where the user came from
 * @param {HTMLElement} options.aside what is shown between the details and the log
 * @param {(signal: AbortSignal) => Promise<void>} options.extra refreshes what is shown besides
 * @returns {() => void} a function that ends it
 */
export function showJob(main, route, { id = "", stop = () => null, back = null, aside = null, extra = null } = {}) {
  const head = element("div.job-head", {}, id ? title(id) : null);
  const action = element("div");
  const note = element("div");
  const facts = element("div.card");
  const logPlace = element("div.log-place");
  main.replaceChildren(...[back, head, action, note, facts, aside, logPlace].filter(Boolean));
  let [log, isOver] = [null, false];

  async function refresh(signal) {
    try {
      const job = await call(route, { signal });
      isOver = ENDED.includes(job.status);
      if (isOver) action.replaceChildren();
      show(note, job.reason ?? "", (reason) => (reason ? element("pre.reason", {}, reason) : []));
      show(head, [job.job_id, job.status, stop(job), job.links], () => heading(job));
      show(facts, job, details);
      // Once: a new one would read the log from its beginning.
      if (!log) {
        log = liveLog(`${route}/log`, `${job.job_id}.log`, () => isOver);
        logPlace.replaceChildren(log.view);
      }
      if (extra) await extra(signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      show(note, { error: error.message }, () => message(error.message, error.status === 404 ? "info" : "error"));
    }
  }

  function heading(job) {
    return [
      title(job.job_id),
      badge(job.status),
      ...(job.links ?? []).map(pageLink),
      stop(job) && !isOver
        ? element("button.danger", { type: "button", "data-key": "stop", click: () => ask(job) }, "Stop")
        : null,
    ];
  }

  async function ask(job) {
    if (!(await confirm(`Stop job ${job.job_id}?`, "Stop job"))) return;
    const words = { doing: "Requesting the stop…", done: "Stop requested.", failed: "The job was not stopped." };
    if (await report(action, words, () => change("POST", stop(job)))) polling.now();
  }

  const polling = poll(refresh, REFRESH_SECONDS);
  return () => {
    polling.stop();
    log?.close();
  };
}

/** Show the view of one job of a connection. */
export function jobView(main, connection, jobId) {
  const route = path("connections", connection, "jobs", jobId);
  const back = element("a.back", { href: `#/${encodeURIComponent(connection)}/jobs` }, "← All jobs");
  return showJob(main, route, { id: jobId, stop: () => `${route}/stop`, back });
}

function title(jobId) {
  return element("h2", { tabindex: "-1", "data-key": "title" }, jobId);
}

function details(job) {
  const ended = job.end_time ? time(job.end_time) : "–";
  const facts = [
    ["Started", time(job.start_time)],
    ["Ended", ended],
    ["Duration", durationOf(job)],
    ["Task", job.task ? taskLink(job.task, `task ${job.job_id}`) : null],
    ["Followed by", job.followed_by ? taskLink(job.followed_by, `follower ${job.job_id}`) : null],
    ["Exit code", job.driver_exit_code],
    ["Error", job.error_type],
    ["Entrypoint", element("code", {}, job.entrypoint || "–")],
    ["Message", job.reason ? null : job.message],
    ...Object.entries(metadata(job)).map(([name, value]) => [name, String(value)]),
  ];
  const shown = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return element(
    "dl",
    {},
    ...shown.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value instanceof Node ? value : String(value))]),
  );
}

function metadata(job) {
  if (!job.metadata || typeof job.metadata !== "object") return job.metadata ? { Metadata: job.metadata } : {};
  // The link to the task says the same.
  const shown = Object.entries(job.metadata).filter(([name]) => !job.task || !TASK_NAMES.includes(name));
  return Object.fromEntries(shown);
}
