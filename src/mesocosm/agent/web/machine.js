// The view of the machine: what it does, what the agent is, and how to begin where there are no containers.

import { h, setText } from "./dom.js";
import { MachineCharts } from "./charts.js";
import { duration } from "./format.js";
import { facts } from "./facts.js";

export class MachineView {
  title = "Machine";

  constructor({ store, launch }) {
    this.store = store;
    this.charts = new MachineCharts();
    this.heading = h("h1", {}, "Machine");
    this.facts = facts(["Agent", "Up for", "Containers", "Load", "Isolation"]);
    const example = `mesocosm run --agent ${location.origin} --name web -- sleep 1000`;
    this.empty = h(
      "section",
      { class: "welcome", hidden: true },
      h("h2", {}, "No containers yet"),
      h("p", {}, "Launch the first one here, or from a terminal:"),
      h("pre", { class: "code", tabindex: "0" }, example),
      h("button", { type: "button", class: "primary", onclick: launch }, "Launch a container"),
    );
    this.element = h("article", {}, h("div", { class: "head" }, this.heading), this.empty, this.charts.element, this.facts.element);
  }

  update() {
    const { agent, machine, containers } = this.store;
    this.charts.element.hidden = this.facts.element.hidden = agent === null;
    if (agent === null) return;
    const now = this.store.now();
    this.charts.update(this.store.machineSeries, now, machine);
    setText(this.heading, agent.hostname);
    const running = [...containers.values()].filter(({ state }) => state === "RUNNING").length;
    this.empty.hidden = containers.size > 0;
    this.facts.update({
      Agent: `Mesocosm ${agent.version}`,
      "Up for": duration(now - agent.started),
      Containers: `${running} running, ${this.store.endedTotal} ended`,
      Load: machine.load.map((value) => value.toFixed(2)).join("  "),
      Isolation: agent.isolation,
    });
  }

  dispose() {}
}
