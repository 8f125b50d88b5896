// Starts `idlegate demo` on a free port and ends it again, by its process id.
import { spawn } from 'node:child_process';

const START = 15_000;
const STOP = 5_000;

export class Demo {
  output = '';
  #process;

  // The URL it prints.
  async start(binary) {
    this.#process = spawn(binary, ['demo', '--listen', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'pipe'] });
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Error(`${binary} demo: ${why}\n${this.output}`));
      const timer = setTimeout(() => fail(`no URL within ${START / 1000} s`), START);
      const read = (chunk) => {
        this.output += chunk;
        const url = this.output.match(/http:\/\/127\.0\.0\.1:\d+\//)?.[0];
        if (url) {
          clearTimeout(timer);
          resolve(url);
        }
      };
      this.#process.stdout.on('data', read);
      this.#process.stderr.on('data', read);
      this.#process.once('error', (error) => fail(error.message));
      this.#process.once('exit', (code, signal) => fail(`ended with ${code ?? signal}`));
    });
  }

  async stop() {
    const child = this.#process;
    if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    const impatience = setTimeout(() => child.kill('SIGKILL'), STOP);
    await ended;
    clearTimeout(impatience);
  }
}
