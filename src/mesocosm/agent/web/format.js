// Amounts as people read them. Units are those of the command line: a kB has 1024 bytes.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Three figures at most: 0.42, 12.3, 512. */
export function figures(value) {
  if (value >= 100 || value === 0) return String(Math.round(value));
  return value.toFixed(value >= 10 ? 1 : 2);
}

/** The same without zeros at the end of its figures, for amounts that are round anyway. */
export const tidy = (text) => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");

export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : figures(value)} ${UNITS[unit]}`;
}

export const rate = (bytesPerSecond) => `${bytes(bytesPerSecond)}/s`;
export const cores = (count) => `${figures(count)} ${count === 1 ? "core" : "cores"}`;
export const whole = (count) => String(Math.round(count));

/** Seconds as "8 s", "12 min", "3 h", "5 d". */
export function duration(seconds) {
  const value = Math.max(0, Math.round(seconds));
  if (value < 60) return `${value} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  if (value < 86400) return `${Math.floor(value / 3600)} h`;
  return `${Math.floor(value / 86400)} d`;
}

/** A moment in seconds of the epoch, by the clock of whoever looks at it. */
export const moment = (seconds) => new Date(seconds * 1000).toLocaleString();

const STATES = {
  PROVISIONING: "getting its image",
  PREPARING: "being prepared",
  ISOLATING: "being isolated",
  FETCHING: "fetching files",
  PULLING: "pulling its image",
  RUNNING: "running",
  DESTROYING: "ending",
};

/** What a container does, in words. */
export function state(container) {
  return container.state === "ENDED" ? end(container) : STATES[container.state] ?? container.state.toLowerCase();
}

function end({ status, exit_status: code }) {
  if (status === null || status === undefined) return "ended";
  return (status & 0x7f) === 0 ? `exit status ${code}` : `signal ${status & 0x7f}`;
}

/** How a container is shown: "on", "ok" and "failed" when it has ended, or "between". */
export function condition(container) {
  if (container.state === "RUNNING") return "on";
  if (container.state !== "ENDED") return "between";
  return container.exit_status === 0 ? "ok" : "failed";
}
