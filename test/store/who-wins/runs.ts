/** Runs that are equal but for their ids, in the states in which commands race. */
import {
  awaitSteps,
  beginSteps,
  endRuns,
  failSteps,
  type LeaseRef,
  pauseRuns,
  scheduleSleeps,
  startChildren,
  suspendRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { beginCommand, FAILURE, type TestStore } from '../../support/store.js';

/**
 * LEASED: a worker holds it. SUSPENDED: it waits for a timer, a retry, a signal, an update and a child. FAILED: because of a step. The paused
 * ones are paused beside that.
 */
export type State = 'LEASED' | 'SUSPENDED' | 'FAILED' | 'LEASED, paused' | 'SUSPENDED, paused';

/** A run, its lease, and its child, which has ended without its parent having been told. */
export interface RacedRun extends LeaseRef {
  readonly childId: string;
}

const HOUR_MS = 3_600_000;
const namespace = 'default';

/**
 * Each has the steps `s` (at work; waiting for its next attempt when it is suspended; failed for good when the run has FAILED), `go` and
 * `inbox`, which wait for a signal and for updates, `nap`, a timer, and `child`.
 */
export async function racedRuns(store: TestStore, workerId: string, count: number, state: State): Promise<RacedRun[]> {
  const { db } = store;
  await store.start(count);
  const runs = (await store.claim(workerId, count)).map((lease): RacedRun => ({ ...lease, childId: uuid() }));
  if (runs.length !== count) throw new Error(`${runs.length} of ${count} runs were claimed.`);
  await beginSteps(
    db,
    runs.map((run) => beginCommand(leaseOf(run))),
  );
  const wait = { attemptNumber: 1, timeoutMs: null, eventSeq: 1, uncancellable: false };
  await awaitSteps(
    db,
    runs.flatMap((run) => [
      { ...leaseOf(run), ...wait, stepId: 'go', seq: 2, stepKind: 'SIGNAL' as const, awaits: 'go' },
      { ...leaseOf(run), ...wait, stepId: 'inbox', seq: 3, stepKind: 'UPDATE' as const, awaits: '' },
    ]),
  );
  const nap = { stepId: 'nap', seq: 4, durationMs: HOUR_MS, until: null, uncancellable: false, attemptNumber: 1 };
  await scheduleSleeps(
    db,
    runs.map((run) => ({ ...leaseOf(run), ...nap })),
  );
  await startChildren(db, runs.map(childOf));
  await terminateRuns(
    db,
    runs.map(({ childId }) => ({ namespace, runId: childId, reason: '' })),
  );
  if (!state.startsWith('LEASED')) {
    const retryAfterMs = state === 'FAILED' ? null : HOUR_MS;
    const failed = {
      stepId: 's',
      attemptNumber: 1,
      failure: FAILURE,
      retryAfterMs,
      eventSeq: retryAfterMs === null ? 1 : 0,
    };
    await failSteps(
      db,
      runs.map((run) => ({ ...leaseOf(run), ...failed })),
    );
  }
  if (state.startsWith('SUSPENDED')) {
    const waits = [
      { stepId: 'nap', on: 'TIMER' },
      { stepId: 's', on: 'RETRY' },
    ] as const;
    await suspendRuns(
      db,
      runs.map((run) => ({ ...leaseOf(run), waits, arrivalsAwaited: 1, isKept: false })),
    );
  }
  if (state === 'FAILED') {
    await endRuns(
      db,
      runs.map((run) => ({
        ...leaseOf(run),
        end: 'FAILED' as const,
        failure: FAILURE,
        cut: { from: { leaseToken: run.leaseToken, eventSeq: 1 }, seq: 1 },
      })),
    );
  }
  if (state.endsWith('paused'))
    await pauseRuns(
      db,
      runs.map(({ runId }) => ({ namespace, runId, by: 'a', reason: 'r' })),
    );
  return runs;
}

export const leaseOf = ({ runId, leaseToken }: LeaseRef): LeaseRef => ({ namespace, runId, leaseToken });

const childOf = (run: RacedRun) =>
  ({
    ...leaseOf(run),
    stepId: 'child',
    seq: 5,
    attemptNumber: 1,
    eventSeq: 1,
    uncancellable: false,
    childRunId: run.childId,
    workflowId: null,
    workflowType: 'w',
    taskQueue: 'children',
    priority: null,
    build: null,
    reusePolicy: 'ALLOW',
    parentClose: 'CANCEL',
    startDelayMs: 0,
    runTimeoutMs: 0,
    executionTimeoutMs: 0,
    maxLostLeases: 10,
    input: null,
  }) as const;
