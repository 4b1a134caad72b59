// The page: it has a view for each part of a cluster. The fragment of the address says which one is shown.

import { call, path } from "./api.js";
import { clusterView } from "./cluster.js";
import { element, message } from "./dom.js";
import { followTheme } from "./host.js";
import { jobView } from "./job.js";
import { jobsView } from "./jobs.js";
import { serveView } from "./serve.js";

const VIEWS = { jobs: "Jobs", cluster: "Cluster", serve: "Serve" };
const DEFAULT = "rayagent_default";
const NO_CONNECTION =
  "There is no connection of type Ray agent that you may read. An administrator can create one under Admin, Connections.";

const main = document.getElementById("main");
const select = document.getElementById("connection");
const views = document.getElementById("views");
const links = Object.entries(VIEWS).map(([name, title]) => [name, element("a", {}, title)]);
let end = null;

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    // Such as "%" alone, in an address that was typed or cut.
    return part;
  }
}

function route() {
  const [, connection, view = "jobs", id] = location.hash.split("/").map(decoded);
  return { connection, view: Object.hasOwn(VIEWS, view) ? view : "jobs", id };
}

function render() {
  const { connection, view, id } = route();
  const [isFirst, isInHeader] = [!end, document.activeElement?.closest("header")];
  end?.();
  if (!connection) return;
  select.value = connection;
  for (const [name, link] of links) {
    link.href = `#/${encodeURIComponent(connection)}/${name}`;
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (isFirst) views.append(...links.map(([, link]) => link));
  if (view === "cluster") end = clusterView(main, connection);
  else if (view === "serve") end = serveView(main, connection);
  else end = id ? jobView(main, connection, id) : jobsView(main, connection);
  // The element that had the focus is gone, unless it is in the header.
  if (!isFirst && !isInHeader) main.querySelector("h2").focus();
}

async function start() {
  followTheme();
  try {
    const { connections } = await call(path("connections"));
    const { connection } = route();
    // One that is not listed, such as that of a secrets backend, can be opened by its address.
    const listed = connection && !connections.includes(connection) ? [...connections, connection] : connections;
    if (!listed.length) {
      main.replaceChildren(message(NO_CONNECTION, "info"));
      return;
    }
    select.replaceChildren(...listed.map((each) => element("option", { value: each }, each)));
    select.disabled = false;
    select.addEventListener("change", () => {
      location.hash = `#/${encodeURIComponent(select.value)}/${route().view}`;
    });
    addEventListener("hashchange", render);
    if (connection) render();
    // No new entry in the history, from which Back would lead here again.
    else location.replace(`#/${encodeURIComponent(listed.includes(DEFAULT) ? DEFAULT : listed[0])}/jobs`);
  } catch (error) {
    main.replaceChildren(message(error.message));
  }
}

start();
