// Which charts there are, of the machine and of a container.

import { h, setAttribute } from "./dom.js";
import { Chart } from "./chart.js";
import { limit } from "./series.js";
import { bytes, cores, rate, whole } from "./format.js";

const MB = 2 ** 20;
const cpu = () => new Chart({ title: "CPU", lines: [{ key: "cpu" }], format: cores, least: 0.1 });
const memory = () => new Chart({ title: "Memory", lines: [{ key: "memory" }], format: bytes, least: MB, base: 1024 });
const processes = () => new Chart({ title: "Processes", lines: [{ key: "processes" }], format: whole, least: 5 });
const traffic = (title, lines) => new Chart({ title, lines, format: rate, least: 1024, base: 1024 });
const network = () =>
  traffic("Network", [{ key: "received", name: "in" }, { key: "sent", name: "out" }]);
const blocks = () => traffic("Disk traffic", [{ key: "read", name: "read" }, { key: "written", name: "written" }]);
const space = () => new Chart({ title: "Disk space", lines: [{ key: "space" }], format: bytes, least: MB, base: 1024 });

const grid = (...charts) => h("div", { class: "charts" }, charts.map((chart) => chart.element));

/** Five of them are three above two. */
const arrange = (element) => setAttribute(element, "data-count", String([...element.children].filter(({ hidden }) => !hidden).length));

export class MachineCharts {
  constructor() {
    this.cpu = cpu();
    this.memory = memory();
    this.processes = processes();
    this.disk = blocks();
    this.network = network();
    this.element = grid(this.cpu, this.memory, this.processes, this.disk, this.network);
  }

  update(series, now, machine) {
    this.cpu.update(series, now, { limit: machine.cpus, detail: `of ${machine.cpus}` });
    this.memory.update(series, now, { limit: machine.mem_total_bytes });
    this.processes.update(series, now);
    const used = `${bytes(machine.disk_used_bytes)} of ${bytes(machine.disk_total_bytes)} used`;
    this.disk.update(series, now, { detail: used });
    this.network.update(series, now);
    arrange(this.element);
  }
}

/** Those of one container: of its disk what is measured there, its space or what goes to and from devices. */
export class ContainerCharts {
  constructor() {
    this.cpu = cpu();
    this.memory = memory();
    this.processes = processes();
    this.space = space();
    this.blocks = blocks();
    this.network = network();
    this.element = grid(this.cpu, this.memory, this.processes, this.space, this.blocks, this.network);
  }

  update(series, now, container) {
    const used = container.statistics ?? {};
    this.#explain(container);
    this.cpu.update(series, now, { limit: limit(used.cpus_limit) });
    this.memory.update(series, now, { limit: limit(used.mem_limit_bytes) });
    this.processes.update(series, now);
    this.space.update(series, now, { limit: limit(used.disk_limit_bytes) });
    this.blocks.update(series, now);
    this.network.update(series, now);
    const hasBlocks = series.samples.some((sample) => sample.read !== null || sample.written !== null);
    const hasSpace = series.now("space") !== null;
    this.space.element.hidden = hasBlocks && !hasSpace;
    this.blocks.element.hidden = !hasBlocks;
    arrange(this.element);
  }

  /** Why there may be no numbers: what is nested in a container mostly shares its cgroups and its network. */
  #explain({ parent, type, addresses = [] }) {
    const isDocker = type === "DOCKER";
    const byWhom = (isolators) => (isDocker ? "Not measured of containers of Docker" : `Not measured, without ${isolators}`);
    const without = (isolators) => (parent === null ? byWhom(isolators) : "Counted with its parent");
    this.cpu.missing = without("cgroups/cpu");
    this.memory.missing = without("cgroups/mem");
    this.processes.missing = without("cgroups/pids");
    this.space.missing = without("disk/du or cgroups/blkio");
    const shared = parent === null ? "Shares that of the machine" : "Shares that of its parent";
    this.network.missing = addresses.length > 0 || isDocker ? "Not measured" : shared;
  }
}
