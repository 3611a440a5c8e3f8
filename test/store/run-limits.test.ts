import {
  continueRuns,
  deleteRuns,
  endRuns,
  expireRuns,
  findRunState,
  type LeaseRef,
  releaseRuns,
  restartRuns,
  retryRunAttempts,
  retryRuns,
  type StartChild,
  type StartRun,
  startChildren,
  startIdentity,
  terminateRuns,
} from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';

const HOUR_MS = 3_600_000;
const BY = { actor: '', reason: '', requestId: null };

describe('start timeouts and chain timeouts', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());

  const start = async (more: Partial<StartRun>): Promise<string> => {
    const [runId] = await store.start(1, more);
    return runId as string;
  };
  const claim = async (): Promise<LeaseRef> => {
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('No run was claimed.');
    return lease;
  };
  /** Ms from now to each deadline; the clock of the store moves in these tests only. */
  const deadlines = async (runId: string) => {
    const run = await findRunState(store.db, { namespace: 'default', runId });
    if (run === null) throw new Error('There is no such run.');
    const [row] = await store.database.sql<{ now: Date }[]>`select perdure.clock() as now`;
    const left = (at: Date | null) =>
      at === null ? null : Math.round((at.getTime() - (row?.now.getTime() ?? 0)) / 60_000);
    return {
      start: left(run.startDeadlineAt),
      execution: left(run.executionDeadlineAt),
      run: left(run.runDeadlineAt),
      chain: left(run.chainDeadlineAt),
    };
  };
  const pass = (ms: number) => store.database.advanceClock(ms);
  const expire = () => expireRuns(store.db, { limit: 100 });
  const reasonOf = async (runId: string) => {
    const { status, failure } = await store.run(runId);
    return [status, (failure as { reason?: string } | null)?.reason];
  };

  it('a run that no worker claims in time FAILs, and counts from the end of its start delay', async () => {
    const runId = await start({ startTimeoutMs: 2 * HOUR_MS, startDelayMs: HOUR_MS });
    expect(await deadlines(runId)).toEqual({ start: 180, execution: null, run: null, chain: null });
    await pass(2.5 * HOUR_MS);
    expect(await expire()).toEqual([]);
    await pass(HOUR_MS);
    expect(await expire()).toEqual([runId]);
    expect(await reasonOf(runId)).toEqual(['FAILED', 'START_TIMEOUT']);
  });

  it('the first claim ends the start timeout for good, with and without an execution timeout', async () => {
    for (const executionTimeoutMs of [0, 4 * HOUR_MS]) {
      const runId = await start({ startTimeoutMs: HOUR_MS, executionTimeoutMs });
      const lease = await claim();
      expect(lease.runId).toBe(runId);
      const execution = executionTimeoutMs === 0 ? null : 240;
      expect(await deadlines(runId)).toEqual({ start: null, execution, run: null, chain: null });
      await releaseRuns(store.db, [{ ...lease, reason: '', delayMs: 0 }]);
      await pass(2 * HOUR_MS);
      expect(await expire()).toEqual([]);
      await endRuns(store.db, [{ ...(await claim()), end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    }
  });

  it('a chain timeout spans the retries of a run and every run that continues it, whose run timeouts count anew', async () => {
    const first = await start({ chainTimeoutMs: 3 * HOUR_MS, runTimeoutMs: 2 * HOUR_MS });
    expect(await deadlines(first)).toEqual({ start: null, execution: null, run: 120, chain: 180 });
    await retryRunAttempts(store.db, [{ ...(await claim()), failure: FAILURE, retryAfterMs: 0, cut: null }]);
    expect(await deadlines(first)).toEqual({ start: null, execution: null, run: 120, chain: 180 });
    await pass(1.5 * HOUR_MS);
    await store.database
      .sql`update perdure.workflow_runs set status = 'PENDING', available_at = perdure.clock(), wake_at = null
      where run_id = ${first}`;
    const [continued] = await continueRuns(store.db, [
      {
        ...(await claim()),
        input: null,
        taskQueue: null,
        priority: null,
        startDelayMs: 0,
        runTimeoutMs: null,
        executionTimeoutMs: null,
        hasOpenSteps: false,
      },
    ]);
    const next = continued?.kind === 'continued' ? continued.nextRunId : '';
    // 2 h of its own are more than the 1.5 h that are left of the chain.
    expect(await deadlines(next)).toEqual({ start: null, execution: null, run: 90, chain: 90 });
    const [again] = await continueRuns(store.db, [
      {
        ...(await claim()),
        input: null,
        taskQueue: null,
        priority: null,
        startDelayMs: 0,
        runTimeoutMs: HOUR_MS,
        executionTimeoutMs: null,
        hasOpenSteps: false,
      },
    ]);
    const last = again?.kind === 'continued' ? again.nextRunId : '';
    expect(await deadlines(last)).toEqual({ start: null, execution: null, run: 60, chain: 90 });
    await pass(1.75 * HOUR_MS);
    expect(await expire()).toEqual([last]);
    expect(await reasonOf(last)).toEqual(['FAILED', 'CHAIN_TIMEOUT']);
    expect(await reasonOf(first)).toEqual(['CONTINUED', undefined]);

    // A retry by a person gives all of them again.
    expect(await retryRuns(store.db, [{ namespace: 'default', runId: last, ...BY }])).toMatchObject([
      { kind: 'retried' },
    ]);
    expect(await deadlines(last)).toEqual({ start: null, execution: null, run: 60, chain: 180 });
    await pass(1.5 * HOUR_MS);
    expect(await expire()).toEqual([last]);
    expect(await reasonOf(last)).toEqual(['FAILED', 'RUN_TIMEOUT']);
  });

  it('a restart has the limits of its origin, and a deleted run leaves none', async () => {
    const runId = await start({ startTimeoutMs: HOUR_MS, chainTimeoutMs: 3 * HOUR_MS, runTimeoutMs: 2 * HOUR_MS });
    await endRuns(store.db, [{ ...(await claim()), end: 'FAILED', failure: FAILURE }]);
    await pass(HOUR_MS);
    const [restarted] = await restartRuns(store.db, [{ namespace: 'default', runId, workflowId: null, ...BY }]);
    const again = restarted?.kind === 'restarted' ? restarted.runId : '';
    expect(await deadlines(again)).toEqual({ start: 60, execution: null, run: 120, chain: 180 });
    await endRuns(store.db, [{ ...(await claim()), end: 'FAILED', failure: FAILURE }]);
    await deleteRuns(store.db, [
      { namespace: 'default', runId },
      { namespace: 'default', runId: again },
    ]);
    const left = await store.database.sql`select run_id from perdure.run_limits where run_id in (${runId}, ${again})`;
    expect(left).toEqual([]);
  });

  it('a run that continues another one has its start timeout', async () => {
    await start({ startTimeoutMs: HOUR_MS, runTimeoutMs: 2 * HOUR_MS });
    const limits = { runTimeoutMs: 0, executionTimeoutMs: null, hasOpenSteps: false };
    const [continued] = await continueRuns(store.db, [
      { ...(await claim()), input: null, taskQueue: null, priority: null, startDelayMs: HOUR_MS, ...limits },
    ]);
    const next = continued?.kind === 'continued' ? continued.nextRunId : '';
    expect(await deadlines(next)).toEqual({ start: 120, execution: null, run: null, chain: null });
    await terminateRuns(store.db, [{ namespace: 'default', runId: next, reason: '' }]);
  });

  it('a run that was never claimed gets its start timeout again with a retry', async () => {
    const runId = await start({ startTimeoutMs: HOUR_MS });
    await pass(2 * HOUR_MS);
    expect(await expire()).toEqual([runId]);
    await retryRuns(store.db, [{ namespace: 'default', runId, ...BY }]);
    expect(await deadlines(runId)).toEqual({ start: 60, execution: null, run: null, chain: null });
    await endRuns(store.db, [{ ...(await claim()), end: 'COMPLETED', output: null, hasOpenSteps: false }]);
  });

  it('a start with limits is idempotent and does not limit the run that it finds', async () => {
    const command = { requestId: 'once', workflowId: 'once' };
    const runId = await start(command);
    const { runId: other } = startIdentity('default', '');
    await store.start(1, { ...command, runId: other, startTimeoutMs: HOUR_MS });
    expect(await deadlines(runId)).toEqual({ start: null, execution: null, run: null, chain: null });
    await endRuns(store.db, [{ ...(await claim()), end: 'COMPLETED', output: null, hasOpenSteps: false }]);
  });

  it('a claim and the end of the start timeout at the same moment: one of them happens', async () => {
    const runIds = await store.start(60, { startTimeoutMs: HOUR_MS });
    await pass(HOUR_MS);
    const both = await Promise.all(
      Array.from({ length: 6 }, (_, n) =>
        n % 2 === 0 ? store.claim(workerId, 20) : expireRuns(store.db, { limit: 20 }),
      ),
    );
    const claimed = both.flatMap((some) => some.flatMap((one) => (typeof one === 'string' ? [] : [one])));
    const expired = both.flatMap((some) => some.flatMap((one) => (typeof one === 'string' ? [one] : [])));
    expect([...claimed.map(({ runId }) => runId), ...expired].sort()).toEqual([...runIds].sort());
    for (const runId of expired) expect(await reasonOf(runId)).toEqual(['FAILED', 'START_TIMEOUT']);
    for (const lease of claimed) {
      expect(await reasonOf(lease.runId)).toEqual(['RUNNING', undefined]);
      await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    }
  });

  it('children have them too; a repeat of their start changes nothing', async () => {
    await start({});
    const lease = await claim();
    const child: StartChild = {
      ...lease,
      stepId: 'child',
      seq: 1,
      attemptNumber: 1,
      eventSeq: 1,
      uncancellable: false,
      childRunId: startIdentity('default', '').runId,
      workflowId: null,
      workflowType: 'w',
      taskQueue: 'elsewhere',
      priority: null,
      build: null,
      reusePolicy: 'ALLOW',
      parentClose: 'CANCEL',
      startDelayMs: 0,
      runTimeoutMs: 2 * HOUR_MS,
      executionTimeoutMs: 0,
      startTimeoutMs: HOUR_MS,
      chainTimeoutMs: 3 * HOUR_MS,
      maxLostLeases: 10,
      input: null,
    };
    expect(await startChildren(store.db, [child])).toMatchObject([{ kind: 'started' }]);
    expect(await startChildren(store.db, [child])).toMatchObject([{ kind: 'waiting' }]);
    expect(await deadlines(child.childRunId)).toEqual({ start: 60, execution: null, run: 120, chain: 180 });
    await pass(1.5 * HOUR_MS);
    expect(await expire()).toEqual([child.childRunId]);
  });
});
