// An executor in JavaScript, with nothing but Node: tasks run until they are killed, or are finished at once if "quick".
import { randomBytes } from "node:crypto";

const { MESOS_AGENT_ENDPOINT, MESOS_EXECUTOR_ID, MESOS_FRAMEWORK_ID } = process.env;
const me = { framework_id: { value: MESOS_FRAMEWORK_ID }, executor_id: { value: MESOS_EXECUTOR_ID } };

async function call(type, content = {}) {
  const response = await fetch(`http://${MESOS_AGENT_ENDPOINT}/api/v1/executor`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ ...me, type, ...content }),
  });
  if (!response.ok) throw new Error(`${type}: ${response.status} ${await response.text()}`);
  return response;
}

async function update(task_id, state) {
  const status = { task_id, state, source: "SOURCE_EXECUTOR", uuid: randomBytes(16).toString("base64") };
  await call("UPDATE", { update: { status } });
}

async function launch({ task_id }) {
  await update(task_id, "TASK_RUNNING");
  if (task_id.value === "quick") await update(task_id, "TASK_FINISHED");
}

const handlers = {
  LAUNCH: (event) => launch(event.launch.task),
  LAUNCH_GROUP: (event) => Promise.all(event.launch_group.task_group.tasks.map(launch)),
  KILL: (event) => update(event.kill.task_id, "TASK_KILLED"),
  MESSAGE: () => call("MESSAGE", { message: { data: Buffer.from("heard").toString("base64") } }),
  SHUTDOWN: () => process.exit(0),
};

async function* records(stream) {
  let data = Buffer.alloc(0);
  for await (const chunk of stream) {
    data = Buffer.concat([data, chunk]);
    for (;;) {
      const head = data.indexOf("\n");
      const end = head + 1 + Number(data.subarray(0, Math.max(head, 0)).toString());
      if (head < 0 || data.length < end) break;
      yield JSON.parse(data.subarray(head + 1, end));
      data = data.subarray(end);
    }
  }
}

const events = await call("SUBSCRIBE", { subscribe: {} });
for await (const event of records(events.body)) await handlers[event.type]?.(event);
