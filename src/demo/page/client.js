// The client of the real app's front end: HTTP calls, storage, and a reconnecting WebSocket.

const STORED = "idlegate-demo-session";

export const storage = {
  load() {
    try {
      return JSON.parse(localStorage.getItem(STORED));
    } catch {
      return null;
    }
  },
  save(session) {
    localStorage.setItem(STORED, JSON.stringify(session));
  },
  clear() {
    localStorage.clear();
  },
};

/// The session id of a token: the first 32 hex digits of its SHA-256. It is not secret.
export async function sessionIdOf(token) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token));
  return [...new Uint8Array(digest)].slice(0, 16).map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/// Returns { status, body }. Status 0 means no response.
async function send(path, options) {
  try {
    const response = await fetch(path, { method: "POST", ...options });
    const body = await response.json().catch(() => ({}));
    return { status: response.status, body };
  } catch {
    return { status: 0, body: { error: "no response" } };
  }
}

export function post(path, body) {
  return send(path, { headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

export function upload(token, file) {
  return send("/api/upload-file", { headers: { "session-id": token, "content-type": "application/octet-stream" }, body: file });
}

export function newSocket() {
  return new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
}

/// Works like reconnecting-websocket 4.4: it reconnects after every close, forever. The delay starts at 1–5 s and grows up
/// to 10 s. An attempt times out after 4 s.
export class ReconnectingSocket {
  #socket = null;
  #timer = 0;
  #attempts = 0;
  #stopped = true;
  #firstDelay = 1000 + Math.random() * 4000;

  /// `handlers`: opened(), received(message), closed(code, reason, delayInMilliseconds).
  constructor(handlers) {
    this.handlers = handlers;
  }

  start() {
    if (this.#stopped) {
      this.#stopped = false;
      this.#attempts = 0;
      this.#connect();
    }
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = null;
  }

  /// Sends a message. Returns false if the socket is not open.
  say(message) {
    const open = this.#socket?.readyState === WebSocket.OPEN;
    if (open) {
      this.#socket.send(JSON.stringify(message));
    }
    return open;
  }

  #connect() {
    const socket = newSocket();
    this.#socket = socket;
    const current = () => this.#socket === socket;
    const giveUp = setTimeout(() => socket.close(), 4000);
    socket.onopen = () => {
      clearTimeout(giveUp);
      if (current()) {
        this.handlers.opened();
        setTimeout(() => current() && (this.#attempts = 0), 5000);
      }
    };
    socket.onmessage = (event) => current() && this.handlers.received(parse(event.data));
    socket.onclose = (event) => {
      clearTimeout(giveUp);
      if (current()) {
        const delay = Math.min(10000, this.#firstDelay * 1.3 ** this.#attempts);
        this.#attempts += 1;
        this.#timer = setTimeout(() => this.#connect(), delay);
        this.handlers.closed(event.code, event.reason, delay);
      }
    };
  }
}

export function parse(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
