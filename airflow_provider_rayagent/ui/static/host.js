// The Airflow page around this one: its theme, and its addresses. Both are of the same origin.

/** Use the theme that was chosen in Airflow, or that of the system. */
export function followTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = localStorage.getItem("theme");
    const dark = chosen === "dark" || (chosen !== "light" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  };
  apply();
  system.addEventListener("change", apply);
  // Other documents of this origin get this event, the one that changed the value does not.
  addEventListener("storage", apply);
}

/** Return the address of a task instance. */
export function taskAddress({ dag_id, run_id, task_id, map_index }) {
  const parts = ["dags", dag_id, "runs", run_id, "tasks", task_id];
  if (map_index >= 0) parts.push("mapped", map_index);
  // The page is one level below Airflow's address, which may have a path itself.
  return new URL(`../${parts.map(encodeURIComponent).join("/")}`, document.baseURI).href;
}

/**
 * Open a page in place of the one around this one, or as the attributes say: the frame itself may not.
 * @param {object} attributes of the link: download, target, rel
 */
export function openInHost(address, attributes = {}) {
  // The sandbox of the frame has no allow-top-navigation, no allow-popups, and allow-downloads only from Airflow 3.3 on.
  const host = window.parent.document;
  const link = host.createElement("a");
  Object.assign(link, { href: address, ...attributes });
  host.body.append(link);
  link.click();
  link.remove();
}
