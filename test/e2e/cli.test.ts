import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { workflow } from '@perdure/worker-sdk';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { freePort, perdure as run, startPerdureProcess } from '../support/processes.js';
import { until } from '../support/until.js';

// Each command is a process of its own.
describe('perdure on the command line', { timeout: 120_000 }, () => {
  let perdure: TestPerdure;
  const cli = (args: string, stdin = '') =>
    run(
      args.match(/'[^']*'|\S+/g)?.map((arg) => arg.replaceAll("'", '')) ?? [],
      { PERDURE_ADDRESS: perdure.server.grpcAddress },
      stdin,
    );
  beforeAll(async () => {
    perdure = await startPerdure();
    const greet = workflow('greet', async (ctx, name: string) => ctx.step('compose', () => `Hello ${name}`));
    const fail = workflow('fail', async (ctx) => {
      await ctx.step(
        'broken',
        () => {
          throw Object.assign(new TypeError('no good'), { code: 'E_BAD' });
        },
        { retry: { maxAttempts: 2, initial: 1 } },
      );
    });
    const nap = workflow('nap', async (ctx) => {
      await ctx.sleep('long', '1h');
    });
    await perdure.startWorker({ taskQueue: 'q', workflows: [greet, fail, nap] });
  });
  afterAll(() => perdure.stop());

  const startOne = async (type: string, more = '') =>
    (await cli(`run start ${type} -q q -o ids ${more}`)).output.trim();

  it('run start --wait starts a run, waits for it and prints its output', async () => {
    const { exitCode, output } = await cli(`run start greet -q q --input '"you"' --wait`);
    expect([exitCode, output.trim()]).toEqual([0, "'Hello you'"]);
    const json = await cli(`run start greet -q q --input '"you"' --wait -o json`);
    expect(JSON.parse(json.output)).toMatchObject({ value: 'Hello you' });
  });

  it('a failed run causes exit code 1 and is printed with its error and attempts', async () => {
    const id = await startOne('fail');
    const { exitCode, output } = await cli(`run result ${id}`);
    expect(exitCode).toBe(1);
    expect(output).toContain('TypeError [E_BAD]: no good');
    const attempts = await cli(`step attempts ${id} broken`);
    expect(attempts.output.match(/FAILED/g)).toHaveLength(2);
  });

  it('run cancel and run terminate also read ids from stdin', async () => {
    const ids = [await startOne('nap'), await startOne('nap')];
    await until(
      'both to sleep',
      async () => (await cli('run list --type nap --status sleeping -o ids')).output.trim().split('\n').length === 2,
    );
    expect((await cli(`run describe ${ids[0]}`)).output).toMatch(/sleeps in 'long'; it wakes in/);
    expect((await cli('run cancel - --reason enough', ids.join('\n'))).exitCode).toBe(0);
    for (const id of ids) expect((await cli(`run result ${id}`)).output).toContain('CANCELLED');
    const third = await startOne('nap');
    expect((await cli(`run terminate ${third}`)).output).toContain('TERMINATED');
    expect((await cli(`run cancel ${third}`)).exitCode).toBe(5);
  });

  it('run delete deletes ended runs, also with ids from stdin, and refuses open ones without stopping', async () => {
    const ended = [await startOne('nap'), await startOne('nap')];
    for (const id of ended) await cli(`run terminate ${id}`);
    const open = await startOne('nap');
    expect((await cli(`run delete ${open}`)).exitCode).toBe(5);
    const { exitCode, output } = await cli('run delete -', [open, ...ended].join('\n'));
    expect(exitCode).toBe(5);
    for (const id of ended) {
      expect(output).toContain(`${id} deleted`);
      expect((await cli(`run get ${id}`)).exitCode).toBe(3);
    }
    expect((await cli(`run delete ${ended[0]}`)).exitCode).toBe(3);
    expect((await cli(`run get ${open}`)).exitCode).toBe(0);
    await cli(`run terminate ${open}`);
    expect((await cli(`run delete ${open} -o json`)).output).toContain('DELETED');
  });

  it.each([
    ['run get nosuch', 3],
    ['run lst', 2],
    ['--address 127.0.0.1:9 run list', 4],
    ['--help', 0],
    ['migrate', 2],
    ['server', 2],
    ['server --grpc-port 99999 --database-url x', 2],
  ])('%s ends with exit code %i', async (args, expected) => {
    const { exitCode, output } = await cli(args);
    expect([exitCode, output]).toEqual([expected, output]);
    expect(output).not.toContain('    at ');
  });

  it('a mistyped command gets a suggestion', async () => {
    expect((await cli('run lisst')).output).toContain('Did you mean list?');
  });

  it('migrate says what it did', async () => {
    const { exitCode, output } = await cli(`migrate --database-url ${perdure.database.url}`);
    expect([exitCode, output]).toEqual([0, expect.stringContaining('up to date')]);
    expect((await cli('migrate --database-url postgres://x:secret@127.0.0.1:9/x')).exitCode).toBe(4);
  });

  it('dev starts everything, keeps data over kill -9, and stops cleanly on Ctrl-C', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'perdure-dev-'));
    const { chmodSync } = await import('node:fs');
    chmodSync(folder, 0o711);
    const args = [
      'dev',
      '--data-folder',
      folder,
      '--port',
      String(await freePort()),
      '--http-port',
      String(await freePort()),
    ];
    const first = startPerdureProcess(args);
    const address = await first.says(/gRPC\s+(\S+)/, 60_000);
    const env = { PERDURE_ADDRESS: address };
    const { output: id } = await run(['run', 'start', 'w', '-q', 'q', '-o', 'ids'], env);
    await first.kill('SIGKILL');

    const second = startPerdureProcess(args);
    await second.says(/is running/, 60_000);
    expect((await run(['run', 'get', id.trim()], env)).output).toContain('PENDING');
    const third = startPerdureProcess(['dev', '--data-folder', folder]);
    expect(await third.ended()).toBe(2);
    expect(third.output()).toContain('in use by process');

    second.child.kill('SIGINT');
    expect(await second.ended()).toBe(0);
    const postgresPid = /^(\d+)/.exec(
      existsSync(join(folder, 'postgres/data/postmaster.pid'))
        ? readFileSync(join(folder, 'postgres/data/postmaster.pid'), 'utf8')
        : '',
    );
    expect(postgresPid).toBeNull();
    rmSync(folder, { recursive: true, force: true });
  }, 120_000);
});
