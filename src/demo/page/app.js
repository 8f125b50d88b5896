// The page: login, the user's actions, and the log of what happened.

import { ReconnectingSocket, post, sessionIdOf, storage, upload } from "./client.js";
import { Gauge } from "./gauge.js";
import { prepare, retry } from "./retry.js";

const element = (id) => document.getElementById(id);
const EXAMPLES = {
  short: '# The app understands print and time.sleep.\nprint("Hello from the analytical engine")\nprint("B2 = 1/6")',
  slow: `# Hands off: every line it prints is a message from the app.\n${[1, 2, 3, 4, 5].map((step) => `print("step ${step} of 5")\ntime.sleep(8)`).join("\n")}`,
};
const MOST_LOG_LINES = 200;

/// The session of this tab: { token, username }; null when logged out.
let session = null;
/// Kept only to show that the old token is refused.
let endedToken = null;
let opened = 0;
const notedAt = {};

const gauge = new Gauge((source) => {
  // The log already has what this page did itself. The browser answers pings on its own.
  if (source === "client-pong" || performance.now() - (notedAt[source] ?? -Infinity) > 3000) {
    const words = { "client-pong": "The app sent a ping, and your browser answered it" };
    log(words[source] ?? "idlegate saw activity", source);
  }
});

const socket = new ReconnectingSocket({
  opened() {
    opened += 1;
    const again = opened > 1 ? "WebSocket open again" : "WebSocket open";
    const stored = storage.load();
    if (stored && session) {
      showConnection("open", "WebSocket open");
      socket.say({ cmd: "authenticate", session_id: stored.token });
      log(`${again}; stored token sent`, "client-frame");
    } else {
      showConnection("closed", "Connected again, not logged in");
      log(`${again}; no stored token, so there is no session`);
    }
  },
  received(message) {
    if (message.type === "auth_success") {
      log("The app accepted the token", "server-frame");
    } else if (message.type === "output" || message.type === "finished") {
      const text = message.type === "output" ? message.text : `(exit code ${message.exit_code})`;
      element("output").append(`${text}\n`);
      element("output").scrollTop = element("output").scrollHeight;
      log(message.type === "output" ? `The program printed: ${text}` : "The program finished", "server-frame");
    } else if (message.type === "error") {
      log(`The app responded: ${message.message}`, "server-frame");
    } else if (message.type === "session_terminated" && session) {
      terminated(message.reason);
    }
  },
  closed(code, reason, delay) {
    log(`WebSocket closed (${[code, reason].filter(Boolean).join(" ")}); reconnecting in ${(delay / 1000).toFixed(1)} s`);
    showConnection("closed", "WebSocket closed, reconnecting…");
  },
});

/// As in the real front end, only this message logs the user out.
function terminated(reason) {
  const elsewhere = reason === "logged_in_elsewhere";
  if (elsewhere) {
    // The token is live in another tab that shares this storage. Reconnecting would make the tabs replace each other forever.
    socket.stop();
    log("The app closed this tab's WebSocket because you continued in another tab", "cut");
    showConnection("closed", "WebSocket closed");
  } else {
    storage.clear();
    endedToken = session.token;
    log("idlegate ended the session: session_terminated (inactivity)", "cut");
    showConnection("closed", "WebSocket closed by idlegate");
    prepare(element("retry-results"));
  }
  session = null;
  const limit = gauge.limit === 1 ? "1 second" : `${gauge.limit} seconds`;
  element("expired-title").textContent = elsewhere
    ? "You continued in another tab."
    : `Your session expired due to inactivity (${limit}).`;
  element("expired-text").textContent = elsewhere
    ? "The app allows one connection per login, so it closed this one. The session has not ended."
    : "idlegate sent the app's own logout message and closed the WebSocket, and the page deleted its token. It kept a copy so that you can test whether the old token still works.";
  element("login-again").textContent = elsewhere ? "Continue here" : "Log in again";
  element("retry").hidden = elsewhere;
  element("retry-old-token").hidden = elsewhere;
  element("retry-old-token").disabled = false;
  element("expired-dialog").dataset.reason = reason;
  element("expired-dialog").showModal();
}

async function enter(entered) {
  session = entered;
  element("who").textContent = entered.username;
  element("initial").textContent = entered.username.slice(0, 1);
  const sessionId = await sessionIdOf(entered.token);
  element("session-id").textContent = `${sessionId.slice(0, 8)}…`;
  element("session-id").title = sessionId;
  element("output").textContent = "";
  element("upload-result").textContent = "Not sent yet.";
  document.body.dataset.view = "room";
  opened = 0;
  gauge.watch(sessionId);
  socket.start();
  element("run-button").focus({ preventScroll: true });
}

