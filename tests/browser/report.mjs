// Runs steps in order and counts them. A step that fails ends the run: those after it stand on what it did not reach.

export class Report {
  #steps = [];

  step(name, action) {
    this.#steps.push({ name, action });
  }

  // Calls onFailure(error) once, where a step fails. True if all passed.
  async run(onFailure) {
    let passed = 0;
    let failed = false;
    for (const { name, action } of this.#steps) {
      if (failed) {
        console.log(`not reached  ${name}`);
        continue;
      }
      const start = Date.now();
      try {
        const note = await action();
        passed += 1;
        console.log(`ok           ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)${note ? `: ${note}` : ''}`);
      } catch (error) {
        failed = true;
        console.log(`FAILED       ${name}\n${indent(error.stack ?? error)}`);
        await onFailure(error);
      }
    }
    console.log(`${passed} passed, ${this.#steps.length - passed} failed`);
    return !failed;
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
