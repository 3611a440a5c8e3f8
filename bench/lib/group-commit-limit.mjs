// What PostgreSQL does on this box when many steps are written with one fenced statement, 2 statements under way.
import { randomUUID } from 'node:crypto';
import { openDatabase, recordSteps, registerWorkers, startRuns, terminateRuns } from '@perdure/store';
import postgres from 'postgres';
import { recordCommand, startCommand } from './store-commands.mjs';

const SIZES = [100, 400];
const MEASURED_MS = 1_000;

/** Writes with `write(lane, serial)` in two lanes for a while. @returns steps per second */
async function perSecond(size, write) {
  let statements = 0;
  const beganMs = performance.now();
  const lane = async (number) => {
    while (performance.now() - beganMs < MEASURED_MS) await write(number, statements++);
  };
  await Promise.all([lane(0), lane(1)]);
  return (statements * size * 1_000) / (performance.now() - beganMs);
}

/** Rows of three columns, with nothing but a key: what the machine can do at the very most. */
export async function bareLimit(databaseUrl) {
  const sql = postgres(databaseUrl, { max: 2, onnotice: () => undefined, fetch_types: false });
  await sql.unsafe(`create unlogged table if not exists bench_owner (run_id uuid primary key, token int not null);
    create table if not exists bench_step (run_id uuid not null, step_id text not null, output bytea, primary key (run_id, step_id));
    truncate bench_owner, bench_step`);
  const owners = Array.from({ length: 400 }, () => randomUUID());
  await sql.unsafe('insert into bench_owner select unnest($1::uuid[]), 1', [`{${owners}}`]);
  const rates = {};
  for (const size of SIZES) {
    rates[`${size} per statement, steps/s`] = await perSecond(size, async (_, serial) => {
      const stepIds = Array.from({ length: size }, (_, n) => `s${size}-${serial}-${n}`);
      const { count } = await sql.unsafe(
        `insert into bench_step select o.run_id, c.step_id, c.output from unnest($1::uuid[], $2::text[], $3::bytea[]) as c(run_id, step_id, output)
         join (select run_id from bench_owner where run_id = any($1::uuid[]) and token = 1 order by run_id for no key update) o on o.run_id = c.run_id`,
        [`{${owners.slice(0, size)}}`, `{${stepIds}}`, `{${stepIds.map(() => '"\\\\x31"')}}`],
      );
      if (count !== size) throw new Error(`Wrote ${count} of ${size} steps.`);
    });
  }
  await sql.unsafe('drop table bench_owner, bench_step');
  await sql.end();
  return rates;
}

/** Our own rows and statement, from the process that asks for them: what a server could do if it had nothing else to do. */
export async function ownLimit(databaseUrl) {
  const db = openDatabase({ url: databaseUrl, maxConnections: 2 });
  const namespace = 'default';
  const slot = { workerId: randomUUID(), leaseMs: 600_000 };
  const taskQueue = `limit-${slot.workerId}`;
  await registerWorkers(db, [
    { ...slot, namespace, taskQueue, workflowTypes: ['limit'], build: '', identity: '', slots: 1_000 },
  ]);
  const runs = Array.from({ length: 2 * Math.max(...SIZES) }, () => startCommand(taskQueue, 'limit'));
  await startRuns(
    db,
    runs,
    runs.map(() => slot),
  );
  const output = { data: Buffer.from('[1]'), encoding: 'devalue' };
  const rates = {};
  for (const size of SIZES) {
    rates[`our rows, ${size} per statement, steps/s`] = await perSecond(size, async (lane, serial) => {
      const mine = runs.slice(lane * size, (lane + 1) * size);
      // Steps of the other size came before: every step of a run has a place of its own.
      const seq = 1_000_000 * SIZES.indexOf(size) + serial + 1;
      const outcomes = await recordSteps(
        db,
        mine.map(({ runId }) => recordCommand(runId, 1, seq, output)),
      );
      const refused = outcomes.find(({ kind }) => kind !== 'recorded');
      if (refused !== undefined) throw new Error(`A step was not recorded: ${JSON.stringify(refused)}`);
    });
  }
  await terminateRuns(
    db,
    runs.map(({ runId }) => ({ namespace, runId, reason: 'The measurement is over.' })),
  );
  await db.close();
  return rates;
}
