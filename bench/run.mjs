// pnpm bench [-- --rounds 5 --scale 1 --only 'ten steps,serial' --profile <folder>]
// Alternates the workloads in rounds, and prints the median of each figure. Writes bench/results/latest.json.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { startStack } from './lib/stack.mjs';
import { median } from './lib/statistics.mjs';
import { workloads } from './lib/workloads.mjs';

const ONCE = ['suspended', 'idle'];
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    scale: { type: 'string', default: '1' },
    only: { type: 'string' },
    profile: { type: 'string' },
  },
});
const names = values.only === undefined ? Object.keys(workloads) : values.only.split(',').map((name) => name.trim());
for (const name of names)
  if (workloads[name] === undefined)
    throw new Error(`No workload '${name}'; there are ${Object.keys(workloads).join(', ')}.`);

const progress = (text) => process.stderr.isTTY && process.stderr.write(`\r${text}\u001b[K`);
const stack = await startStack({ profile: values.profile });
const figures = {};
try {
  const rounds = Number(values.rounds);
  for (let round = 0; round <= rounds; round++) {
    for (const name of names) {
      // Once, at the end: they leave PostgreSQL with something to clean up, or take long.
      if (ONCE.includes(name) && round !== rounds) continue;
      progress(`${round === 0 ? 'warm-up' : `round ${round} of ${rounds}`}: ${name}`);
      const result = await workloads[name](stack, Number(values.scale));
      if (round === 0) continue;
      for (const [figure, value] of Object.entries(result)) {
        figures[name] ??= {};
        figures[name][figure] ??= [];
        figures[name][figure].push(value);
      }
    }
  }
  progress('');
} finally {
  await stack.stop();
}

const table = new Table({
  head: ['workload', 'figure', 'median', 'lowest', 'highest'],
  style: { head: [], border: [] },
});
const shown = (value) => (value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(2));
const summary = {};
for (const [name, byFigure] of Object.entries(figures)) {
  for (const [figure, all] of Object.entries(byFigure)) {
    table.push([name, figure, shown(median(all)), shown(Math.min(...all)), shown(Math.max(...all))]);
    summary[name] = { ...summary[name], [figure]: { median: median(all), all } };
  }
}
console.log(table.toString());
const results = fileURLToPath(new URL('results/', import.meta.url));
mkdirSync(results, { recursive: true });
const machine = { node: process.version, cpus: cpus().length, model: cpus()[0]?.model };
writeFileSync(
  `${results}latest.json`,
  `${JSON.stringify({ at: new Date().toISOString(), machine, summary }, null, 2)}\n`,
);
