// Runs tests again and again while other processes keep every core busy, to find those that depend on the machine's speed.
//   pnpm test:repeat 5                     the whole suite, five rounds
//   pnpm test:repeat 20 test/conformance   what vitest is to run; its options may be given too
// Stops at the first round that fails, with its output. Build first.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const [roundsText, ...what] = process.argv.slice(2);
const rounds = Number(roundsText);
if (!Number.isInteger(rounds) || rounds < 1) {
  console.error(
    `Expected a number of rounds, 1 or more; got ${roundsText ?? 'none'}. Usage: pnpm test:repeat N [files...]`,
  );
  process.exit(2);
}

const busy = Array.from({ length: availableParallelism() }, () =>
  spawn(
    process.execPath,
    [
      '-e',
      "process.once('disconnect', () => process.exit()); const spin = () => { const untilMs = Date.now() + 100; while (Date.now() < untilMs); setImmediate(spin); }; spin();",
    ],
    {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    },
  ),
);
process.exitCode = await repeat();
for (const child of busy) child.kill('SIGKILL');

async function repeat() {
  for (let round = 1; round <= rounds; round++) {
    const beganMs = performance.now();
    const { code, output } = await runTests();
    const seconds = ((performance.now() - beganMs) / 1_000).toFixed(0);
    const counts = /^\s*Tests\s+(.*)$/m.exec(output)?.[1] ?? `vitest ended with ${code}`;
    if (code !== 0) {
      console.log(output);
      console.log(`round ${round} of ${rounds}: FAILED after ${seconds} s: ${counts}`);
      return 1;
    }
    console.log(`round ${round} of ${rounds}: passed in ${seconds} s: ${counts}`);
  }
  return 0;
}

function runTests() {
  return new Promise((resolve) => {
    const vitest = spawn(process.execPath, [`${ROOT}node_modules/vitest/vitest.mjs`, 'run', ...what], {
      cwd: ROOT,
      env: { ...process.env, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [vitest.stdout, vitest.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
      });
    }
    vitest.once('close', (code) => resolve({ code, output }));
  });
}
