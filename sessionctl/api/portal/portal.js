// The demo portal's page: it uses nothing but the public Session API, with the session token of its login.

const LOOK_MS = 2000;
const PAUSE_MS = 1000;
const PATIENCE = 30;
const NAME = "sessionctl-demo-name";

const STATES = {
  created: "new, never woken",
  waking: "waking up",
  active: "awake",
  sleeping: "asleep",
  failed: "did not start",
  deleting: "being deleted",
  deleted: "deleted",
};

const byId = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

let visit = null;

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || `the server answered ${status}`);
    this.status = status;
    this.retryable = [409, 429, 502, 503, 504].includes(status);
  }
}

async function refusal(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // Not of the API: a proxy's own page.
  }
  return new Refused(response.status, problem);
}

// Logs in, again and again while somebody else is just making the same workspace or the platform is away.
async function enter(name) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch("login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name }),
    }).catch(() => null);
    if (response !== null && response.ok) {
      return response.json();
    }
    const error = response === null ? new Refused(502, { detail: "the platform does not answer" }) : await refusal(response);
    if (!error.retryable || attempt === PATIENCE) {
      throw error;
    }
    await pause(PAUSE_MS);
  }
}

async function call(method, path, { body, headers } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const mine = visit;
    const response = await fetch(`/session/${mine.uuid}${path}`, {
      method,
      headers: {
        Authorization: `Bearer ${mine.token}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
    // A session token is short-lived, and a name is enough for the next one.
    if (response.status !== 401 || attempt > 1) {
      if (response.ok) {
        return response;
      }
      throw await refusal(response);
    }
    const fresh = await enter(mine.name);
    if (visit === mine) {
      visit = fresh;
    }
  }
}

// Yields {id, event, data} of a stream of server-sent events.
async function* framesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let frame = {};
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return;
      }
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (frame.data !== undefined) {
            yield frame;
          }
          frame = {};
        } else if (!line.startsWith(":")) {
          const colon = line.indexOf(":");
          frame[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Yields what happens to one message up to its end. A request whose answer never began is sent again with its key;
// once the message has an id, whoever was cut off asks for the rest.
async function* followMessage(text) {
  const key = crypto.randomUUID();
  let messageId = "";
  let lastId = "";
  for (let failures = 0; ; failures += 1) {
    try {
      const headers = { Accept: "text/event-stream" };
      const response = messageId
        ? await call("GET", `/events?message_id=${messageId}`, {
            headers: { ...headers, ...(lastId ? { "Last-Event-ID": lastId } : {}) },
          })
        : await call("POST", "/chat", { body: { message: text }, headers: { ...headers, "Idempotency-Key": key } });
      for await (const frame of framesOf(response)) {
        const event = JSON.parse(frame.data);
        messageId = event.message_id || messageId;
        lastId = frame.id || lastId;
        failures = 0;
        yield event;
        if (event.event === "message-ended") {
          return;
        }
      }
    } catch (error) {
      if ((error instanceof Refused && !error.retryable) || failures >= PATIENCE) {
        throw error;
      }
    }
    await pause(PAUSE_MS);
  }
}

function addEntry(kind, from, text) {
  const entry = document.createElement("li");
  entry.className = kind;
  for (const [name, content] of [["from", from], ["text", text], ["outcome", ""]]) {
    const part = document.createElement("p");
    part.className = name;
    part.textContent = content;
    entry.append(part);
  }
  byId("log").append(entry);
  entry.scrollIntoView({ block: "nearest" });
  return entry;
}

const partOf = (entry, name) => entry.querySelector(`.${name}`);

function showOutcome(entry, outcome, reason) {
  entry.dataset.outcome = outcome;
  entry.removeAttribute("aria-busy");
  if (outcome !== "done") {
    partOf(entry, "outcome").textContent = reason ? `${outcome}: ${reason}` : outcome;
  }
}

async function say(text) {
  addEntry("user", visit.name, text);
  const entry = addEntry("agent", "agent", "");
  entry.setAttribute("aria-busy", "true");
  let attempt = 0;
  try {
    for await (const event of followMessage(text)) {
      if (event.event === "message-delta") {
        const part = partOf(entry, "text");
        // A later attempt's reply takes the place of what came before.
        part.textContent = (event.attempt > attempt ? "" : part.textContent) + event.text;
        attempt = event.attempt;
        entry.scrollIntoView({ block: "nearest" });
      } else if (event.event === "message-ended") {
        showOutcome(entry, event.outcome, event.detail);
      }
    }
  } catch (error) {
    showOutcome(entry, "unknown", error.message);
  }
}

async function showConversation() {
  const conversation = await (await call("GET", "/messages")).json();
  byId("log").replaceChildren();
  for (const each of conversation.messages) {
    addEntry("user", visit.name, each.message);
    const entry = addEntry("agent", "agent", each.reply || "");
    if (["queued", "running"].includes(each.status)) {
      partOf(entry, "outcome").textContent = each.status;
    } else {
      showOutcome(entry, each.status, each.reason);
    }
  }
}

async function showState() {
  const { session } = await (await call("GET", "/status")).json();
  byId("status").textContent = STATES[session.status] || session.status;
  byId("dot").className = `dot ${session.status}`;
  byId("state").dataset.status = session.status;
  byId("reason").textContent = session.reason || "";
  byId("sleep").disabled = session.status !== "active";
}

async function watchState(mine) {
  while (visit !== null && visit.uuid === mine.uuid) {
    await showState().catch((error) => {
      byId("reason").textContent = error.message;
    });
    await pause(LOOK_MS);
  }
}

async function open(name) {
  byId("notice").textContent = "";
  visit = await enter(name);
  sessionStorage.setItem(NAME, name);
  byId("who").textContent = visit.name;
  byId("editor").href = visit.editor_url;
  byId("entrance").hidden = true;
  byId("workspace").hidden = false;
  watchState(visit);
  await showConversation();
  byId("message").focus();
}

function leave() {
  visit = null;
  sessionStorage.removeItem(NAME);
  byId("workspace").hidden = true;
  byId("entrance").hidden = false;
  byId("log").replaceChildren();
  byId("name").focus();
}

// Runs what a person asked for, and says what went wrong.
function attempt(work) {
  byId("notice").textContent = "";
  work().catch((error) => {
    byId("notice").textContent = error.message;
  });
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => open(byId("name").value));
});
byId("leave").addEventListener("click", leave);
byId("sleep").addEventListener("click", () => attempt(() => call("POST", "/sleep")));
byId("chat").addEventListener("submit", (event) => {
  event.preventDefault();
  const box = byId("message");
  const text = box.value;
  if (text.trim()) {
    box.value = "";
    attempt(() => say(text));
  }
});
byId("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("chat").requestSubmit();
  }
});

const NOTICES = {
  "#not-yours": "That workspace belongs to another name.",
  "#who-are-you": "Say who you are; then open the editor from here.",
};
const known = sessionStorage.getItem(NAME);
byId("entrance").hidden = false;
if (known !== null && !NOTICES[location.hash]) {
  attempt(() => open(known));
} else {
  byId("notice").textContent = NOTICES[location.hash] || "";
  byId("name").focus();
}
