// Requests beside the browser: a dead token as a program sends it.
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { request } from 'node:http';

const PATIENCE = 5000;

// A port that is free now.
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// The status of an answer, its body and where it redirects.
export function ask(url, { method = 'GET', headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, agent: false, timeout: PATIENCE }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode, location: response.headers.location, body: Buffer.concat(chunks).toString() }),
      );
      response.on('error', reject);
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${PATIENCE / 1000} s: ${method} ${url}`)));
    sent.on('error', reject);
    sent.end(body);
  });
}

// Opens a WebSocket, sends `messages`, and tells what came within `wait` ms: { status, messages, close }.
export function handshake(url, { headers = {}, messages = [], wait = 3000 } = {}) {
  const upgrade = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    ...headers,
  };
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers: upgrade, agent: false, timeout: PATIENCE });
    sent.on('response', (response) => {
      response.resume();
      resolve({ status: response.statusCode, messages: [], close: null });
    });
    sent.on('upgrade', (response, socket, head) => {
      const end = () => {
        clearTimeout(timer);
        socket.destroy();
        resolve({ status: 101, ...frames(received) });
      };
      let received = head;
      const timer = setTimeout(end, wait);
      socket.on('data', (chunk) => (received = Buffer.concat([received, chunk])));
      socket.on('close', end);
      socket.on('error', end);
      for (const message of messages) socket.write(masked(message));
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${PATIENCE / 1000} s: WebSocket ${url}`)));
    sent.on('error', reject);
    sent.end();
  });
}

// A text message of at most 64 KiB.
function masked(text) {
  const [payload, mask] = [Buffer.from(text), randomBytes(4)];
  const length = payload.length < 126 ? [0x80 | payload.length] : [0xfe, payload.length >> 8, payload.length & 0xff];
  return Buffer.concat([Buffer.from([0x81, ...length]), mask, payload.map((byte, index) => byte ^ mask[index % 4])]);
}

// The messages of a server, and the code of its Close.
function frames(bytes) {
  const messages = [];
  let close = null;
  let at = 0;
  while (at + 2 <= bytes.length) {
    const kind = bytes[at] & 0x0f;
    let length = bytes[at + 1] & 0x7f;
    at += 2;
    if (length === 126) {
      length = bytes.readUInt16BE(at);
      at += 2;
    } else if (length === 127) {
      length = Number(bytes.readBigUInt64BE(at));
      at += 8;
    }
    const payload = bytes.subarray(at, at + length);
    at += length;
    if (kind === 8) close = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
    else if (kind < 8) messages.push(kind === 2 ? payload.toString('hex') : payload.toString());
  }
  return { messages, close };
}
