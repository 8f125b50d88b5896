// What a page says to the server: its WebSockets, and everything that refreshes its session.

export class Traffic {
  lastActivity = 0; // when a data frame or a request with a token last moved, in milliseconds
  log = [];
  loggedIn = new Set(); // live WebSockets on which the app has accepted a token

  constructor(page) {
    page.on('websocket', (socket) => this.#follow(socket));
    page.on('request', (request) => this.#note('request', request));
    page.on('requestfinished', (request) => this.#note('finished', request));
    page.on('console', (message) => this.#write(`console ${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => this.#write(`page error: ${error.stack ?? error}`));
  }

  // Lines of the log from `position` on that match.
  since(position, pattern) {
    return this.log.slice(position).filter((line) => pattern.test(line));
  }

  #follow(socket) {
    this.#write(`socket opened ${socket.url()}`);
    socket.on('close', () => {
      this.loggedIn.delete(socket);
      this.#write(`socket closed ${socket.url()}`);
    });
    socket.on('socketerror', (error) => this.#write(`socket error ${error}`));
    socket.on('framesent', ({ payload }) => this.#frame('sent', payload));
    socket.on('framereceived', ({ payload }) => {
      if (String(payload).includes('auth_success')) this.loggedIn.add(socket);
      this.#frame('received', payload);
    });
  }

  #frame(direction, payload) {
    const text = String(payload);
    this.#write(`frame ${direction}: ${text.replace(/("session_id"\s*:\s*")[^"]*/, '$1…').slice(0, 200)}`);
    // The goodbye of the proxy is no activity.
    if (!text.includes('session_terminated')) this.lastActivity = Date.now();
  }

  #note(what, request) {
    const carriesToken = 'session-id' in request.headers() || (request.postData() ?? '').includes('session_id');
    this.#write(`${what} ${request.method()} ${new URL(request.url()).pathname}${carriesToken ? ' with a token' : ''}`);
    if (carriesToken || request.url().endsWith('/api/login')) this.lastActivity = Date.now();
  }

  #write(line) {
    this.log.push(`${new Date().toISOString().slice(11, 23)} ${line}`);
  }
}
