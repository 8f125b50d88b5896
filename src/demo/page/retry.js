// Tries the old token again, in each of the three places where a client sends it.

import { newSocket, parse, post, upload } from "./client.js";

const PATIENCE = 6000;

const WAYS = [
  ["http-json", "HTTP, JSON body", "POST /api/validate-session"],
  ["http-header", "HTTP, header", "POST /api/upload-file"],
  ["websocket", "WebSocket message", "authenticate on /ws"],
  ["app", "The app itself", "would it still accept the token?"],
];

const TRIES = {
  "http-json": async (token) => httpRow(await post("/api/validate-session", { session_id: token })),
  "http-header": async (token) => httpRow(await upload(token, new Blob(["once more"]))),
  websocket: authenticate,
};

function httpRow({ status, body }) {
  return { refused: status === 401, text: `${status || "no response"} ${body.error ?? "accepted"}` };
}

/// Sends the token in the first message, as a reconnecting client does, and reports the response.
function authenticate(token) {
  return new Promise((resolve) => {
    const received = [];
    const socket = newSocket();
    const finish = (end, refused) => {
      clearTimeout(timer);
      socket.onclose = null;
      socket.close();
      resolve({ refused, text: [...received, end].join(", then ") });
    };
    const timer = setTimeout(() => finish("no Close", false), PATIENCE);
    socket.onopen = () => socket.send(JSON.stringify({ cmd: "authenticate", session_id: token }));
    socket.onmessage = (event) => {
      const message = parse(event.data);
      if (message.type === "session_terminated") {
        received.push(`${message.type} (${message.reason})`);
      } else if (message.type === "auth_success") {
        finish("accepted", false);
      }
    };
    socket.onclose = (event) => finish(`Close ${event.code}`, received.length > 0);
  });
}

/// Fills in the rows before the first try, so that the list keeps its height.
export function prepare(list) {
  list.replaceChildren(
    ...WAYS.map(([way, title, how]) => {
      const row = document.createElement("li");
      row.dataset.way = way;
      row.innerHTML = "<i></i><span><b></b> <small></small></span><span class=\"outcome\"></span>";
      row.querySelector("b").textContent = title;
      row.querySelector("small").textContent = how;
      show(row, "waiting", "not tried yet");
      return row;
    }),
  );
}

/// Tries all three and passes each outcome to `report(title, { refused, text })`. `appHolds()` says whether the app itself
/// still has the login; the demo's watch reports it.
export async function retry(list, token, appHolds, report) {
  for (const [way, title] of WAYS) {
    const row = list.querySelector(`[data-way="${way}"]`);
    show(row, "busy", "trying…");
    if (way === "app") {
      const holds = appHolds();
      show(row, holds ? "held" : "refused", holds ? "yes: it has no idle timeout" : "no: the login has ended");
    } else {
      const outcome = await TRIES[way](token);
      show(row, outcome.refused ? "refused" : "accepted", outcome.text);
      report(title, outcome);
    }
  }
}

function show(row, outcome, text) {
  row.dataset.outcome = outcome;
  row.querySelector(".outcome").textContent = text;
}
