// What the page knows of the agent: asked every two seconds, while somebody looks at it.

import { ApiError } from "./api.js";
import { Series, addContainer, addMachine } from "./series.js";

const INTERVAL = 2000;

/** Sends "change" after each look. */
export class Store extends EventTarget {
  agent = null;
  machine = null;
  containers = new Map();
  endedTotal = 0;
  /** null: all is well; else the ApiError of the last look. */
  trouble = null;
  /** When the agent last answered, in milliseconds of this clock. */
  answered = null;
  machineSeries = new Series();
  #series = new Map();
  #api;
  #timer = null;
  #looking = null;

  constructor(api) {
    super();
    this.#api = api;
    document.addEventListener("visibilitychange", () => this.look());
  }

  /** Looks now, and again and again from then on. */
  look() {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
      clearTimeout(this.#timer);
      const waits = document.hidden || this.trouble?.kind === "unauthorized";
      if (!waits) this.#timer = setTimeout(() => this.look(), INTERVAL);
    });
    return this.#looking;
  }

  /** Looks once more when a look that has begun is over: what was just done is seen then. */
  async lookAgain() {
    await this.#looking;
    await this.look();
  }

  series(id) {
    let series = this.#series.get(id);
    if (series === undefined) this.#series.set(id, (series = new Series()));
    return series;
  }

  /** The agent's time now, in seconds: ages are by its clock. */
  now() {
    return this.agent === null ? Date.now() / 1000 : this.agent.time + (Date.now() - this.answered) / 1000;
  }

  children(parent) {
    return [...this.containers.values()].filter((container) => container.parent === parent);
  }

  async #look() {
    try {
      this.#take(await this.#api.overview());
      this.trouble = null;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.trouble = error;
      if (error.kind === "forbidden" || error.kind === "unauthorized") this.#forget();
    }
    this.dispatchEvent(new Event("change"));
  }

  #take(overview) {
    this.answered = Date.now();
    this.agent = overview.agent;
    this.machine = overview.machine;
    this.endedTotal = overview.ended_total;
    this.containers = new Map(overview.containers.map((container) => [container.id, container]));
    addMachine(this.machineSeries, overview.machine);
    for (const { id, statistics } of overview.containers) {
      if (statistics !== undefined) addContainer(this.series(id), statistics);
    }
    for (const id of this.#series.keys()) {
      if (!this.containers.has(id)) this.#series.delete(id);
    }
  }

  #forget() {
    this.agent = this.machine = null;
    this.containers = new Map();
    this.#series.clear();
  }
}
