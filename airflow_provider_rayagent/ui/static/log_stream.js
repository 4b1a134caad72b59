// The stream of a log, over connections that end now and then.

import { problem } from "./api.js";

const AGAIN_SECONDS = 7;
const RECONNECTING_SECONDS = 3;
const HIDDEN_SECONDS = 30;

/**
 * Follow a log until it is complete or the stream is closed. While the page is hidden there is no connection: a browser
 * has few for each server, and Airflow's other pages need them.
 * @param {string} route of the log
 * @param {() => boolean} isOver whether the job has ended
 * @param {object} on what to do: restart(), records(list), reported(object), skipped(number), complete() and state(text)
 * @returns {() => void} a function that closes the stream
 */
export function followLog(route, isOver, on) {
  let [source, last, timer, hiding, done] = [null, "", undefined, undefined, false];

  function open() {
    clearTimeout(timer);
    if (done || document.hidden) return;
    // Only a source that reconnects by itself can send the id of its last event as a header.
    const own = new EventSource(last ? `${route}?after=${encodeURIComponent(last)}` : route);
    source = own;
    own.addEventListener("open", () => {
      clearTimeout(timer);
      on.state("Live");
    });
    own.addEventListener("restart", on.restart);
    own.addEventListener("records", (event) => {
      last = event.lastEventId;
      on.records(JSON.parse(event.data));
    });
    own.addEventListener("reported", (event) => on.reported(JSON.parse(event.data)));
    own.addEventListener("skipped", (event) => on.skipped(JSON.parse(event.data)));
    own.addEventListener("end", (event) => {
      // Otherwise the source connects again, as after every end of a response.
      disconnect();
      ended(JSON.parse(event.data));
    });
    own.addEventListener("error", () => {
      clearTimeout(timer);
      if (own.readyState === EventSource.CLOSED) refused();
      // The server ends every stream now and then.
      else timer = setTimeout(() => on.state("Reconnecting…"), RECONNECTING_SECONDS * 1000);
    });
  }

  function disconnect() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function ended(reason) {
    if (reason && !isOver()) {
      // The page may not know yet that the job has ended.
      again(reason, () => (isOver() ? ended(reason) : open()));
      return;
    }
    done = true;
    on.state(reason ? `Ended: ${reason}` : "Complete");
    if (!reason) on.complete();
  }

  async function refused() {
    disconnect();
    again("", open);
    const reason = await problem(route);
    // Meanwhile the log may be connected again, or closed.
    if (!source && !done && reason) on.state(unavailable(reason));
  }

  function again(reason, next) {
    on.state(reason ? unavailable(reason) : "Reconnecting…");
    timer = setTimeout(next, AGAIN_SECONDS * 1000);
  }

  function watch() {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(disconnect, HIDDEN_SECONDS * 1000);
    else if (!source) open();
  }

  document.addEventListener("visibilitychange", watch);
  open();
  return () => {
    done = true;
    clearTimeout(hiding);
    document.removeEventListener("visibilitychange", watch);
    disconnect();
  };
}

function unavailable(reason) {
  return `Not available: ${reason} Trying again…`;
}
