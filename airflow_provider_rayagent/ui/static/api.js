// Requests to our own routes, with relative addresses, and the polling of them.

/** An error with a sentence for the user. */
export class ApiError extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

/** Return the path of a route. */
export function path(...parts) {
  return ["api", ...parts.map((part) => encodeURIComponent(part))].join("/");
}

/** Return the JSON of a route. @param {RequestInit} options */
export async function call(route, options = {}) {
  const response = await send(route, options);
  const answer = await response.json().catch(() => ({}));
  // A view that the user has left must not continue with a part of an answer.
  options.signal?.throwIfAborted();
  if (!response.ok) throw new ApiError(reason(response.status, answer.detail), response.status);
  return answer;
}

/** Send a request that changes something. */
export function change(method, route) {
  // The server requires it, and browsers send it to another origin only if permitted (OWN_HEADER in access.py).
  const headers = { "Content-Type": "application/json", "X-Rayagent-Request": "1" };
  return call(route, { method, headers, body: "{}" });
}

async function send(route, options) {
  try {
    return await fetch(route, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("Airflow does not answer: check your network connection.", 0);
  }
}

function reason(status, detail) {
  if (status === 401) return "You are not signed in any more: reload the page.";
  if (status === 403) return "You do not have the permission for this.";
  if (status === 422) return "Airflow does not accept this filter.";
  return typeof detail === "string" ? detail : `Airflow answered ${status}.`;
}

/**
 * Call a function now and then while the page is visible.
 * @param {(signal: AbortSignal) => Promise<void>} update
 * @returns {{now: () => void, stop: () => void}}
 */
export function poll(update, seconds) {
  let timer;
  let running = new AbortController();
  let stopped = false;
  const run = async () => {
    if (stopped) return;
    clearTimeout(timer);
    running.abort();
    // A slow answer to an earlier request must not replace that to a later one.
    const own = (running = new AbortController());
    try {
      if (!document.hidden) await update(own.signal);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      if (own === running && !own.signal.aborted) timer = setTimeout(run, seconds * 1000);
    }
  };
  const onVisible = () => !document.hidden && run();
  document.addEventListener("visibilitychange", onVisible);
  run();
  return {
    now: run,
    stop: () => {
      stopped = true;
      clearTimeout(timer);
      running.abort();
      document.removeEventListener("visibilitychange", onVisible);
    },
  };
}
