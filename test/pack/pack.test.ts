/**
 * The packages as strangers get them: packed, installed with npm in a folder that knows nothing of this workspace, and used in
 * every documented way. `npm create perdure` makes the project that the rest is tried in.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { execute, mustExecute, packAll } from '../support/tarballs.js';
import { until } from '../support/until.js';

const DOCS = fileURLToPath(new URL('../../docs/your-project.md', import.meta.url));
/** Further versions of Node, from npm packages that hold its program. */
const NODES = [22, 24];

// About a minute on two idle cores; npm, tsc and friends take their time when others are busy beside them.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 300_000 });

let root: string;
let app: string;
let tarballs: ReadonlyMap<string, string>;
let nodes: readonly { readonly version: string; readonly program: string }[];
let dev: ChildProcess;
let devOutput = '';
let address: string;

const npm = (args: readonly string[], cwd = app) => mustExecute('npm', args, { cwd, timeoutMs: 250_000 });
const node = (args: readonly string[], program = process.execPath) =>
  execute(program, args, { cwd: app, env: { PERDURE_ADDRESS: address }, timeoutMs: 60_000 });

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'perdure-pack-'));
  // Root's PostgreSQL runs under another account, which must get to the project's folder.
  chmodSync(root, 0o755);
  app = join(root, 'app');
  const fetching = fetchNodes();
  tarballs = await packAll(join(root, 'tarballs'));
  await mustExecute('tar', ['-xzf', tarballs.get('create-perdure') as string, '-C', root], { cwd: root });
  await mustExecute(process.execPath, [join(root, 'package/bin/create-perdure.js'), 'app'], { cwd: root });
  fromTarballs(join(app, 'package.json'));
  for (const [path, text] of docsFiles()) {
    mkdirSync(dirname(join(app, path)), { recursive: true });
    writeFileSync(join(app, path), text);
  }
  await npm(['install', '--no-audit', '--no-fund', '--prefer-offline']);
  dev = spawn('npm', ['run', 'dev'], {
    cwd: app,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1' },
    // A group of its own, as a terminal makes it: Ctrl-C goes to all of it.
    detached: true,
  });
  for (const stream of [dev.stdout, dev.stderr]) stream?.on('data', (chunk) => (devOutput += chunk));
  address = await until('npm run dev to say its address', () => /gRPC +(\S+)/.exec(devOutput)?.[1], 60_000);
  nodes = await fetching;
});

afterAll(async () => {
  if (dev?.exitCode === null && dev.signalCode === null) {
    process.kill(-(dev.pid as number), 'SIGINT');
    await once(dev, 'exit');
  }
  rmSync(root, { recursive: true, force: true });
});

/** Makes npm take our packages from the tarballs, wherever they are asked for. */
function fromTarballs(file: string): void {
  const project = JSON.parse(readFileSync(file, 'utf8'));
  const overrides = Object.fromEntries([...tarballs].map(([name, tarball]) => [name, `file:${tarball}`]));
  project.dependencies.perdure = overrides.perdure;
  project.overrides = overrides;
  project.devDependencies.esbuild = '^0.28.0';
  writeFileSync(file, JSON.stringify(project));
}

/** The code blocks of the documentation that begin with their file's name. */
function docsFiles(): readonly (readonly [string, string])[] {
  const blocks = readFileSync(DOCS, 'utf8').matchAll(/```\w+\n\/\/ (\S+\.\w+)\n(.*?)```/gs);
  return [...blocks].map(([, path, text]) => [path as string, text as string]);
}

async function fetchNodes(): Promise<typeof nodes> {
  const here = { version: process.versions.node, program: process.execPath };
  const folder = join(root, 'nodes');
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{}');
  const names = NODES.map((major) => `node${major}@npm:node-${process.platform}-${process.arch}@${major}`);
  const { exitCode, output } = await execute(
    'npm',
    ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline', ...names],
    {
      cwd: folder,
      timeoutMs: 250_000,
    },
  );
  if (exitCode !== 0) {
    console.warn(`Only Node ${here.version} is tried; the others cannot be had here: ${output.slice(0, 300)}`);
    return [here];
  }
  return [
    here,
    ...NODES.map((major) => ({ version: String(major), program: join(folder, `node_modules/node${major}/bin/node`) })),
  ];
}

