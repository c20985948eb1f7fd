// What can be done with containers from here.

import { h } from "./dom.js";
import { ask, field } from "./dialog.js";

/** ContainerID of the API: `a.b` is b in a. */
export function identity(id) {
  const at = id.lastIndexOf(".");
  return at === -1 ? { value: id } : { value: id.slice(at + 1), parent: identity(id.slice(0, at)) };
}

const within = (store, id) => [...store.containers.values()].filter((other) => other.id.startsWith(`${id}.`));

export function kill({ api, store }, container) {
  const running = within(store, container.id).filter(({ state }) => state !== "ENDED").length;
  const others = running === 0 ? "" : ` ${running === 1 ? "One container" : `${running} containers`} in it will end, too.`;
  const choice = (value, name, text, isChecked) => {
    const input = h("input", { type: "radio", name: "signal", value, checked: isChecked });
    return h("label", { class: "choice" }, input, h("span", {}, h("b", {}, name), ` ${text}`));
  };
  const signals = h(
    "fieldset",
    {},
    h("legend", { class: "hidden" }, "Signal"),
    choice("15", "SIGTERM", "lets it clean up; it may ignore this", true),
    choice("9", "SIGKILL", "ends it at once", false),
  );
  return ask({
    title: h("span", {}, "Kill ", h("bdi", {}, container.id), "?"),
    body: [h("p", {}, `Its command gets a signal.${others}`), signals],
    label: "Kill",
    danger: true,
    async run() {
      const signal = Number(signals.querySelector("input:checked").value);
      await api.call("KILL_CONTAINER", { container_id: identity(container.id), signal });
      await store.lookAgain();
    },
  });
}

export function remove({ api, store }, container) {
  const others = within(store, container.id).length;
  const text = `Its sandbox is deleted with all files and logs${others === 0 ? "" : `, and with it ${others} nested in it`}.`;
  return ask({
    title: h("span", {}, "Remove ", h("bdi", {}, container.id), "?"),
    body: h("p", {}, `${text} This cannot be undone.`),
    label: "Remove",
    danger: true,
    async run() {
      await api.call("REMOVE_CONTAINER", { container_id: identity(container.id) });
      await store.lookAgain();
    },
  });
}

/** Asks who it is; without a way out, as there is nothing to see before. */
export function signIn({ api, store }, problem = null) {
  const name = h("input", { type: "text", autocomplete: "username", required: true, spellcheck: "false" });
  const secret = h("input", { type: "password", autocomplete: "current-password", required: true });
  return ask({
    title: "Sign in to the agent",
    body: [
      h("p", {}, problem ?? "It shows its containers to those whom its credentials name."),
      field("Name", name),
      field("Secret", secret, "Kept in this page until it is closed, and sent to this agent only."),
    ],
    label: "Sign in",
    cancel: null,
    focus: name,
    async run() {
      api.signIn(name.value, secret.value);
      await store.lookAgain();
      if (store.trouble?.kind !== "unauthorized") return;
      api.signOut();
      secret.value = "";
      throw new Error("The agent knows no such name with this secret.");
    },
  });
}
