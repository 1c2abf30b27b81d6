// Run inside the image by test_images.py: the extension with a stand-in for the editor's API and a real agent's port.
"use strict";
const assert = require("assert");
const http = require("http");
const Module = require("module");

const folder = "/opt/editor/node_modules/code-server/lib/vscode/extensions/sessionctl-activity";
const { createReporter, activate, PAUSE_MS } = require(folder);
const Kind = { Keyboard: 1, Mouse: 2, Command: 3 };

function stage(state = { focused: true, active: true }) {
  const told = [];
  const asked = [];
  const stage = { told, asked, time: 0, vscode: {
    TextEditorSelectionChangeKind: Kind,
    window: { state },
    commands: { executeCommand: (...args) => new Promise((resolve) => asked.push({ args, resolve })) },
  } };
  stage.reporter = createReporter(stage.vscode, () => told.push(stage.time), () => stage.time);
  return stage;
}

const change = { contentChanges: [{}] };
const cases = {
  "typing is told at once, and at most once a second"() {
    const it = stage();
    for (it.time = 0; it.time <= 2500; it.time += 100) it.reporter.onText(change);
    assert.deepStrictEqual(it.told, [0, PAUSE_MS, 2 * PAUSE_MS]);
  },
  "a file that a program changes is nobody's typing"() {
    for (const state of [{ focused: false, active: true }, { focused: true, active: false }]) {
      const it = stage(state);
      it.reporter.onText(change);
      assert.deepStrictEqual(it.told, []);
    }
    const it = stage();
    it.reporter.onText({ contentChanges: [] });
    assert.deepStrictEqual(it.told, []);
  },
  "a selection is told when a hand made it"() {
    for (const [kind, count] of [[Kind.Keyboard, 1], [Kind.Mouse, 1], [Kind.Command, 0], [undefined, 0]]) {
      const it = stage({ focused: false, active: false });
      it.reporter.onSelection({ kind });
      assert.strictEqual(it.told.length, count, String(kind));
    }
  },
  "a window that gets the focus is told"() {
    const it = stage();
    it.reporter.onWindow({ focused: true, active: false });
    assert.strictEqual(it.told.length, 0);
    it.reporter.onWindow({ focused: true, active: true });
    assert.strictEqual(it.told.length, 1);
  },
  async "a window in use is told while its browser answers"() {
    const it = stage();
    for (const [time, count] of [[5000, 1], [10000, 2]]) {
      it.time = time;
      const looking = it.reporter.look();
      it.asked.pop().resolve();
      await looking;
      assert.strictEqual(it.told.length, count);
    }
  },
  async "a tab that was closed is asked once and never told again"() {
    const it = stage();
    it.reporter.look();
    for (it.time = 5000; it.time < 100000; it.time += 5000) it.reporter.look();
    await new Promise(setImmediate);
    assert.strictEqual(it.asked.length, 1);
    assert.deepStrictEqual(it.told, []);
  },
  async "a browser that comes back is asked again"() {
    const it = stage();
    const first = it.reporter.look();
    it.asked.pop().resolve();
    await first;
    it.reporter.look();
    assert.strictEqual(it.asked.length, 1);
  },
  async "a browser that refuses is asked again"() {
    const it = stage();
    it.vscode.commands.executeCommand = () => Promise.reject(new Error("gone"));
    await assert.rejects(it.reporter.look());
    await assert.rejects(it.reporter.look());
    assert.deepStrictEqual(it.told, []);
  },
  async "a window that is not in use is not asked"() {
    const it = stage({ focused: true, active: false });
    await it.reporter.look();
    assert.deepStrictEqual(it.asked, []);
  },
  async "the agent is told by POST, nothing of what was typed, and nothing breaks without an agent"() {
    const got = [];
    const server = http.createServer((request, response) => {
      let body = "";
      request.on("data", (data) => { body += data; });
      request.on("end", () => { got.push([request.method, request.url, body]); response.writeHead(204).end(); });
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    process.env.SESSIONCTL_AGENT_PORT = String(server.address().port);
    const listeners = {};
    const on = (name) => (listener) => { listeners[name] = listener; return { dispose() {} }; };
    const vscode = {
      TextEditorSelectionChangeKind: Kind,
      workspace: { onDidChangeTextDocument: on("text") },
      window: {
        state: { focused: true, active: true },
        onDidChangeTextEditorSelection: on("selection"),
        onDidChangeWindowState: on("window"),
      },
      commands: { executeCommand: () => Promise.resolve() },
    };
    const load = Module._load;
    Module._load = (name, ...rest) => (name === "vscode" ? vscode : load(name, ...rest));
    const context = { subscriptions: [] };
    activate(context);
    assert.deepStrictEqual(Object.keys(listeners).sort(), ["selection", "text", "window"]);
    while (got.length < 1) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepStrictEqual(got, [["POST", "/v1/editor/input", ""]]);
    await new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); });
    context.subscriptions.forEach((each) => each.dispose());
    const alone = { subscriptions: [] };
    activate(alone);
    await new Promise((resolve) => setTimeout(resolve, 100));
    alone.subscriptions.forEach((each) => each.dispose());
  },
};

(async () => {
  for (const [name, run] of Object.entries(cases)) {
    await run();
    console.log(`ok ${name}`);
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