/// Back to the login, with the reason.
function leave(notice) {
  session = null;
  endedToken = null;
  socket.stop();
  gauge.stop();
  element("log").replaceChildren();
  element("login-notice").textContent = notice ?? "";
  const first = document.body.dataset.view === "loading";
  document.body.dataset.view = "login";
  if (!first) {
    element("login-button").focus({ preventScroll: true });
  }
}

async function login(event) {
  event.preventDefault();
  const { username, password } = Object.fromEntries(new FormData(element("login-form")));
  const { status, body } = await post("/api/login", { username, password });
  if (!body.session_id) {
    element("login-notice").textContent = `${status || "No response"}: ${body.error ?? "the login failed"}.`;
    return;
  }
  storage.save({ token: body.session_id, username: body.username });
  log("You logged in; the app issued a token", "accepted");
  await enter({ token: body.session_id, username: body.username });
}

async function logout() {
  // Clear the session first: the page must not react to the message that idlegate sends for this logout.
  const { token } = session;
  session = null;
  storage.clear();
  socket.stop();
  const { status } = await post("/api/logout", { session_id: token });
  leave(status === 200 ? "You logged out, and idlegate ended the session." : "You logged out.");
}

function run() {
  const code = element("code").value;
  element("output").textContent = "";
  if (socket.say({ cmd: "run", code })) {
    const lines = code.split("\n").length;
    log(`You ran code (${lines} ${lines === 1 ? "line" : "lines"})`, "client-frame");
  } else {
    log("The WebSocket is not open, so the code was not sent");
  }
}

async function uploadFile() {
  const file = element("file").files[0] ?? new Blob([new Uint8Array(256 * 1024)]);
  element("upload-result").textContent = "Sending…";
  log(`You upload ${size(file.size)}`, "request", "transfer");
  const { status, body } = await upload(session.token, file);
  const text = status === 200 ? `The app received ${size(body.bytes)}` : `${status || "No response"}: ${body.error ?? "refused"}`;
  element("upload-result").textContent = `${text}.`;
  log(text, ...(status === 200 ? ["request"] : ["refused"]));
}

async function retryOldToken() {
  element("retry-old-token").disabled = true;
  await retry(element("retry-results"), endedToken, () => gauge.appHolds, (way, { refused, text }) =>
    log(`Old token, ${way}: ${text}`, refused ? "refused" : "accepted"),
  );
  element("retry-old-token").disabled = false;
}

async function afterDialog() {
  const stored = storage.load();
  await (stored && !endedToken ? resume(stored) : leave());
}

/// Checks whether a stored token is still valid, as the real front end does when the page loads.
async function resume(stored) {
  const { status } = await post("/api/validate-session", { session_id: stored.token });
  if (status === 200) {
    log("The stored token is still valid", "request");
    await enter(stored);
  } else if (status === 401) {
    storage.clear();
    leave("401: your stored session has ended, so this page deleted its token.");
  } else {
    leave("The app did not respond.");
  }
}

function log(text, ...sources) {
  for (const source of sources) {
    notedAt[source] = performance.now();
    if (session) {
      gauge.note(source);
    }
  }
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString("en-GB");
  const words = document.createElement("span");
  words.textContent = text;
  const tags = sources.map((source) => {
    const tag = document.createElement("code");
    tag.dataset.source = source;
    tag.textContent = source;
    return tag;
  });
  line.append(time, words, ...tags);
  element("log").prepend(line);
  element("log").children[MOST_LOG_LINES]?.remove();
}

function showConnection(state, text) {
  element("connection-dot").dataset.state = state;
  element("connection").textContent = text;
}

function size(bytes) {
  return bytes < 1024 ? `${bytes} bytes` : bytes < 1024 ** 2 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}

for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => {
    element("code").value = EXAMPLES[button.dataset.example];
    document.querySelectorAll("[data-example]").forEach((other) => other.setAttribute("aria-pressed", other === button));
  });
}
element("code").value = EXAMPLES.short;
element("login-form").addEventListener("submit", login);
element("logout-button").addEventListener("click", logout);
element("run-button").addEventListener("click", run);
element("upload-button").addEventListener("click", uploadFile);
element("file").addEventListener("change", () => {
  const file = element("file").files[0];
  element("file-name").textContent = file ? `${file.name}, ${size(file.size)}` : "sample.bin, 256 KB";
});
element("retry-old-token").addEventListener("click", retryOldToken);
element("login-again").addEventListener("click", () => element("expired-dialog").close());
// The button and Escape both leave the logged-out page.
element("expired-dialog").addEventListener("close", afterDialog);

const stored = storage.load();
await (stored?.token ? resume(stored) : leave());
