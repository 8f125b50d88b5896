// An app behind the proxy, of which the test of the page needs little: a WebSocket on /ws that sends back what it is sent,
// and a page to open one from. It knows no timeout, and whatever token comes is welcome.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const ACCEPT = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'; // RFC 6455 §1.3

export class App {
  open = new Set(); // sockets
  #server;

  // Its address.
  async start() {
    this.#server = createServer((request, response) => {
      response.setHeader('Content-Type', 'text/html; charset=utf-8');
      response.end('<!doctype html><title>app</title><p>An app.');
    });
    this.#server.on('upgrade', (request, socket) => this.#upgrade(request, socket));
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  stop() {
    for (const socket of this.open) socket.destroy();
    this.#server?.close();
  }

  #upgrade(request, socket) {
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + ACCEPT).digest('base64');
    const head = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${accept}`];
    socket.write(`${head.join('\r\n')}\r\n\r\n`);
    this.open.add(socket);
    socket.on('close', () => this.open.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.on('data', (frame) => {
      // Text comes in one frame of less than 126 bytes: what the test sends.
      const [kind, length] = [frame[0] & 0x0f, frame[1] & 0x7f];
      if (kind === 8) return socket.end(Buffer.from([0x88, 0]));
      if (kind !== 1) return;
      const [mask, masked] = [frame.subarray(2, 6), frame.subarray(6, 6 + length)];
      const text = masked.map((byte, index) => byte ^ mask[index % 4]);
      socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
    });
  }
}
