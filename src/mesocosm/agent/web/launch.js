// The form that launches a container, and the call that it makes.

import { h, setText } from "./dom.js";
import { ask, field } from "./dialog.js";
import { identity } from "./actions.js";

/** A name that there is no container of yet: `base`, or with a number behind it. */
export function freeName(base, taken) {
  let name = base;
  for (let number = 2; taken.has(name); number += 1) name = `${base}-${number}`;
  return name;
}

/** What LAUNCH_CONTAINER is asked for, as by `mesocosm run --agent`: amounts are limits, too. Empty fields are left out. */
export function request({ name, parent, command, image, cpus, memory, user, environment }) {
  const variables = environment
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const at = line.indexOf("=");
      if (at < 1) throw new Error(`"${line}" is no variable; write NAME=VALUE`);
      return { name: line.slice(0, at).trim(), type: "VALUE", value: line.slice(at + 1) };
    });
  const amounts = Object.entries({ cpus, mem: memory }).filter(([, value]) => value !== "");
  const info = { shell: true };
  if (command !== "") info.value = command;
  else info.shell = false;
  if (user !== "") info.user = user;
  if (variables.length > 0) info.environment = { variables };
  const call = { container_id: identity(parent === null ? name : `${parent}.${name}`), command: info };
  if (amounts.length > 0) {
    call.resources = amounts.map(([key, value]) => ({ name: key, type: "SCALAR", scalar: { value: Number(value) } }));
    call.limits = Object.fromEntries(amounts.map(([key, value]) => [key, { value: Number(value) }]));
  }
  if (image !== "") {
    call.container = { type: "MESOS", mesos: { image: { type: "DOCKER", docker: { name: image } } } };
  }
  return call;
}

/** Asks what to launch, in the container `parent` if there is one; then calls `launched` with the id. */
export function launch({ api, store }, parent, launched) {
  const base = parent === null ? "container" : "side";
  const prefix = parent === null ? "" : `${parent}.`;
  const taken = new Set([...store.containers.keys()].filter((id) => id.startsWith(prefix)).map((id) => id.slice(prefix.length)));
  const input = (attributes) => h("input", { type: "text", spellcheck: "false", autocomplete: "off", autocapitalize: "off", ...attributes });
  const hasImages = store.agent?.has_images ?? false;
  const fields = {
    name: input({ value: freeName(base, taken), required: true, pattern: "[A-Za-z0-9_\\-][A-Za-z0-9_:@+=,~\\-]*" }),
    command: input({ placeholder: hasImages ? "that of the image" : "sleep 1000", required: !hasImages, class: "mono" }),
    image: input({ placeholder: hasImages ? "debian:12, or none: the files of the host" : "", disabled: !hasImages, class: "mono" }),
    cpus: h("input", { type: "number", min: "0.01", step: "any", inputmode: "decimal" }),
    memory: h("input", { type: "number", min: "1", step: "any", inputmode: "numeric" }),
    user: input({ class: "mono" }),
    environment: h("textarea", { rows: "2", class: "mono", spellcheck: "false", placeholder: "NAME=VALUE" }),
  };
  const values = () => ({
    parent,
    ...Object.fromEntries(Object.entries(fields).map(([name, { value }]) => [name, name === "environment" ? value : value.trim()])),
  });
  const preview = h("pre", { class: "code", tabindex: "0" });
  const show = () => {
    try {
      setText(preview, JSON.stringify({ type: "LAUNCH_CONTAINER", launch_container: request(values()) }, null, 2));
    } catch (error) {
      setText(preview, error.message);
    }
  };
  Object.values(fields).forEach((each) => each.addEventListener("input", show));
  show();
  return ask({
    title: parent === null ? "Launch a container" : h("span", {}, "Launch a container in ", h("bdi", {}, parent)),
    body: [
      field("Name", fields.name),
      field("Command", fields.command, "Run by /bin/sh"),
      field("Image", fields.image, hasImages ? null : "This agent has no images: start it with --image_providers=docker"),
      parent === null && h("div", { class: "pair" }, field("CPUs", fields.cpus), field("Memory, MB", fields.memory)),
      h(
        "details",
        {},
        h("summary", {}, "More"),
        field("User", fields.user, "A name or a number; empty: that of the agent"),
        field("Environment", fields.environment),
        h("p", { class: "label" }, "What the agent is asked"),
        preview,
      ),
    ],
    label: "Launch",
    focus: fields.command,
    async run() {
      const { name } = values();
      await api.call("LAUNCH_CONTAINER", request(values()));
      await store.lookAgain();
      launched(`${prefix}${name}`);
    },
  });
}
