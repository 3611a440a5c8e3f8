/** What a test environment sees and does in its database: whether everything waits, until when, and to go there. */
import { openDatabase } from '../database/database.js';
import { openDriver } from '../database/driver.js';
import type { QueueRef } from '../model.js';
import { reclaimLeases } from '../sweeps/reclaim-leases.js';
import { wakeSleepers } from '../sweeps/wake-sleepers.js';
import { encodeTimers, TIMERS_CHANNEL } from '../wakeup/channels.js';
import { EXPIRE_LEASES, LOOK, MOVE_WITH_PROCESSES, SKIP } from './test-statements.js';

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
  /** Something of what is awaited is still to come. */
  readonly isAwaited: boolean;
  /** Claimable runs that no worker serves; they do not count as moving. */
  readonly unserved: readonly UnservedRuns[];
}

/** What a test waits for. */
export interface AwaitedRuns {
  readonly runIds: readonly string[];
  readonly workflowIds: readonly string[];
  /** Of updates whose answer is awaited. */
  readonly requestIds: readonly string[];
  /** Something else is awaited. */
  readonly facts: boolean;
}

/** The time of one test database. */
export interface TestTime {
  now(): Promise<Date>;
  look(awaited: AwaitedRuns): Promise<Standstill>;
  /**
   * When everything waits, moves the clock to the next due time and wakes what is due.
   *
   * @param ignoreUnserved runs that no worker serves are no reason to wait
   * @returns how it was before
   */
  skip(awaited: AwaitedRuns, ignoreUnserved: boolean): Promise<Standstill & { readonly hasMoved: boolean }>;
  /** Moves the clock and wakes what is due; leases move along. */
  move(ms: number): Promise<void>;
  /** Ends leases as if they had expired, and makes their runs claimable at once. */
  dropLeases(leases: readonly { readonly runId: string; readonly leaseToken: number }[]): Promise<void>;
  close(): Promise<void>;
}

interface Row {
  readonly running: number;
  readonly moving: boolean;
  readonly due_in_ms: number | null;
  readonly awaited: boolean;
  readonly unserved: readonly UnservedRuns[] | null;
}

/** More than any test has. */
const ALL = 10_000;

/**
 * @param url of a database made by {@link createTestDatabase}
 * @param wake tells the server of queues that have claimable runs: it is in this process, so that a notification would only take longer
 */
export function openTestTime(url: string, wake: (queues: readonly QueueRef[]) => void): TestTime {
  const sql = openDriver(url, {
    maxConnections: 2,
    preparedStatements: true,
    parameters: { application_name: 'perdure-testing', jit: 'off' },
  });
  const db = openDatabase({ url, maxConnections: 2, applicationName: 'perdure-testing' });
  const run = async <R>(text: string, parameters: readonly (string | number | boolean)[]) => {
    const [row] = await sql.unsafe<R[]>(text, parameters as never[], { prepare: true });
    return row as R;
  };
  return {
    async now() {
      return (await run<{ now: Date }>('select perdure.clock() as now', [])).now;
    },
    async look(awaited) {
      return standstillOf(await run<Row>(LOOK, [JSON.stringify(awaited)]));
    },
    async skip(awaited, ignoreUnserved) {
      const row = await run<Row & { moved: boolean; woken: QueueRef[] }>(SKIP, [
        JSON.stringify(awaited),
        ignoreUnserved,
      ]);
      wake(row.woken);
      return { ...standstillOf(row), hasMoved: row.moved };
    },
    async move(ms) {
      await run(MOVE_WITH_PROCESSES, [ms]);
      const { woken, queues } = await wakeSleepers(db, { limit: ALL });
      wake(queues);
      // What fell due is not a sleeper: a deadline, for the reaper.
      if (woken === 0) await db.notify(TIMERS_CHANNEL, encodeTimers({ wakeInMs: 0, expiryInMs: 0 }));
    },
    async dropLeases(leases) {
      if (leases.length === 0) return;
      const rows = leases.map(({ runId, leaseToken }) => ({ run_id: runId, lease_token: leaseToken }));
      await run(EXPIRE_LEASES, [JSON.stringify(rows)]);
      const { queues } = await reclaimLeases(db, { limit: ALL, backoffMs: 0, maxBackoffMs: 0, serverGraceMs: 0 });
      wake(queues);
    },
    async close() {
      await Promise.all([sql.end({ timeout: 5 }), db.close()]);
    },
  };
}

function standstillOf({ running, moving, due_in_ms, awaited, unserved }: Row): Standstill {
  return { running, isMoving: moving, dueInMs: due_in_ms, isAwaited: awaited, unserved: unserved ?? [] };
}
