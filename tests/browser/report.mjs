// Runs steps in order and counts them. A step that fails ends the run, since those after it stand on what it did not reach;
// but for one with `goOn`.

export class Report {
  #steps = [];
  #say;

  constructor(say = console.log) {
    this.#say = say;
  }

  step(name, action, { goOn = false } = {}) {
    this.#steps.push({ name, action, goOn });
  }

  // Calls onFailure(error) where a step fails. True if all passed.
  async run(onFailure) {
    let passed = 0;
    let ended = false;
    for (const { name, action, goOn } of this.#steps) {
      if (ended) {
        this.#say(`not reached  ${name}`);
        continue;
      }
      const start = Date.now();
      try {
        const note = await action();
        passed += 1;
        this.#say(`ok           ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)${note ? `: ${note}` : ''}`);
      } catch (error) {
        ended = !goOn;
        this.#say(`FAILED       ${name}\n${indent(error.stack ?? error)}`);
        await onFailure(error);
      }
    }
    this.#say(`${passed} passed, ${this.#steps.length - passed} failed`);
    return passed === this.#steps.length;
  }
}

export const indent = (text) => String(text).replace(/^/gm, '    ');

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// Asks again until `ready(value)`; fails with the last value seen.
export async function eventually(what, seconds, ask, ready) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await ask();
    if (ready(value)) return value;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}; last seen: ${JSON.stringify(value)}`);
    await sleep(0.1);
  }
}
