// The list of the jobs of a connection.

import { call, path, poll } from "./api.js";
import { element, heading, message, show, showAge, table } from "./dom.js";
import { durationOf } from "./durations.js";
import { number, time } from "./format.js";
import { openInHost, taskAddress } from "./host.js";

const REFRESH_SECONDS = 5;
const LIMIT = 50;
const STATUSES = ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED", "OTHER"];
const COLUMNS = [
  ["status", "Status"],
  ["id", "Job"],
  ["time", "Started"],
  ["duration", "Duration"],
  ["entrypoint", "Entrypoint"],
  ["submitter", "Submitted by"],
];

// Of each connection, for a user who comes back from a job.
const filters = new Map();

/** Show the view in a container. @returns {() => void} a function that ends it */
export function jobsView(main, connection) {
  const filter = filters.get(connection) ?? { status: new Set(), text: "", orphans: false, offset: 0 };
  filters.set(connection, filter);
  const text = element("input", {
    type: "search",
    value: filter.text,
    placeholder: "Search id, entrypoint, metadata",
    "aria-label": "Search jobs",
    input: () => update({ text: text.value, offset: 0 }),
  });
  const statuses = STATUSES.map((name) =>
    element(
      "button.filter",
      { type: "button", "aria-pressed": String(filter.status.has(name)), click: () => toggle(name) },
      label(name),
    ),
  );
  const orphans = element(
    "button.filter",
    {
      type: "button",
      title: "Jobs that a task of this Airflow has started, and that no try of it needs any more",
      "aria-pressed": String(filter.orphans),
      click: () => {
        update({ orphans: !filter.orphans, offset: 0 });
        orphans.setAttribute("aria-pressed", String(filter.orphans));
      },
    },
    "Orphans",
  );
  const age = element("div");
  const list = element("div.list");
  const pages = element("div.pages");
  main.replaceChildren(
    heading("Jobs"),
    element("div.tools", {}, text, element("div.filters", { role: "group", "aria-label": "Status" }, ...statuses), orphans),
    age,
    list,
    pages,
  );

  function toggle(name) {
    if (!filter.status.delete(name)) filter.status.add(name);
    statuses[STATUSES.indexOf(name)].setAttribute("aria-pressed", String(filter.status.has(name)));
    update({ offset: 0 });
  }

  function update(changes) {
    Object.assign(filter, changes);
    polling.now();
  }

  async function refresh(signal) {
    const query = new URLSearchParams({ text: filter.text, offset: filter.offset, limit: LIMIT });
    for (const name of filter.status) query.append("status", name);
    if (filter.orphans) query.append("orphans", "true");
    try {
      const found = await call(`${path("connections", connection, "jobs")}?${query}`, { signal });
      // The list may have become shorter, such as after a restart of Ray's head.
      if (filter.offset && filter.offset >= found.total) {
        filter.offset = Math.max(Math.ceil(found.total / LIMIT) - 1, 0) * LIMIT;
        await refresh(signal);
        return;
      }
      STATUSES.forEach((name, at) => {
        statuses[at].textContent = `${label(name)} ${number(found.counts[name])}`;
        statuses[at].hidden = name === "OTHER" && !found.counts[name];
      });
      showAge(age, found.age);
      // The age differs in each answer, and would have the table built anew each time.
      show(list, { ...found, age: null }, (data) => jobTable(data, connection, filter));
      show(pages, [filter.offset, found.total], () => pager(found.total));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      showAge(age);
      show(list, { error: error.message }, () => message(error.message));
      show(pages, null, () => []);
    }
  }

  function pager(total) {
    if (total <= LIMIT) return element("span", {}, `${number(total)} ${total === 1 ? "job" : "jobs"}`);
    const last = Math.min(filter.offset + LIMIT, total);
    const go = (offset) => () => update({ offset });
    return [
      element(
        "button",
        { type: "button", disabled: !filter.offset, "data-key": "newer", click: go(Math.max(filter.offset - LIMIT, 0)) },
        "Newer",
      ),
      element("span", {}, `${number(filter.offset + 1)}–${number(last)} of ${number(total)}`),
      element(
        "button",
        { type: "button", disabled: last >= total, "data-key": "older", click: go(filter.offset + LIMIT) },
        "Older",
      ),
    ];
  }

  const polling = poll(refresh, REFRESH_SECONDS);
  return polling.stop;
}

function jobTable({ jobs }, connection, filter) {
  if (!jobs.length) {
    const filtered = filter.text || filter.status.size || filter.orphans;
    return message(filtered ? "No job matches the filter." : "The cluster has no jobs.", "info");
  }
  const rows = jobs.map((job) => {
    const name = job.openable
      ? element("a", { href: jobAddress(connection, job), "data-key": job.job_id }, job.job_id)
      : element("span", { title: "A driver without a submission id, or an id that cannot be opened here." }, job.job_id);
    return element(
      "tr",
      {},
      element("td.status", {}, badge(job.status)),
      element("td.id", { title: job.job_id }, name),
      element("td.time", {}, time(job.start_time)),
      element("td.duration", {}, durationOf(job)),
      element("td.entrypoint", { title: job.entrypoint }, job.entrypoint),
      element("td.submitter", {}, submitter(job)),
    );
  });
  return table("Jobs", COLUMNS, rows);
}

/** Return the address of the view of one job. */
export function jobAddress(connection, job) {
  return `#/${encodeURIComponent(connection)}/jobs/${encodeURIComponent(job.job_id)}`;
}

/** Return the status as a colored badge. */
export function badge(status) {
  return element("span.badge", { "data-status": String(status).toUpperCase() }, String(status));
}

/** Return who submitted a job: a link to the task instance, or what the metadata says; or else which task follows it. */
export function submitter(job) {
  if (job.task) return taskLink(job.task, `task ${job.job_id}`);
  const metadata = job.metadata && typeof job.metadata === "object" ? job.metadata : {};
  const name = metadata.airflow_owner ?? metadata.user ?? metadata.owner ?? metadata.name;
  if (name || !job.followed_by) return name ?? "–";
  return element("span", {}, "followed by ", taskLink(job.followed_by, `follower ${job.job_id}`));
}

/** Return a link to a task instance. @param {string} key keeps the focus while the page refreshes */
export function taskLink(task, key) {
  const address = taskAddress(task);
  const click = (event) => {
    event.preventDefault();
    openInHost(address);
  };
  const index = task.map_index >= 0 ? ` [${task.map_index}]` : "";
  return element(
    "a",
    { href: address, click, title: `Task of run ${task.run_id}`, "data-key": key },
    `${task.dag_id} / ${task.task_id}${index}`,
  );
}

function label(status) {
  return status[0] + status.slice(1).toLowerCase();
}
