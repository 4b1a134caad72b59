// The live log of a job.

import { colored } from "./ansi.js";
import { element } from "./dom.js";
import { openInHost } from "./host.js";
import { number } from "./format.js";

const MAX_LINES = 10000;
const AT_END = 30;

/**
 * Return a live log, and a function that closes it.
 * @param {string} route of the log
 * @param {string} name of the file to download
 * @returns {{view: HTMLElement, close: () => void}}
 */
export function liveLog(route, name) {
  const lines = element("div.lines", { role: "log", tabindex: "0", "aria-label": "Log", "aria-live": "off" });
  const status = element("span.log-status", { role: "status" }, "Connecting…");
  const pause = element("button", { type: "button", click: togglePause, "aria-pressed": "false" }, "Pause");
  const search = element("input", { type: "search", placeholder: "Search", "aria-label": "Search in the log" });
  const matches = element("span.matches", { role: "status" });
  const download = element(
    "button",
    { type: "button", click: () => openInHost(new URL(`${route}/download`, document.baseURI).href, name) },
    "Download",
  );
  const view = element("section.log", {}, element("div.tools", {}, search, matches, status, pause, download), lines);
  let [held, follows, dropped, current, reconnecting] = [null, true, 0, null, undefined];

  const source = new EventSource(route);
  source.addEventListener("restart", () => {
    lines.replaceChildren();
    held = held && [];
    state("Live");
  });
  source.addEventListener("records", (event) => add(JSON.parse(event.data)));
  source.addEventListener("skipped", (event) => drop(JSON.parse(event.data)));
  source.addEventListener("end", (event) => {
    source.close();
    const reason = JSON.parse(event.data);
    state(reason ? `Ended: ${reason}` : "Complete");
    if (!lines.children.length && !held?.length) lines.append(element("div.line.own", {}, "The log is empty."));
  });
  source.addEventListener("open", () => {
    clearTimeout(reconnecting);
    state("Live");
  });
  source.addEventListener("error", () => {
    clearTimeout(reconnecting);
    if (source.readyState === EventSource.CLOSED) state("Not available: too many logs are open.");
    // The server ends every stream now and then.
    else reconnecting = setTimeout(() => state("Reconnecting…"), 3000);
  });
  lines.addEventListener("scroll", () => {
    follows = lines.scrollHeight - lines.scrollTop - lines.clientHeight < AT_END;
  });
  search.addEventListener("input", () => find(0));
  search.addEventListener("keydown", (event) => event.key === "Enter" && find(event.shiftKey ? -1 : 1));

  function state(text) {
    status.textContent = text;
  }

  function add(records) {
    if (held) {
      held.push(...records);
      if (held.length > MAX_LINES) drop(held.splice(0, held.length - MAX_LINES).length);
      pause.textContent = `Resume (${number(held.length)} new)`;
      return;
    }
    const words = search.value.toLowerCase();
    lines.append(...records.map((record) => line(record, words)));
    const extra = lines.children.length - MAX_LINES;
    if (extra > 0) {
      for (let count = 0; count < extra; count += 1) lines.firstElementChild.remove();
      drop(extra);
    }
    if (follows) lines.scrollTop = lines.scrollHeight;
    if (words) count();
  }

  function drop(more) {
    dropped += more;
    view.dataset.dropped = `${number(dropped)} earlier lines are not shown here; the download has them.`;
  }

  function line([level, text, fromJob], words) {
    const made = element(`div.line.${level}${fromJob ? "" : ".own"}`, {}, ...colored(text));
    if (words && made.textContent.toLowerCase().includes(words)) made.classList.add("match");
    return made;
  }

  function togglePause() {
    const records = held;
    held = held ? null : [];
    pause.setAttribute("aria-pressed", String(held !== null));
    pause.textContent = held ? "Resume" : "Pause";
    if (records) add(records);
  }

  function find(step) {
    const words = search.value.toLowerCase();
    if (step === 0) {
      current = null;
      for (const each of lines.children) {
        each.classList.toggle("match", Boolean(words) && each.textContent.toLowerCase().includes(words));
      }
    }
    const found = [...lines.querySelectorAll(".match")];
    lines.querySelector(".current")?.classList.remove("current");
    if (found.length) {
      const at = current ? found.indexOf(current) + step : found.length - 1;
      current = found[(at + found.length) % found.length];
      current.classList.add("current");
      current.scrollIntoView({ block: "center" });
    }
    count();
  }

  function count() {
    const found = [...lines.querySelectorAll(".match")];
    matches.textContent = search.value ? `${found.indexOf(current) + 1} of ${number(found.length)}` : "";
  }

  function close() {
    clearTimeout(reconnecting);
    source.close();
  }

  return { view, close };
}
