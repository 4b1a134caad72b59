// The nodes of a cluster, what they have and what is in use.

import { call, path, poll } from "./api.js";
import { element, message, show, table } from "./dom.js";
import { bytes, number } from "./format.js";
import { badge, jobAddress } from "./jobs.js";

const REFRESH_SECONDS = 5;
const COLUMNS = [
  ["status", "State"],
  ["id", "Node"],
  ["bar-cell", "CPUs"],
  ["bar-cell", "GPUs"],
  ["bar-cell", "Memory"],
];

export function clusterView(main, connection) {
  const summary = element("div.cards");
  const waiting = element("div");
  const nodes = element("div.list");
  main.replaceChildren(summary, waiting, nodes);
  const polling = poll(async (signal) => {
    try {
      const found = await call(path("connections", connection, "cluster"), { signal });
      show(summary, use(found), cards);
      show(nodes, found.nodes ?? [], nodeTable);
      const pending = await call(`${path("connections", connection, "jobs")}?status=PENDING&limit=20`, { signal });
      show(waiting, pending.jobs, (jobs) => waitingJobs(jobs, pending.total, connection));
    } catch (error) {
      if (error.name === "AbortError") throw error;
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
  return table("Nodes", COLUMNS, rows);
}

function gpusOf(node) {
  const found = node.gpu ?? { total: node.gpus?.length ?? 0 };
  const type = node.accelerator_type ? element("span.type", {}, node.accelerator_type) : null;
  return element("div", {}, bar(found, number), type);
}

function waitingJobs(jobs, total, connection) {
  const title = element("h3", {}, `Waiting for resources: ${number(total)} ${total === 1 ? "job" : "jobs"}`);
  const links = jobs.map((job) => {
    const link = { href: jobAddress(connection, job), "data-key": job.job_id };
    return element("li", {}, job.openable ? element("a", link, job.job_id) : job.job_id);
  });
  return [title, links.length ? element("ul", {}, ...links) : null];
}
