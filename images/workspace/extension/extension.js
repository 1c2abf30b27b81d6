"use strict";

// Tells the workspace's agent that somebody works here: at most once a second, and only that, never what is typed.

const PAUSE_MS = 1000;
// Typing in a terminal is no event for an extension; that the window is in use is, and it is said once, not each time.
const LOOK_MS = 5000;

/**
 * Return the part that decides.
 *
 * @param vscode The API of the editor.
 * @param tell Sends one sign of life; what becomes of it changes nothing.
 * @param now The time in milliseconds, by a clock that only goes forward.
 */
function createReporter(vscode, tell, now) {
  let toldAt = -Infinity;
  let asking = false;

  function report() {
    if (now() - toldAt >= PAUSE_MS) {
      toldAt = now();
      tell();
    }
  }

  function inUse() {
    return vscode.window.state.focused && vscode.window.state.active;
  }

  return {
    // Programs change open files too: only somebody in front of the window types.
    onText(event) {
      if (event.contentChanges.length > 0 && inUse()) report();
    },
    onSelection(event) {
      if (event.kind === vscode.TextEditorSelectionChangeKind.Keyboard ||
          event.kind === vscode.TextEditorSelectionChangeKind.Mouse) report();
    },
    onWindow(state) {
      if (state.focused && state.active) report();
    },
    // This process outlives a tab that was closed by hours, with the state that it had then. So the browser is asked:
    // without one there is no answer, and no second question.
    async look() {
      if (asking || !inUse()) return;
      asking = true;
      try {
        await vscode.commands.executeCommand("setContext", "sessionctl.seenAt", now());
        if (inUse()) report();
      } finally {
        asking = false;
      }
    },
  };
}

function activate(context) {
  const vscode = require("vscode");
  const http = require("http");
  const port = Number(process.env.SESSIONCTL_AGENT_PORT || 8081);

  function tell() {
    const request = http.request({ host: "127.0.0.1", port, path: "/v1/editor/input", method: "POST", timeout: 5000 });
    request.on("response", (response) => response.resume());
    request.on("timeout", () => request.destroy());
    // The agent may be starting; the next sign of life comes with the next key.
    request.on("error", () => undefined);
    request.end();
  }

  const reporter = createReporter(vscode, tell, () => performance.now());
  const timer = setInterval(() => reporter.look().catch(() => undefined), LOOK_MS);
  context.subscriptions.push(
    vscode.workspace.onDidChangeTextDocument(reporter.onText),
    vscode.window.onDidChangeTextEditorSelection(reporter.onSelection),
    vscode.window.onDidChangeWindowState(reporter.onWindow),
    { dispose: () => clearInterval(timer) },
  );
  reporter.onWindow(vscode.window.state);
}

module.exports = { activate, createReporter, PAUSE_MS };
