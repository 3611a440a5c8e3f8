import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '@perdure/embedded-postgres';
import { checkImport, FlightTable, importWorkflow, TASK_QUEUE } from '@perdure/example-flight-import';
import { migrate } from '@perdure/store';
import { Client } from '@perdure/worker-sdk';
import connect from 'postgres';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { freePort, startPerdureProcess, startProcess, type TestProcess } from '../support/processes.js';
import { Seeded } from '../support/seeded.js';
import { until } from '../support/until.js';

const ROWS_PER_CHUNK = 250;
/** Chance decides when each part dies; the seed repeats its decisions. */
const SEED = Number(process.env.PERDURE_TEST_SEED ?? Date.now() % 2 ** 31);

/** The flight import, with every part a process of its own, and every part killed. */
describe('kill -9 of anything', () => {
  let folder: string;
  let postgres: EmbeddedPostgres;
  let addresses: string[];
  const parts = new Map<string, { process: TestProcess; start: () => TestProcess }>();

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'perdure-chaos-'));
    chmodSync(folder, 0o711);
    postgres = await startEmbeddedPostgres({ folder: join(folder, 'postgres') });
    await migrate({ url: postgres.url });
    const ports = [await freePort(), await freePort(), await freePort(), await freePort()] as const;
    addresses = [`127.0.0.1:${ports[0]}`, `127.0.0.1:${ports[1]}`];
    const env = { DATABASE_URL: postgres.url, PERDURE_LOG_LEVEL: 'error' };
    const add = (name: string, start: () => TestProcess) => parts.set(name, { process: start(), start });
    const server = (grpc: number, http: number) => () =>
      startPerdureProcess(['server', '--grpc-port', String(grpc), '--http-port', String(http)], env);
    add('server 1', server(ports[0], ports[2]));
    add('server 2', server(ports[1], ports[3]));
    add('reaper', () => startPerdureProcess(['reaper', '--server-grace', '1s'], env));
    add('worker', () =>
      startProcess('examples/flight-import/dist/worker.js', [], {
        PERDURE_ADDRESS: addresses.join(','),
        FLIGHTS_DATABASE_URL: postgres.url,
        PERDURE_LOG_LEVEL: 'error',
      }),
    );
  });
  afterAll(async () => {
    await Promise.all([...parts.values()].map(({ process }) => process.kill('SIGKILL')));
    await postgres.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('worker, servers, reaper and PostgreSQL are killed at random; the import ends with the exact result', async () => {
    console.log(`PERDURE_TEST_SEED=${SEED}`);
    const chance = new Seeded(SEED);
    const table = new FlightTable(postgres.url);
    // The import gets one chunk further with each kill, so that it cannot end before the last one.
    await table.create();
    const sql = connect(postgres.url, { max: 1, onnotice: () => undefined, connect_timeout: 2 });
    await sql.unsafe(`
      create table chunks_allowed (n integer not null);
      insert into chunks_allowed values (1);
      create function check_chunk() returns trigger language plpgsql as $$ begin
        if new.row_number >= (select n from chunks_allowed) * ${ROWS_PER_CHUNK} then raise exception 'not yet'; end if;
        return new;
      end $$;
      create trigger check_chunk before insert on flights for each row execute function check_chunk()`);
    const allow = (chunks: number) =>
      until('PostgreSQL to take it', () =>
        sql`update chunks_allowed set n = ${chunks} returning n`.then(
          ([row]) => row?.n === chunks,
          () => false,
        ),
      );
    const client = new Client({ address: addresses.join(',') });
    const handle = await client.start(
      importWorkflow(table),
      { rowsPerChunk: ROWS_PER_CHUNK },
      { taskQueue: TASK_QUEUE },
    );
    const victims = [
      'worker',
      'server 1',
      'reaper',
      'postgres',
      'server 2',
      'worker',
      'postgres',
      'server 1',
      'worker',
      'server 2',
      'reaper',
      'postgres',
      'worker',
    ];
    const result = handle.result({ timeout: '160s' });
    for (const [n, victim] of victims.entries()) {
      await allow(n + 1);
      await delay(200 + chance.below(600));
      if (victim === 'postgres') {
        process.kill(postgres.pid, 'SIGKILL');
        const { port } = postgres;
        await postgres.stop();
        postgres = await startEmbeddedPostgres({ folder: join(folder, 'postgres'), port });
      } else {
        const part = parts.get(victim);
        if (part === undefined) throw new Error(victim);
        await part.process.kill('SIGKILL');
        part.process = part.start();
      }
    }
    await allow(1_000_000);
    await checkImport(table, await result);
    await sql.end();
    await table.close();
    client.close();
  }, 240_000);
});
