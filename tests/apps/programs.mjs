// An app, in a process group of its own, and what it says.
import { spawn } from 'node:child_process';

import { Program } from '../browser/program.mjs';
import { sleep } from '../browser/report.mjs';
import { ask } from './wire.mjs';

const START = 60; // seconds: some load much
const STOP = 5;

export class App {
  output = '';
  #process;

  // Runs it until something answers at `url`.
  async start({ command, args, env = {}, cwd }, url) {
    // Apart from this group: some start processes of their own.
    this.#process = spawn(command, args, { cwd, env: { ...process.env, ...env }, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let problem;
    this.#process.once('error', (error) => (problem = error.message));
    this.#process.once('exit', (code, signal) => (problem ??= `ended with ${code ?? signal}`));
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.on('data', (chunk) => (this.output = (this.output + chunk).slice(-20_000)));
    }
    const deadline = Date.now() + START * 1000;
    while (!problem) {
      const answer = await ask(url).catch(() => null);
      if (answer) return;
      if (Date.now() > deadline) problem = `does not answer within ${START} s`;
      await sleep(0.2);
    }
    throw new Error(`${command} ${args.join(' ')}: ${problem}\n${this.output}`);
  }

  async stop() {
    const child = this.#process;
    if (!child?.pid) return;
    const ended = child.exitCode === null && child.signalCode === null ? new Promise((resolve) => child.once('exit', resolve)) : null;
    signal(child.pid, 'SIGTERM');
    await Promise.race([ended, sleep(STOP)]);
    // Also what outlived it.
    signal(child.pid, 'SIGKILL');
  }
}

function signal(group, name) {
  try {
    process.kill(-group, name);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

// idlegate with a shipped example, and what it decided.
export class Idlegate extends Program {
  url;
  #admin;

  async start(binary, { config, upstream, timeout, audit, env = {} }) {
    const settings = {
      NO_COLOR: '1',
      IDLEGATE_LISTEN: '127.0.0.1:0',
      IDLEGATE_UPSTREAM: upstream,
      IDLEGATE_IDLE_TIMEOUT: `${timeout}s`,
      IDLEGATE_ADMIN_LISTEN: '127.0.0.1:0',
      IDLEGATE_AUDIT: audit,
      ...env,
    };
    const ready = /admin API and page at (http:\S+)[^]*listening on (http:\S+)/;
    [, this.#admin, this.url] = await super.start(binary, ['run', '--config', config], ready, settings);
  }

  // The live sessions, the longest idle first.
  async sessions() {
    return JSON.parse((await ask(`${this.#admin}/sessions`)).body).sessions;
  }

  async session(id) {
    return JSON.parse((await ask(`${this.#admin}/sessions/${id}`)).body);
  }
}
