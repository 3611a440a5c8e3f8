import { randomBytes } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { urlOf } from '../support/database-url.js';
import { perdure, startPerdureProcess } from '../support/processes.js';

// Every test starts processes, which takes seconds when the machine is busy.
vi.setConfig({ testTimeout: 90_000 });

const EMPTY = `perdure_empty_${randomBytes(6).toString('hex')}`;

describe('what starts a part', () => {
  let admin: postgres.Sql;
  let taken: Server;
  let port: string;
  beforeAll(async () => {
    admin = postgres(inject('adminUrl'), { max: 1, onnotice: () => undefined });
    await admin.unsafe(`create database ${EMPTY}`);
    taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    port = String((taken.address() as { port: number }).port);
  });
  afterAll(async () => {
    taken.close();
    await admin.unsafe(`drop database ${EMPTY}`);
    await admin.end();
  });

  /** One line for people: no stack, and not the output of a library. */
  const failure = async (args: readonly string[]) => {
    const { exitCode, output } = await perdure(args);
    const lines = output.trim().split('\n');
    expect(output).not.toContain('    at ');
    return { exitCode, last: lines.at(-1) };
  };

  it.each([
    ['dev --ephemeral --port'],
    ['dev --ephemeral --http-port'],
    ['server --database-url postgres://x@127.0.0.1:9/x --grpc-port'],
    ['server --database-url postgres://x@127.0.0.1:9/x --grpc-port 0 --http-port'],
  ])('%s names a port that is in use, before it does anything else', async (command) => {
    const told = `error Port ${port} is taken on 127.0.0.1. Stop what listens there, or choose another port.`;
    expect(await failure([...command.split(' '), port])).toEqual({ exitCode: 2, last: told });
  });

  const urls = {
    empty: () => urlOf(inject('adminUrl'), EMPTY),
    nowhere: () => 'postgres://x:secret@127.0.0.1:9/x',
    noDatabase: () => urlOf(inject('adminUrl'), 'perdure_no_such_database'),
    noRole: () => {
      const url = new URL(inject('adminUrl'));
      url.username = 'perdure_no_such_role';
      return url.href;
    },
    noUrl: () => 'nonsense',
  };
  it.each([
    ['server', 'empty', 5, /schema version 0, and this build needs \d+\. Run `perdure migrate`/],
    ['server', 'nowhere', 4, /cannot be reached/],
    ['server', 'noDatabase', 2, /"perdure_no_such_database" does not exist/],
    ['reaper', 'noRole', 2, /perdure_no_such_role/],
    ['reaper', 'noUrl', 2, /postgres:\/\/role:password@host/],
    ['migrate', 'nowhere', 4, /cannot be reached/],
    ['migrate', 'noDatabase', 2, /"perdure_no_such_database" does not exist/],
    ['dev', 'noRole', 2, /perdure_no_such_role/],
  ] as const)('%s says in one sentence what is wrong with the database: %s', async (command, url, exitCode, told) => {
    const ports = command === 'server' ? ['--grpc-port', '0', '--http-port', '0', '--database-wait', '0s'] : [];
    const folder = command === 'dev' ? ['--ephemeral'] : [];
    const found = await failure([command, ...ports, ...folder, '--database-url', urls[url]()]);
    expect(found).toEqual({ exitCode, last: expect.stringMatching(told) });
    expect(found.last).not.toContain('secret');
  });

  it.each([
    ['run list --address nowhere', /must be host:port/],
    ['run start w -q q --input-file /no/such/file', /'\/no\/such\/file' cannot be read: there is no such file/],
    ['dev --data-folder /etc/passwd/x', /^error \/etc\/passwd\/x is below a path that is not a folder/],
    ['dev --port 70000', /help/],
    ['help nosuch', /Unknown command 'nosuch'/],
  ])('%s is a mistake of the user, with exit code 2', async (args, told) => {
    expect(await failure(args.split(' '))).toEqual({ exitCode: 2, last: expect.stringMatching(told) });
  });

  it('a server that still waits for its database ends with 0 on SIGTERM', async () => {
    const ports = ['--grpc-port', '0', '--http-port', '0'];
    const server = startPerdureProcess(['server', ...ports, '--database-url', urls.nowhere()]);
    await server.says(/waiting_for_database/, 30_000);
    server.child.kill('SIGTERM');
    expect(await server.ended()).toBe(0);
  });

  it('help of a part shows its options, in every form of the command', async () => {
    expect((await perdure(['help', 'server'])).output).toContain('--grpc-port');
    expect((await perdure(['reaper', '--help'])).output).toContain('--max-sleep');
  });
});

describe('perdure dev', () => {
  it('perdure dev finds free ports even when several start at once, prints its address, and keeps only what it prints', async () => {
    const devs = [1, 2].map(() => startPerdureProcess(['dev', '--ephemeral']));
    const running = await Promise.all(
      devs.map(async (dev) => {
        await dev.says(/Ctrl-C stops/, 90_000);
        const said = (pattern: RegExp) => pattern.exec(dev.output())?.[1] ?? '';
        return {
          dev,
          grpc: said(/gRPC +(\S+)/),
          http: said(/HTTP +http:\/\/(\S+)/),
          folder: said(/data +(\S+)/),
          log: said(/log +(\S+)/),
        };
      }),
    );
    expect(new Set(running.flatMap(({ grpc, http }) => [grpc, http])).size).toBe(4);
    for (const { dev, grpc, folder, log } of running) {
      if (grpc !== '127.0.0.1:7300') expect(dev.output()).toContain(`export PERDURE_ADDRESS=${grpc}`);
      expect(dev.output()).toMatch(/database +postgres:\/\/perdure:\S+@127\.0\.0\.1:\d+\/perdure/);
      expect(dev.output()).toContain('removes the data');
      expect(statSync(log).mode & 0o777).toBe(0o600);
      dev.child.kill('SIGINT');
      // npm passes on what the terminal has delivered already.
      dev.child.kill('SIGINT');
      expect(await dev.ended()).toBe(0);
      expect(existsSync(folder)).toBe(false);
    }
  }, 120_000);

  it('perdure dev logs JSON with level names and ISO times', async () => {
    const server = startPerdureProcess([
      'reaper',
      '--database-url',
      urlOf(inject('adminUrl'), inject('templateDatabase')),
    ]);
    await server.says(/reaper_started.*\n/, 30_000);
    await server.kill('SIGTERM');
    const [line] = server.output().split('\n');
    expect(JSON.parse(line as string)).toMatchObject({
      level: 'info',
      name: 'perdure-reaper',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
    });
  });
});
