/** What a test environment sees and does in its database: whether everything waits, until when, and to go there. */
import { openDatabase } from '../database/database.js';
import { openDriver } from '../database/driver.js';
import type { QueueRef } from '../model.js';
import { reclaimLeases } from '../sweeps/reclaim-leases.js';
import { wakeSleepers } from '../sweeps/wake-sleepers.js';
import { encodeTimers, encodeWakeup, newSenderId, TIMERS_CHANNEL, WAKEUP_CHANNEL } from '../wakeup/channels.js';
import { moveTestClockWithProcesses } from './test-clock.js';

/** A queue whose runs nobody executes. */
export interface UnservedRuns extends QueueRef {
  readonly workflowType: string;
}

/** What the runs of a database are doing. */
export interface Standstill {
  /** Runs that workers hold. */
  readonly running: number;
  /** A worker will claim a run, or an end of a run or an event is being passed on. */
  readonly isMoving: boolean;
  /** Ms until something falls due, 0 or less when it is; null: nothing will. */
  readonly dueInMs: number | null;
  /** One of the awaited runs is open. */
  readonly isAwaited: boolean;
  /** Claimable runs that no worker serves; they do not count as moving. */
  readonly unserved: readonly UnservedRuns[];
}

/** Runs whose end a test waits for. */
export interface AwaitedRuns {
  readonly runIds: readonly string[];
  readonly workflowIds: readonly string[];
}

/** The time of one test database. */
export interface TestTime {
  now(): Promise<Date>;
  look(awaited: AwaitedRuns): Promise<Standstill>;
  /** Moves the clock, wakes what is due, and has the reaper look for deadlines. Leases move along. */
  move(ms: number): Promise<void>;
  /** Ends leases as if they had expired, and makes their runs claimable at once. */
  dropLeases(leases: readonly { readonly runId: string; readonly leaseToken: number }[]): Promise<void>;
  close(): Promise<void>;
}

interface LookRow {
  readonly running: number;
  readonly moving: boolean;
  readonly due_in_ms: number | null;
  readonly awaited: boolean;
  readonly unserved: readonly { readonly namespace: string; readonly taskQueue: string; readonly workflowType: string }[] | null;
}

const LOOK = `
  with unserved as (
    select distinct r.namespace, r.task_queue, r.workflow_type from perdure.workflow_runs r
    where r.status = 'PENDING' and not exists (
      select 1 from perdure.workers w
      where w.namespace = r.namespace and w.task_queue = r.task_queue and r.workflow_type = any (w.workflow_types)
        and w.status = 'ONLINE')
  )
  select
    (select count(*)::int from perdure.workflow_runs r where r.status = 'RUNNING') as running,
    exists (select 1 from perdure.workflow_runs r where r.status = 'PENDING' and not exists (
      select 1 from unserved u
      where u.namespace = r.namespace and u.task_queue = r.task_queue and u.workflow_type = r.workflow_type))
    or exists (select 1 from perdure.child_ends)
    or exists (select 1 from perdure.workflow_runs r where r.has_children and r.finished_at is not null)
    or exists (select 1 from perdure.events e where not e.is_spread) as moving,
    (extract(epoch from least(
      (select min(r.wake_at) from perdure.workflow_runs r where r.wake_at is not null and r.status in ('SLEEPING', 'WAITING')),
      (select min(r.deadline_at) from perdure.workflow_runs r where r.deadline_at is not null and r.finished_at is null)
    ) - perdure.clock()) * 1000)::float8 as due_in_ms,
    exists (select 1 from perdure.workflow_runs r
      where r.finished_at is null and (r.run_id in (select jsonb_array_elements_text($1::text::jsonb -> 'runIds')::uuid)
        or r.workflow_id in (select jsonb_array_elements_text($1::text::jsonb -> 'workflowIds')))) as awaited,
    (select jsonb_agg(jsonb_build_object('namespace', namespace, 'taskQueue', task_queue, 'workflowType', workflow_type)) from unserved)
      as unserved`;

const EXPIRE = `
  with dropped as materialized (
    select r.run_id from perdure.workflow_runs r
    join jsonb_to_recordset($1::text::jsonb) as l(run_id uuid, lease_token int) on l.run_id = r.run_id and l.lease_token = r.lease_token
    where r.status = 'RUNNING' order by r.run_id for no key update of r
  )
  update perdure.workflow_runs r set lease_expires_at = perdure.clock() - interval '1 s'
  from dropped d where r.run_id = d.run_id`;

/** More than any test has. */
const ALL = 10_000;

/** @param url of a database made by {@link createTestDatabase} */
export function openTestTime(url: string): TestTime {
  const sql = openDriver(url, {
    maxConnections: 2,
    preparedStatements: true,
    parameters: { application_name: 'perdure-testing' },
  });
  const db = openDatabase({ url, maxConnections: 2, applicationName: 'perdure-testing' });
  const from = newSenderId();
  const wake = async (queues: readonly QueueRef[]) => {
    for (const payload of encodeWakeup({ from, queues })) await db.notify(WAKEUP_CHANNEL, payload);
  };
  return {
    async now() {
      const [row] = await sql.unsafe<{ now: Date }[]>('select perdure.clock() as now');
      return (row as { now: Date }).now;
    },
    async look(awaitedRuns) {
      const [row] = await sql.unsafe<LookRow[]>(LOOK, [JSON.stringify(awaitedRuns)], { prepare: true });
      const { running, moving, due_in_ms, awaited, unserved } = row as LookRow;
      return { running, isMoving: moving, dueInMs: due_in_ms, isAwaited: awaited, unserved: unserved ?? [] };
    },
    async move(ms) {
      await moveTestClockWithProcesses(sql, ms);
      for (;;) {
        const { woken, queues } = await wakeSleepers(db, { limit: ALL });
        await wake(queues);
        if (woken < ALL) break;
      }
      await db.notify(TIMERS_CHANNEL, encodeTimers({ wakeInMs: 0, expiryInMs: 0 }));
    },
    async dropLeases(leases) {
      if (leases.length === 0) return;
      const rows = leases.map(({ runId, leaseToken }) => ({ run_id: runId, lease_token: leaseToken }));
      await sql.unsafe(EXPIRE, [JSON.stringify(rows)]);
      const { queues } = await reclaimLeases(db, { limit: ALL, backoffMs: 0, maxBackoffMs: 0, serverGraceMs: 0 });
      await wake(queues);
    },
    async close() {
      await Promise.all([sql.end({ timeout: 5 }), db.close()]);
    },
  };
}
