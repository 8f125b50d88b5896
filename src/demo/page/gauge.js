// The ring: the session's state from idlegate, twice a second, and the countdown in between.

const element = (id) => document.getElementById(id);

/// [source, noun phrase, sentence]
const SOURCES = [
  ["client-frame", "a message you sent", "You send a message"],
  ["server-frame", "a message from the app", "The app sends a message"],
  ["client-pong", "your browser's answer to a ping", "Your browser answers a ping"],
  ["request", "a request", "A request begins or ends"],
  ["transfer", "bytes of a file or a response", "A file or a response is transferred"],
];
const WORDS = { accepted: "your login", ...Object.fromEntries(SOURCES.map(([source, words]) => [source, words])) };
const SILENCE = 3500;

export class Gauge {
  limit = 30;
  appHolds = false;
  #events = null;
  #receivedAt = 0;
  #seen = {};
  #known = null;
  #announced = false;

  /// `refreshed(source)` is called when idlegate saw activity.
  constructor(refreshed) {
    this.refreshed = refreshed;
    element("sources").replaceChildren(...SOURCES.map(([source, , title]) => row(source, title)));
    setInterval(() => this.#draw(), 200);
  }

  /// Watches a session. The request carries the session id and no token, so it does not refresh the session.
  watch(sessionId) {
    this.stop();
    this.#known = null;
    this.#seen = {};
    this.#receivedAt = performance.now();
    this.#events = new EventSource(`/demo/watch?session=${sessionId}`);
    this.#events.onmessage = (event) => this.#receive(JSON.parse(event.data));
    this.#draw();
  }

  stop() {
    this.#events?.close();
    this.#events = null;
  }

  /// Notes activity that the page caused itself.
  note(source) {
    this.#seen[source] = performance.now();
  }

  #receive(news) {
    const now = performance.now();
    const before = this.#known;
    this.#receivedAt = now;
    this.#known = { ...news, lastAt: now - (news.idle_ms ?? 0) };
    this.appHolds = news.app_login;
    if (news.limit_seconds) {
      this.limit = news.limit_seconds;
    }
    // Without activity, the idle time grows from one event to the next.
    if (news.state === "live" && (before?.state !== "live" || news.idle_ms < before.idle_ms + 150)) {
      this.#seen[news.source] = Math.max(this.#seen[news.source] ?? 0, this.#known.lastAt);
      this.#announced = false;
      if (before) {
        this.refreshed(news.source);
      }
    }
    this.#draw();
  }

  #draw() {
    if (!this.#events) {
      return;
    }
    const now = performance.now();
    const known = this.#known;
    const live = known?.state === "live" && now - this.#receivedAt < SILENCE;
    const left = live ? Math.max(0, this.limit - (now - known.lastAt) / 1000) : 0;
    const seconds = Math.ceil(left);
    element("gauge").dataset.tone = tone(known, live, seconds);
    element("ring").style.strokeDashoffset = 1 - left / this.limit;
    element("seconds-left").textContent = live ? seconds : known?.state === "ended" ? "0" : "–";
    element("seconds-label").textContent = label(known, live, now - this.#receivedAt, seconds);
    element("limit").textContent = `${this.limit} s`;
    element("last-source").textContent = known?.source ? (WORDS[known.source] ?? known.source) : "…";
    element("last-source").dataset.source = known?.source ?? "";
    element("last-age").textContent = known?.source ? ago(now - known.lastAt) : "";
    element("connections").textContent = live ? `${known.connections} ${known.connections === 1 ? "connection" : "connections"}` : "";
    for (const item of element("sources").children) {
      const seenAt = this.#seen[item.dataset.source];
      item.classList.toggle("latest", live && item.dataset.source === known.source);
      item.lastElementChild.textContent = seenAt === undefined ? "not yet" : ago(now - seenAt);
    }
    if (live && seconds === 10 && !this.#announced) {
      this.#announced = true;
      element("announcement").textContent = "10 seconds left until the session ends.";
    }
  }
}

function tone(known, live, seconds) {
  if (!live) {
    return known?.state === "ended" ? "over" : "none";
  }
  return seconds <= 5 ? "over" : seconds <= 10 ? "soon" : "calm";
}

function label(known, live, silence, seconds) {
  if (silence >= SILENCE) {
    return "no data from idlegate";
  }
  if (!known) {
    return "connecting to idlegate…";
  }
  if (!live) {
    return known.state === "ended" ? "session ended" : "not tracked";
  }
  return seconds === 0 ? "any moment now" : seconds === 1 ? "second left" : "seconds left";
}

function row(source, title) {
  const item = document.createElement("li");
  item.dataset.source = source;
  item.innerHTML = "<i></i><span></span><span class=\"quiet\"></span>";
  item.children[1].textContent = title;
  return item;
}

function ago(milliseconds) {
  return milliseconds < 1000 ? "just now" : `${Math.floor(milliseconds / 1000)} s ago`;
}