describe('the tarballs', () => {
  it('the tarballs have code, README and LICENSE, and nothing that is useful only in this repository', async () => {
    expect(tarballs.size).toBeGreaterThanOrEqual(12);
    for (const [name, tarball] of tarballs) {
      const files = (await mustExecute('tar', ['-tzf', tarball], { cwd: root })).trim().split('\n');
      expect([name, files]).toEqual([name, expect.arrayContaining(['package/README.md', 'package/LICENSE'])]);
      const odd = files.filter(
        (file) => !/^package\/(template\/|(README\.md|LICENSE|package\.json)$|(dist|bin)\/.*\.(js|d\.ts)$)/.test(file),
      );
      expect([name, odd]).toEqual([name, []]);
    }
  });

  it('the packages name their repository and dependencies, and no workspace', () => {
    for (const name of tarballs.keys()) {
      const text = readFileSync(join(app, 'node_modules', name, 'package.json'), 'utf8');
      expect(JSON.parse(text)).toMatchObject({
        name,
        license: 'Apache-2.0',
        engines: { node: '>=20.19' },
        repository: { type: 'git', url: expect.stringContaining('git+https://') },
        homepage: expect.stringContaining('https://'),
        bugs: { url: expect.stringContaining('https://') },
        keywords: expect.arrayContaining(['durable-execution']),
      });
      expect(text).not.toContain('workspace:');
    }
  });
});

describe('a project made by npm create perdure', () => {
  it('a new project runs its workflow with npm run dev', async () => {
    await until('the first run to complete', () => /completed with: Hello, world!/.test(devOutput), 60_000);
    expect(devOutput).toContain('Delivered: Hello, world!');
    expect(existsSync(join(app, '.perdure/perdure.log'))).toBe(true);
  });

  it('a new project passes its tests with npm test', async () => {
    expect(await npm(['test'])).toMatch(/Tests +2 passed/);
  });

  it('a new project starts runs from another terminal, and the command line sees them', async () => {
    expect(
      await mustExecute('npm', ['run', 'greet', '--', 'Ada'], { cwd: app, env: { PERDURE_ADDRESS: address } }),
    ).toContain('Hello, Ada!');
    const list = await mustExecute('npx', ['perdure', 'run', 'list', '-o', 'json'], {
      cwd: app,
      env: { PERDURE_ADDRESS: address },
    });
    expect(JSON.parse(list).length).toBeGreaterThanOrEqual(2);
  });

  it('a new project builds to plain JavaScript', async () => {
    await npm(['run', 'build']);
    expect((await node(['dist/greet.js', 'Build'])).output).toContain('Hello, Build!');
  });

  it.each([
    ['nodenext', 'nodenext'],
    ['node16', 'node16'],
    ['esnext', 'bundler'],
  ])('is type-checked with module %s and moduleResolution %s, libraries included', async (module, resolution) => {
    const args = [
      '--noEmit',
      '--module',
      module,
      '--moduleResolution',
      resolution,
      '--strict',
      '--exactOptionalPropertyTypes',
    ];
    const files = [
      'src/dev.ts',
      'src/worker.ts',
      'src/greet.ts',
      'test/greeting.test.ts',
      'app/api/greetings/route.ts',
      'app/perdure.provider.ts',
    ];
    await mustExecute('npx', ['tsc', '--ignoreConfig', '--target', 'es2023', '--types', 'node', ...args, ...files], {
      cwd: app,
    });
  });
});

