// Values as text.

const times = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const numbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

// The end of the times that JavaScript has.
const LAST_TIME = 8.64e15;

/** Return a time in the user's zone. @param {number|null} milliseconds since the epoch */
export function time(milliseconds) {
  return milliseconds > 0 && milliseconds <= LAST_TIME ? times.format(new Date(milliseconds)) : "–";
}

export function duration(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 60) return `${numbers.format(seconds)} s`;
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

export function number(value) {
  return numbers.format(value);
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${numbers.format(value)} ${units[unit]}`;
}
