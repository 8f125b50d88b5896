// Real apps, unmodified, behind idlegate with the examples that are shipped for them.
//
//   node tests/apps/run.mjs target/release/idlegate django flask…
//
// tests/run apps installs them first. Pictures of what a person sees after the cut go to target/apps. VERBOSE=1 says more
// about what failed; CHROMIUM=<path> names another browser.
import { tryApp } from './scenario.mjs';

const AT_ONCE = 3; // they wait most of the time

const [binary, ...names] = process.argv.slice(2);
if (!binary || !names.length) {
  console.error('usage: node run.mjs <path of idlegate> <app>...');
  process.exit(2);
}

// A page that is waited for where nobody waits any more ends no test, and must leave no program behind.
process.on('unhandledRejection', (error) => console.log(`unhandled: ${error.stack ?? error}`));

// Signals end this process only after what it started has ended.
let ending = false;
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => (ending = true));

const waiting = [...names];
const failed = [];

async function work() {
  while (waiting.length && !ending) {
    const name = waiting.shift();
    const lines = [];
    const start = Date.now();
    const passed = await import(`./${name}/scenario.mjs`)
      .then(({ default: scenario }) => tryApp(name, scenario, binary, (line) => lines.push(line)))
      .catch((error) => lines.push(error.stack ?? error) && false);
    if (!passed) failed.push(name);
    console.log(`\n-- ${name} (${((Date.now() - start) / 1000).toFixed(0)} s)\n${lines.join('\n')}`);
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, work));
console.log(`\n${names.length - failed.length} of ${names.length} apps passed${failed.length ? `; failed: ${failed.join(' ')}` : ''}`);
process.exitCode = failed.length || ending ? 1 : 0;
