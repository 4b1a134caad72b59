// The durations of jobs. That of a running job advances, although nothing else of the job changes.

import { element } from "./dom.js";
import { duration } from "./format.js";

setInterval(() => document.querySelectorAll("[data-since]").forEach(advance), 1000);

/** Return how long a job has run, as a text or an element. */
export function durationOf(job) {
  if (job.duration !== null) return duration(job.duration);
  return job.status === "RUNNING" && job.start_time ? advance(element("span", { "data-since": job.start_time })) : "–";
}

function advance(shown) {
  shown.textContent = duration(Math.floor((Date.now() - shown.dataset.since) / 1000));
  return shown;
}
