// Starts idlegate on free ports and ends it again, by its process id.
import { spawn } from 'node:child_process';

const START = 15_000;
const STOP = 5_000;

export class Program {
  output = '';
  #process;

  // Runs it until what it prints matches, and returns the match.
  async start(binary, args, ready, env = {}) {
    this.#process = spawn(binary, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Error(`${binary} ${args.join(' ')}: ${why}\n${this.output}`));
      const timer = setTimeout(() => fail(`not ready within ${START / 1000} s`), START);
      const read = (chunk) => {
        this.output += chunk;
        const match = this.output.match(ready);
        if (match) {
          clearTimeout(timer);
          resolve(match);
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

export class Demo extends Program {
  // The URL it prints.
  async start(binary) {
    const [url] = await super.start(binary, ['demo', '--listen', '127.0.0.1:0'], /http:\/\/127\.0\.0\.1:\d+\//);
    return url;
  }
}
