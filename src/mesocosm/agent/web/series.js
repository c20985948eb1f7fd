// What was seen of something over time: amounts as they were, and rates out of counters that only grow.

const MOST = 450;
/** Seconds that charts show. */
export const SPAN = 300;
/** Between two samples that are further apart nothing is drawn. */
export const GAP = 12;

export class Series {
  /** One entry for each look: `time`, and a number or null by each name. */
  samples = [];
  #last = null;

  /** Adds a look: `counters` are by their names what grows, `amounts` what is. Numbers that are not known are null. */
  add(time, amounts, counters) {
    const last = this.#last;
    if (last !== null && time <= last.time) return;
    const sample = { time, ...amounts };
    for (const [name, count] of Object.entries(counters)) {
      const before = last === null ? null : last.counters[name];
      const grows = count !== null && before !== null && before !== undefined && count >= before;
      sample[name] = grows ? (count - before) / (time - last.time) : null;
    }
    this.#last = { time, counters };
    this.samples.push(sample);
    if (this.samples.length > MOST) this.samples.shift();
  }

  get latest() {
    return this.samples.at(-1) ?? null;
  }

  /** The newest number by that name; null if it is not known. */
  now(name) {
    return this.latest?.[name] ?? null;
  }
}

const UNLIMITED = 2 ** 60; // What the kernel has for no limit is larger, and depends on its version.
const known = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
const sum = (...values) => (values.some((value) => value === null) ? null : values.reduce((left, right) => left + right, 0));
/** The amount that is a limit, if there is one. */
export const limit = (value) => (known(value) !== null && value > 0 && value < UNLIMITED ? value : null);

/** Adds what the agent tells of the machine. */
export function addMachine(series, machine) {
  series.add(
    machine.timestamp,
    { memory: known(machine.mem_used_bytes), processes: known(machine.processes), space: known(machine.disk_used_bytes) },
    {
      cpu: known(machine.cpu_busy_secs),
      read: known(machine.disk_read_bytes),
      written: known(machine.disk_written_bytes),
      received: known(machine.net_rx_bytes),
      sent: known(machine.net_tx_bytes),
    },
  );
}

/** Adds what the isolators of a container tell. */
export function addContainer(series, statistics) {
  const traffic = blockTraffic(statistics.blkio_statistics);
  series.add(
    statistics.timestamp,
    {
      memory: known(statistics.mem_total_bytes) ?? known(statistics.mem_rss_bytes),
      processes: known(statistics.processes),
      space: known(statistics.disk_used_bytes),
    },
    {
      cpu: sum(known(statistics.cpus_user_time_secs), known(statistics.cpus_system_time_secs)),
      read: traffic.READ,
      written: traffic.WRITE,
      received: known(statistics.net_rx_bytes),
      sent: known(statistics.net_tx_bytes),
    },
  );
}

/** Bytes of all devices, by READ and WRITE. The entry that is of no device is that of all, but knows their total only. */
function blockTraffic(statistics) {
  if (statistics?.throttling === undefined) return { READ: null, WRITE: null };
  const devices = statistics.throttling.filter(({ device }) => device !== undefined);
  const total = (op) => devices.reduce((all, each) => all + (each.io_service_bytes.find((entry) => entry.op === op)?.value ?? 0), 0);
  return { READ: total("READ"), WRITE: total("WRITE") };
}
