import {
  type BeginStep,
  beginSteps,
  claimRuns,
  type Database,
  type LeaseRef,
  openDatabase,
  registerWorkers,
  type StartRun,
  startIdentity,
  startRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { createDatabase, type TestDatabase } from './database.js';

const QUEUE = { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'] } as const;
export const FAILURE = { type: 'Error', message: 'm', reason: 'APPLICATION' } as const;

/** The store alone on a database of its own, with short ways to what most tests need. */
export interface TestStore {
  readonly database: TestDatabase;
  readonly db: Database;
  /** @returns the run ids */
  start(count?: number, more?: Partial<StartRun>): Promise<string[]>;
  register(more?: { readonly workerId?: string; readonly leaseMs?: number; readonly slots?: number }): Promise<string>;
  claim(workerId: string, slots?: number): Promise<LeaseRef[]>;
  begin(lease: LeaseRef, more?: Partial<BeginStep>): Promise<string>;
  /** Columns of a run as they are stored. */
  run(runId: string): Promise<Readonly<Record<string, unknown>>>;
  /** Status and reason of failure of each attempt, by step and number. */
  attempts(runId: string): Promise<Record<string, string>>;
  stop(): Promise<void>;
}

export async function openTestStore(): Promise<TestStore> {
  const database = await createDatabase();
  const db = openDatabase({ url: database.url, maxConnections: 10 });
  return {
    database,
    db,
    async start(count = 1, more = {}) {
      const runs = Array.from({ length: count }, () => startCommand(more));
      await startRuns(db, runs);
      return runs.map(({ runId }) => runId);
    },
    async register({ workerId = uuid(), leaseMs = 30_000, slots = 100 } = {}) {
      await registerWorkers(db, [
        { ...QUEUE, workflowTypes: [...QUEUE.workflowTypes], workerId, build: '', identity: '', slots, leaseMs },
      ]);
      return workerId;
    },
    async claim(workerId, slots = 1) {
      const outcomes = await claimRuns(
        db,
        { ...QUEUE, slots: Array.from({ length: slots }, () => ({ workerId })) },
        { memoPageBytes: 1e6, memoPageEntries: 100 },
      );
      return outcomes.flatMap((outcome) =>
        outcome.kind === 'claimed'
          ? [{ namespace: 'default', runId: outcome.claim.run.runId, leaseToken: outcome.claim.run.leaseToken }]
          : [],
      );
    },
    async begin(lease, more = {}) {
      const [outcome] = await beginSteps(db, [beginCommand(lease, more)]);
      return outcome?.kind ?? '';
    },
    async run(runId) {
      const [row] = await database.sql`select * from perdure.workflow_runs where run_id = ${runId}`;
      if (row === undefined) throw new Error(`There is no run ${runId}.`);
      return row;
    },
    async attempts(runId) {
      const rows = await database.sql<{ step: string; state: string }[]>`
        select step_id || '/' || attempt_number as step, status || coalesce(' ' || (failure->>'reason'), '') as state
        from perdure.step_runs where run_id = ${runId} order by seq, attempt_number`;
      return Object.fromEntries(rows.map(({ step, state }) => [step, state]));
    },
    async stop() {
      await db.close();
      await database.drop();
    },
  };
}

export function startCommand(more: Partial<StartRun> = {}): StartRun {
  const { runId } = startIdentity('default', '');
  return {
    runId,
    namespace: 'default',
    workflowId: runId,
    workflowType: 'w',
    taskQueue: 'q',
    input: null,
    requestId: null,
    priority: 0,
    build: '',
    reusePolicy: 'ALLOW',
    startDelayMs: 0,
    runTimeoutMs: 0,
    executionTimeoutMs: 0,
    maxLostLeases: 10,
    ...more,
  };
}

export function beginCommand(lease: LeaseRef, more: Partial<BeginStep> = {}): BeginStep {
  return {
    ...lease,
    stepId: 's',
    seq: 1,
    stepKind: 'FUNCTION',
    attemptNumber: 1,
    countedAttempt: 1,
    maxCountedAttempts: 3,
    timeoutMs: 0,
    input: null,
    uncancellable: false,
    ...more,
  };
}
