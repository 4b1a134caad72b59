// The nodes of a cluster, what they have, what is in use, and what waits for it.

import { call, path, poll } from "./api.js";
import { element, heading, message, show, showAge, table } from "./dom.js";
import { bytes, number } from "./format.js";
import { badge, jobAddress } from "./jobs.js";

const REFRESH_SECONDS = 5;
const WAITING_COLUMNS = [
  ["status", "Kind"],
  ["id", "Waits"],
  ["text", "Requires"],
  ["id", "Job"],
  ["count", "Number"],
];
const NODE_COLUMNS = [
  ["status", "State"],
  ["id", "Node"],
  ["bar-cell", "CPUs"],
  ["bar-cell", "GPUs"],
  ["bar-cell", "Memory"],
];

export function clusterView(main, connection) {
  const age = element("div");
  const summary = element("div.cards");
  const waiting = element("div");
  const nodes = element("div.list");
  main.replaceChildren(heading("Cluster"), age, summary, waiting, nodes);
  const polling = poll(async (signal) => {
    try {
      const found = await call(path("connections", connection, "cluster"), { signal });
      showAge(age, found.age);
      show(summary, use(found.resources), cards);
      show(waiting, found.waiting, (data) => waitingTable(data, connection));
      show(nodes, found.resources.nodes ?? [], nodeTable);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      showAge(age);
      show(summary, { error: error.message }, () => message(error.message));
      show(waiting, null, () => []);
      show(nodes, null, () => []);
    }
  }, REFRESH_SECONDS);
  return polling.stop;
}

/** Return what is used and what there is, of each resource. */
export function use(found) {
  const gpu = found.gpu ?? {};
  const gpus = { total: gpu.total_gpus ?? 0 };
  if (gpu.available_gpus !== undefined) gpus.used = gpus.total - gpu.available_gpus;
  return { nodes: found.node_counts ?? {}, cpu: found.cpu ?? {}, gpu: gpus, memory: found.memory ?? {} };
}

/** Return the cards with the resources of the whole cluster. */
export function cards({ nodes, cpu, gpu, memory }) {
  const dead = nodes.dead ? `, ${number(nodes.dead)} dead` : "";
  return [
    element("div.card", {}, element("h3", {}, "Nodes"), element("p.figure", {}, `${number(nodes.alive ?? 0)} alive${dead}`)),
    element("div.card", {}, element("h3", {}, "CPUs"), bar(cpu, number)),
    element("div.card", {}, element("h3", {}, "GPUs"), bar(gpu, number)),
    element("div.card", {}, element("h3", {}, "Memory"), bar(memory, bytes)),
  ];
}

function bar({ total = 0, used }, text) {
  if (!total) return element("p.figure.none", {}, "none");
  if (used === undefined || used === null) return element("p.figure", {}, `${text(total)} in total`);
  const words = `${text(used)} of ${text(total)} used`;
  const meter = element("progress", { max: total, value: Math.min(used, total), "aria-label": words });
  if (used / total > 0.9) meter.classList.add("full");
  return element("div.bar", {}, meter, element("span", {}, words));
}

function nodeTable(nodes) {
  if (!nodes.length) return message("The cluster has no nodes.", "info");
  const rows = nodes.map((node) => {
    const head = node.is_head_node ? " (head)" : "";
    return element(
      "tr",
      {},
      element("td.status", {}, badge(node.state)),
      element("td.id", { title: node.node_id }, `${node.host_name ?? node.ip ?? node.node_id}${head}`),
      element("td.bar-cell", {}, bar(node.cpu ?? {}, number)),
      element("td.bar-cell", {}, gpusOf(node)),
      element("td.bar-cell", {}, bar(node.memory ?? {}, bytes)),
    );
  });
  return table("Nodes", NODE_COLUMNS, rows);
}

function gpusOf(node) {
  const gpus = Array.isArray(node.gpus) ? node.gpus : [];
  const found = node.gpu ?? { total: gpus.length };
  const types = Array.isArray(node.accelerator_types) ? node.accelerator_types : [node.accelerator_type].filter(Boolean);
  const shown = types.length ? element("span.type", {}, types.join(", ")) : null;
  return element("div", {}, bar(found, number), shown, activity(gpus));
}

/** Return how busy the GPUs of a node are, if the service tells; memory is in MB. */
function activity(gpus) {
  const measured = gpus.filter((gpu) => gpu?.memory_total > 0);
  if (!measured.length) return null;
  const sum = (name) => measured.reduce((total, gpu) => total + (gpu[name] ?? 0), 0);
  const [used, total] = [sum("memory_used") * 2 ** 20, sum("memory_total") * 2 ** 20];
  const busy = number(sum("utilization_gpu") / measured.length);
  return element("div.type", {}, `${busy} % busy, memory ${bytes(used)} of ${bytes(total)}`);
}

function waitingTable({ jobs, tasks, error }, connection) {
  if (!jobs) return [element("h3", {}, "Waiting for resources"), message(`What waits is not shown. ${error}`)];
  const counts = [counted(jobs.total, "job", "jobs")];
  if (tasks?.total) counts.push(counted(tasks.total, "task or actor", "tasks and actors"));
  const link = (id, key) => element("a", { href: jobAddress(connection, { job_id: id }), "data-key": key }, id);
  const row = (kind, name, requires, job, count) =>
    element(
      "tr",
      {},
      element("td.status", {}, kind),
      element("td.id", { title: name.textContent ?? name }, name),
      element("td.text", { title: requires }, requires),
      element("td.id", {}, job ?? "–"),
      element("td.count", {}, number(count)),
    );
  const rows = [
    ...jobs.jobs.map((job) => row("Job", job.openable ? link(job.job_id, job.job_id) : job.job_id, "–", null, 1)),
    ...(tasks?.groups ?? []).map(({ kind, name, resources, job_id, count }, at) =>
      row(kind === "actor" ? "Actor" : "Task", name, amounts(resources), job_id && link(job_id, `waiting ${at}`), count),
    ),
  ];
  return [
    element("h3", {}, `Waiting for resources: ${counts.join(", ")}`),
    error ? message(`Tasks and actors that wait are not shown. ${error}`) : null,
    rows.length ? element("div.list", {}, table("Waiting for resources", WAITING_COLUMNS, rows)) : null,
  ];
}

function counted(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** Return required resources as text. */
function amounts(resources) {
  const memory = (name, value) => (name.endsWith("memory") ? bytes(value) : number(value));
  const parts = Object.entries(resources).map(([name, value]) => `${name} ${memory(name, value)}`);
  return parts.join(", ") || "–";
}
