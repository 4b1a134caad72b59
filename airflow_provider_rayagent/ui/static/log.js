// The live log of a job.

import { colored } from "./ansi.js";
import { call, poll } from "./api.js";
import { element, show } from "./dom.js";
import { number } from "./format.js";
import { openInHost } from "./host.js";
import { pageLink } from "./links.js";

const POLL_SECONDS = 2;
// As many as the server keeps of a log: KEPT_RECORDS in viewed_logs.py.
const MAX_LINES = 10000;
// Pixels. In a page that is zoomed, positions are fractions, so the end is not met exactly.
const AT_END = 30;

/**
 * Return a live log, and a function that closes it.
 * @param {string} route of the log
 * @param {string} name of the file to download
 * @param {() => boolean} isOver whether the job has ended
 * @returns {{view: HTMLElement, close: () => void}}
 */
export function liveLog(route, name, isOver) {
  const rows = element("div");
  const lines = element("div.lines", { role: "log", tabindex: "0", "aria-label": "Log", "aria-live": "off" }, rows);
  const status = element("span.log-status", { role: "status" }, "Loading…");
  const pause = element("button", { type: "button", click: togglePause, "aria-pressed": "false" }, "Pause");
  const search = element("input", { type: "search", placeholder: "Search", "aria-label": "Search in the log" });
  const matches = element("span.matches", { role: "status" });
  const download = element(
    "button",
    { type: "button", click: () => openInHost(new URL(`${route}/download`, document.baseURI).href, { download: name }) },
    "Download",
  );
  const reported = element("div.reported");
  const tools = element("div.tools", {}, search, matches, status, pause, download);
  const view = element("section.log", {}, reported, tools, lines);
  let [held, dropped, current] = [null, 0, null];
  // Whether lines are held that replace those that are shown.
  let replaces = false;
  let [follows, top] = [true, 0];
  let hasEnded = false;

  let after = "";
  const polling = poll(update, POLL_SECONDS);
  lines.addEventListener("scroll", () => {
    // A line gets its height when it becomes visible. That moves the end away, but the user has not scrolled up.
    follows = lines.scrollHeight - lines.scrollTop - lines.clientHeight < AT_END || (follows && lines.scrollTop >= top);
    top = lines.scrollTop;
  });
  const resized = new ResizeObserver(() => follows && toEnd());
  resized.observe(rows);
  resized.observe(lines);
  search.addEventListener("input", () => find(0));
  search.addEventListener("keydown", (event) => event.key === "Enter" && find(event.shiftKey ? -1 : 1));

  async function update(signal) {
    try {
      let answer;
      do {
        answer = await call(`${route}?after=${encodeURIComponent(after)}`, { signal });
        after = answer.after;
        if (answer.restart) begin();
        if (answer.skipped) drop(answer.skipped);
        if (answer.rows.length) add(answer.rows);
        show(reported, answer.reported, reportedByJob);
      } while (answer.more);
      if (answer.end === null) state("Live");
      // The page may not know yet that the job has ended.
      else if (answer.end && !isOver()) state(unavailable(answer.end));
      else end(answer.end);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      state(unavailable(error.message));
    }
  }

  function state(text) {
    if (status.textContent !== text) status.textContent = text;
  }

  function end(reason) {
    polling.stop();
    state(reason ? `Ended: ${reason}` : "Complete");
    hasEnded = true;
    showPause();
    const isEmpty = !rows.children.length && !held?.length;
    if (!reason && isEmpty) rows.append(element("div.line.own", {}, "The log is empty."));
  }

  function begin() {
    dropped = 0;
    if (held) [held, replaces] = [[], true];
    else clear();
  }

  function clear() {
    rows.replaceChildren();
    current = null;
    showDropped();
  }

  function add(records) {
    if (held) {
      held.push(...records);
      if (held.length > MAX_LINES) drop(held.splice(0, held.length - MAX_LINES).length);
      showPause();
      return;
    }
    const words = search.value.toLowerCase();
    rows.append(...records.map((record) => line(record, words)));
    const extra = rows.children.length - MAX_LINES;
    if (extra > 0) {
      for (let count = 0; count < extra; count += 1) rows.firstElementChild.remove();
      drop(extra);
    }
    if (follows) toEnd();
    if (words) count();
  }

  function drop(more) {
    dropped += more;
    if (!held) showDropped();
  }

  function showDropped() {
    if (dropped) view.dataset.dropped = `${number(dropped)} earlier lines are not shown here; the download has them.`;
    else delete view.dataset.dropped;
  }

  function toEnd() {
    lines.scrollTop = lines.scrollHeight;
  }

  function line([level, text, fromJob], words) {
    const made = element(`div.line.${level}${fromJob ? "" : ".own"}`, {}, ...colored(text));
    if (words && made.textContent.toLowerCase().includes(words)) made.classList.add("match");
    return made;
  }

  function togglePause() {
    const records = held;
    held = held ? null : [];
    showPause();
    if (!records) return;
    if (replaces) clear();
    replaces = false;
    showDropped();
    add(records);
  }

  function showPause() {
    pause.setAttribute("aria-pressed", String(held !== null));
    pause.textContent = held ? (held.length ? `Resume (${number(held.length)} new)` : "Resume") : "Pause";
    // Of a complete log, nothing more is to come.
    pause.hidden = hasEnded && !held;
  }

  function find(step) {
    const words = search.value.toLowerCase();
    if (step === 0) {
      current = null;
      for (const each of rows.children) {
        each.classList.toggle("match", Boolean(words) && each.textContent.toLowerCase().includes(words));
      }
    }
    const found = [...rows.querySelectorAll(".match")];
    rows.querySelector(".current")?.classList.remove("current");
    if (found.length) {
      const at = current ? found.indexOf(current) + step : found.length - 1;
      current = found[(at + found.length) % found.length];
      current.classList.add("current");
      current.scrollIntoView({ block: "center" });
    }
    count();
  }

  function count() {
    const found = [...rows.querySelectorAll(".match")];
    matches.textContent = search.value ? `${found.indexOf(current) + 1} of ${number(found.length)}` : "";
  }

  return {
    view,
    close: () => {
      resized.disconnect();
      polling.stop();
    },
  };
}

function unavailable(reason) {
  return `Not available: ${reason} Trying again…`;
}

/** Return the progress and the links that the job has printed for Airflow. */
function reportedByJob(data) {
  if (!data) return [];
  const { progress, links } = data;
  return [progress && progressBar(progress), ...links.map(pageLink)];
}

function progressBar({ fraction, text }) {
  // Without a value, the bar says that the job is at work, but not how far it is.
  return element("div.bar", {}, element("progress", { max: 1, value: fraction, "aria-label": text }), element("span", {}, text));
}