describe('the packages', () => {
  it('the packages can be required, imported and executed by every supported version of Node', async () => {
    const script = `
      import * as sdk from 'perdure';
      import * as server from 'perdure/server';
      import * as dev from 'perdure/dev';
      import * as testing from 'perdure/testing';
      import * as ofSdk from '@perdure/worker-sdk/testing';
      console.log(typeof sdk.Worker, typeof server.startServer, typeof dev.startDev, testing.createTestEnvironment === ofSdk.createTestEnvironment);
      await import('./client.cjs');`;
    for (const { version, program } of nodes) {
      const { exitCode, output } = await node(['--input-type=module', '-e', script], program);
      expect([version, exitCode, output]).toEqual([version, 0, 'function function function true\nHello, CommonJS!\n']);
      const cli = await node(['node_modules/perdure/bin/perdure.js', '--version'], program);
      expect([version, cli]).toEqual([version, { exitCode: 0, output: expect.stringMatching(/^\d+\.\d+\.\d+/) }]);
    }
  });

  it('the packages can be bundled into one file, as CommonJS and as an ES module', async () => {
    await mustExecute(process.execPath, ['bundle.mjs'], { cwd: app });
    // Without the packages: the bundle stands alone.
    for (const file of ['client.cjs', 'greet.mjs']) {
      const alone = join(root, file);
      renameSync(join(app, 'bundled', file), alone);
      const { exitCode, output } = await execute(process.execPath, [alone, 'Bundle'], {
        cwd: root,
        env: { PERDURE_ADDRESS: address },
      });
      expect([file, exitCode, output]).toEqual([file, 0, expect.stringMatching(/Hello, (CommonJS|Bundle)!/)]);
    }
  });

  it('perdure init adds Perdure to a CommonJS project and overwrites nothing', async () => {
    const project = join(root, 'existing');
    mkdirSync(join(project, 'src'), { recursive: true });
    const before = { name: 'existing', type: 'commonjs', scripts: { dev: 'mine' }, dependencies: { tsx: '*' } };
    writeFileSync(join(project, 'package.json'), JSON.stringify(before, null, 4));
    writeFileSync(join(project, 'src/worker.mts'), '// mine');
    symlinkSync(join(app, 'node_modules'), join(project, 'node_modules'));
    const said = await mustExecute(join(project, 'node_modules/.bin/perdure'), ['init'], { cwd: project });
    expect(said).toMatch(/kept +package.json: scripts dev/);
    expect(said).toMatch(/kept +src\/worker.mts/);
    expect(said).toMatch(/made +src\/greeting.mts/);
    const text = readFileSync(join(project, 'package.json'), 'utf8');
    expect(text).toContain('\n    "name"');
    expect(JSON.parse(text)).toMatchObject({ ...before, scripts: { dev: 'mine', test: 'vitest run' } });
    expect(readFileSync(join(project, 'src/worker.mts'), 'utf8')).toBe('// mine');
    const greeted = await execute('npx', ['tsx', 'src/greet.mts', 'Init'], {
      cwd: project,
      env: { PERDURE_ADDRESS: address },
    });
    expect(greeted).toEqual({ exitCode: 0, output: 'Hello, Init!\n' });
    expect(await mustExecute(join(project, 'node_modules/.bin/perdure'), ['init'], { cwd: project })).not.toMatch(
      /made|added/,
    );
  });

  it('npm create perdure refuses a folder that is not empty', async () => {
    const again = await execute(process.execPath, [join(root, 'package/bin/create-perdure.js'), 'app'], { cwd: root });
    expect(again).toEqual({ exitCode: 2, output: expect.stringContaining('is not empty') });
  });

  it('perdure dev stops with one Ctrl-C, which npm and the terminal both deliver', async () => {
    process.kill(-(dev.pid as number), 'SIGINT');
    await once(dev, 'exit');
    await until('PostgreSQL to have stopped', () => !existsSync(join(app, '.perdure/postgres/data/postmaster.pid')));
    const log = await until('the log to end', () =>
      /server_stopped/.exec(readFileSync(join(app, '.perdure/perdure.log'), 'utf8')),
    );
    expect(log).toBeTruthy();
  });

  it('clients and workers work without the optional parts, and a command names the missing part', async () => {
    for (const part of ['server', 'embedded-postgres'])
      rmSync(join(app, 'node_modules/@perdure', part), { recursive: true });
    expect((await node(['-e', "console.log(typeof require('perdure').Worker)"])).output).toBe('function\n');
    expect(
      (await node(['node_modules/perdure/bin/perdure.js', 'run', 'list', '--address', '127.0.0.1:9'])).exitCode,
    ).toBe(4);
    const script =
      "import('perdure/testing').then((kit) => kit.createTestEnvironment()).catch((error) => console.log(error.message))";
    expect((await node(['-e', script])).output).toContain('npm install --save-dev @perdure/config@');
    for (const command of ['server', 'dev']) {
      const { exitCode, output } = await node(['node_modules/perdure/bin/perdure.js', command]);
      expect([exitCode, output]).toEqual([2, expect.stringContaining('npm install @perdure/server@')]);
    }
  });
});
