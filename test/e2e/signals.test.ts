import { Client, type RunHandle } from '@perdure/worker-sdk';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collector, NAMES } from '../programs/collector.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { freePort, startPerdureProcess, startProcess, type TestProcess } from '../support/processes.js';
import { Seeded } from '../support/seeded.js';

/** PERDURE_TEST_SIGNALS for more: 100,000 take some minutes. */
const SIGNALS = Number(process.env.PERDURE_TEST_SIGNALS ?? 4_000);
const RUNS = Math.max(20, SIGNALS / 500);
const PER_NAME = Math.ceil(SIGNALS / RUNS / NAMES.length);
const SEED = Number(process.env.PERDURE_TEST_SEED ?? Date.now() % 2 ** 31);
const TASK_QUEUE = 'collectors';
const KILLS = 8;

/** Signals in a random order of runs, to runs that wait for them or do not yet, while workers, servers and the reaper are killed. */
describe('signals while everything is killed', () => {
  let database: TestDatabase;
  let client: Client;
  const parts = new Map<string, { process: TestProcess; start: () => TestProcess }>();

  beforeAll(async () => {
    database = await createDatabase();
    const ports = [await freePort(), await freePort(), await freePort(), await freePort()] as const;
    const addresses = [`127.0.0.1:${ports[0]}`, `127.0.0.1:${ports[1]}`];
    const env = { DATABASE_URL: database.url, PERDURE_LOG_LEVEL: 'error' };
    const add = (name: string, start: () => TestProcess) => parts.set(name, { process: start(), start });
    const server = (grpc: number, http: number) => () =>
      startPerdureProcess(['server', '--grpc-port', String(grpc), '--http-port', String(http)], env);
    const worker = (address: string) => () =>
      startProcess('test/dist/programs/collector.js', [], {
        PERDURE_ADDRESS: address,
        TASK_QUEUE,
        PERDURE_LOG_LEVEL: 'error',
      });
    add('server 1', server(ports[0], ports[2]));
    add('server 2', server(ports[1], ports[3]));
    add('reaper', () => startPerdureProcess(['reaper', '--server-grace', '1s'], env));
    add('worker 1', worker(addresses.join(',')));
    add('worker 2', worker([...addresses].reverse().join(',')));
    client = new Client({ address: addresses.join(',') });
  });
  afterAll(async () => {
    await Promise.all([...parts.values()].map(({ process }) => process.kill('SIGKILL')));
    client.close();
    await database.drop();
  });

  it(`each of ${SIGNALS} is received exactly once, in the order of its run and name`, async () => {
    console.log(`PERDURE_TEST_SEED=${SEED}`);
    const random = new Seeded(SEED);
    const handles: RunHandle<Record<string, number[] | undefined>>[] = [];
    for (let n = 0; n < RUNS; n++) {
      handles.push(await client.start(collector, PER_NAME, { taskQueue: TASK_QUEUE, maxLostLeases: 1_000 }));
    }
    let sent = 0;
    const milestones: { readonly at: number; readonly reach: () => void }[] = [];
    const untilSent = (at: number) =>
      sent >= at ? undefined : new Promise<void>((reach) => milestones.push({ at, reach }));
    const lanes = handles.flatMap((handle) => NAMES.map((name) => ({ handle, name, next: 0 })));
    const sender = async () => {
      for (let lane = take(lanes, random); lane !== undefined; lane = take(lanes, random)) {
        const { handle, name, next } = lane;
        await handle.signal(name, next, { requestId: `${name} ${next}` }).catch(async (error: Error) => {
          // A run that has ended before its last signal says why.
          throw new Error(error.message, { cause: (await handle.get()).error });
        });
        // As a client whose answer was lost would.
        if (random.chance(0.05)) await handle.signal(name, next, { requestId: `${name} ${next}` });
        sent++;
        for (const { at, reach } of milestones) if (sent >= at) reach();
        if (next + 1 < PER_NAME) lanes.push({ handle, name, next: next + 1 });
      }
    };
    const sending = Promise.all(Array.from({ length: 20 }, sender));
    const killing = (async () => {
      const victims = [...parts.keys()];
      for (let kill = 1; kill <= KILLS; kill++) {
        // Spread over the signals, however long they take.
        await untilSent((SIGNALS * kill) / (KILLS + 1));
        const part = parts.get(random.pick(victims));
        if (part === undefined) throw new Error('There is no such part.');
        await part.process.kill('SIGKILL');
        part.process = part.start();
      }
    })();
    await Promise.all([sending, killing]);
    const expected = Array.from({ length: PER_NAME }, (_, n) => n);
    for (const handle of handles) {
      expect(await handle.result({ timeout: '300s' })).toEqual({ left: expected, right: expected });
    }
  }, 1_200_000);
});

/** A random element, taken out. */
function take<T>(from: T[], random: Seeded): T | undefined {
  if (from.length === 0) return undefined;
  const index = random.below(from.length);
  const [taken] = from.splice(index, 1);
  return taken;
}
