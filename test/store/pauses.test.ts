/** Pauses of runs, task queues and workflow types, in the store alone. */
import {
  awaitSteps,
  claimRuns,
  type Database,
  type DispatchKind,
  endRuns,
  findRuns,
  holdRuns,
  type LeaseRef,
  listRuns,
  openDatabase,
  pauseDispatch,
  pauseRuns,
  type Run,
  type RunFilter,
  readRunPauses,
  releaseRuns,
  resumeDispatch,
  resumeRuns,
  retryRunAttempts,
  sendSignals,
  startRuns,
  suspendRuns,
  wakeSleepers,
} from '@perdure/store';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { beginCommand, FAILURE, openTestStore, startCommand, type TestStore } from '../support/store.js';

const namespace = 'default';

describe('pauses', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  afterEach(async () => {
    await store.database
      .sql`truncate perdure.workflow_runs, perdure.step_runs, perdure.dispatch_pauses, perdure.run_pauses`;
    await store.database.sql`delete from perdure.namespaces where name = 'other'`;
  });

  const pause = (runId: string, more: { readonly by?: string; readonly reason?: string } = {}) =>
    pauseRuns(store.db, [{ namespace, runId, by: 'alice', reason: 'deploy', ...more }]);
  const resume = (runId: string) => resumeRuns(store.db, [{ namespace, runId, by: 'bob' }]);
  const read = async (runId: string): Promise<Run> => {
    const [run] = await findRuns(store.db, [{ namespace, runId, workflowId: null }]);
    if (run === null || run === undefined || run === 'deferred') throw new Error('no run');
    return run;
  };
  const leased = async (): Promise<LeaseRef> => {
    await store.start();
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('nothing to claim');
    return lease;
  };
  const list = async (filter: Partial<RunFilter>) => {
    const all: RunFilter = {
      namespace,
      statuses: [],
      workflowType: null,
      taskQueue: null,
      workflowId: null,
      build: null,
      parentRunId: null,
      held: false,
      paused: false,
      unresolved: false,
      failureFingerprint: null,
      compensation: null,
      createdAfter: null,
      createdBefore: null,
    };
    return (await listRuns(store.db, { ...all, ...filter }, { limit: 10, after: null })).runs.map(({ runId }) => runId);
  };

  describe('of a run', () => {
    it('a paused run is not claimed, says who paused it, when and why, and is claimed after it was resumed', async () => {
      const [runId] = (await store.start()) as [string];
      expect(await pause(runId)).toEqual([{ kind: 'paused', status: 'PAUSED', holder: null }]);
      expect(await store.claim(workerId)).toEqual([]);
      expect(await read(runId)).toMatchObject({
        status: 'PAUSED',
        pause: { pausedBy: 'alice', reason: 'deploy', pausedAt: expect.any(Date), failure: null, resumedAt: null },
      });
      expect(await pause(runId, { by: 'carol', reason: 'other' })).toMatchObject([{ kind: 'already_paused' }]);
      expect(await read(runId)).toMatchObject({ pause: { pausedBy: 'alice', reason: 'deploy' } });
      expect(await resume(runId)).toMatchObject([{ kind: 'resumed', status: 'PENDING', workflowType: 'w' }]);
      expect(await resume(runId)).toMatchObject([{ kind: 'not_paused', status: 'PENDING' }]);
      expect(await read(runId)).toMatchObject({ status: 'PENDING', pause: null });
      expect(await store.claim(workerId)).toMatchObject([{ runId }]);
      await pause(runId, { reason: '' });
      expect(await readRunPauses(store.db, runId)).toMatchObject([
        { pausedBy: 'alice', reason: 'deploy', resumedBy: 'bob', resumedAt: expect.any(Date) },
        { pausedBy: 'alice', reason: '', resumedBy: null },
      ]);
    });

    it('its worker records what is under way, begins nothing, and gives it back without a loss being counted', async () => {
      const lease = await leased();
      await store.begin(lease);
      expect(await pause(lease.runId)).toEqual([
        { kind: 'paused', status: 'RUNNING', holder: { workerId, leaseToken: lease.leaseToken } },
      ]);
      expect(await store.begin(lease)).toBe('already_begun');
      expect(await store.begin(lease, { stepId: 't', seq: 2 })).toBe('paused');
      expect(await read(lease.runId)).toMatchObject({ status: 'RUNNING', pause: { pausedBy: 'alice' } });
      expect(await releaseRuns(store.db, [{ ...lease, delayMs: 0, reason: '' }])).toMatchObject([{ kind: 'released' }]);
      expect(await read(lease.runId)).toMatchObject({ status: 'PAUSED', attempt: 1, lostLeases: 0 });
      expect(await store.claim(workerId)).toEqual([]);
      await resume(lease.runId);
      expect(await store.claim(workerId)).toMatchObject([{ runId: lease.runId, leaseToken: 2 }]);
    });

    it('a signal and a timer that come during the pause are recorded, and the run continues with them', async () => {
      const lease = await leased();
      const step = { ...lease, stepId: 'go', seq: 1, stepKind: 'SIGNAL', attemptNumber: 1, awaits: 'go' } as const;
      await awaitSteps(store.db, [{ ...step, timeoutMs: null, eventSeq: 2, uncancellable: false }]);
      await suspendRuns(store.db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: false }]);
      await pause(lease.runId);
      const signal = { namespace, runId: lease.runId, name: 'go', payload: null, requestId: null, sender: '' };
      expect(await sendSignals(store.db, [{ ...signal, maxUnconsumed: 10 }])).toMatchObject([{ kind: 'sent' }]);
      expect(await store.attempts(lease.runId)).toEqual({ 'go/1': 'COMPLETED' });
      expect(await store.claim(workerId)).toEqual([]);
      expect(await read(lease.runId)).toMatchObject({ status: 'PAUSED' });

      const [delayed] = (await store.start(1, { startDelayMs: 3_600_000 })) as [string];
      await pause(delayed);
      await store.database.sql`update perdure.workflow_runs set wake_at = now() where run_id = ${delayed}`;
      expect(await wakeSleepers(store.db, { limit: 10 })).toMatchObject({ woken: 1 });
      expect(await store.claim(workerId)).toEqual([]);

      expect(await resume(lease.runId)).toMatchObject([{ kind: 'resumed', status: 'PENDING' }]);
      expect(await resume(delayed)).toMatchObject([{ kind: 'resumed', status: 'PENDING' }]);
      expect(await store.claim(workerId, 2)).toHaveLength(2);
    });

    it('ended runs are refused; one that ends while it is paused is not shown as paused', async () => {
      const lease = await leased();
      await pause(lease.runId);
      await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
      expect(await read(lease.runId)).toMatchObject({ status: 'COMPLETED', pause: null });
      expect(await pause(lease.runId)).toEqual([{ kind: 'run_closed', status: 'COMPLETED' }]);
      expect(await resume(lease.runId)).toEqual([{ kind: 'run_closed', status: 'COMPLETED' }]);
      expect(await list({ statuses: ['PAUSED'] })).toEqual([]);
    });

    it('an attempt of the run that failed during the pause is retried after the resume', async () => {
      const lease = await leased();
      await pause(lease.runId);
      await retryRunAttempts(store.db, [{ ...lease, failure: FAILURE, retryAfterMs: 0, cut: null }]);
      await wakeSleepers(store.db, { limit: 10 });
      expect(await store.claim(workerId)).toEqual([]);
      await resume(lease.runId);
      expect(await store.claim(workerId)).toHaveLength(1);
    });

    it('lists and counts show a waiting run that is paused as PAUSED, and one with its worker as RUNNING', async () => {
      const { runId: running } = await leased();
      const [pending, sleeping] = [
        ...(await store.start()),
        ...(await store.start(1, { startDelayMs: 3_600_000 })),
      ] as [string, string];
      for (const runId of [running, pending, sleeping]) await pause(runId);
      expect((await list({ statuses: ['PAUSED'] })).sort()).toEqual([pending, sleeping].sort());
      expect(await list({ statuses: ['PENDING', 'SLEEPING'] })).toEqual([]);
      expect(await list({ statuses: ['RUNNING'] })).toEqual([running]);
      expect((await list({ statuses: ['PAUSED', 'COMPLETED'] })).sort()).toEqual([pending, sleeping].sort());
      expect(await list({ held: true })).toEqual([]);
    });
  });

  describe('by a worker that cannot continue a run', () => {
    const hold = (lease: LeaseRef, message = 'no') =>
      holdRuns(store.db, [{ ...lease, failure: { ...FAILURE, message, reason: 'NON_DETERMINISM' } }]);

    it('the run is held with the reason until it is resumed, and nothing is counted against it', async () => {
      const lease = await leased();
      await store.begin(lease);
      expect(await hold(lease)).toEqual([{ kind: 'held' }]);
      expect(await hold(lease)).toEqual([{ kind: 'already_held' }]);
      expect(await read(lease.runId)).toMatchObject({
        status: 'PAUSED',
        attempt: 1,
        lostLeases: 0,
        failure: null,
        pause: { pausedBy: '', failure: { reason: 'NON_DETERMINISM', message: 'no' } },
      });
      expect(await store.attempts(lease.runId)).toEqual({ 's/1': 'FAILED WORKER_LOST' });
      expect(await list({ held: true })).toEqual([lease.runId]);
      expect(await store.claim(workerId)).toEqual([]);
      await resume(lease.runId);
      expect(await list({ held: true })).toEqual([]);
      expect(await store.claim(workerId)).toMatchObject([{ runId: lease.runId }]);
    });

    it('a run that was paused before stays paused by the same, with the reason', async () => {
      const lease = await leased();
      await pause(lease.runId);
      expect(await hold(lease)).toEqual([{ kind: 'held' }]);
      expect(await readRunPauses(store.db, lease.runId)).toMatchObject([
        { pausedBy: 'alice', reason: 'deploy', failure: { message: 'no' } },
      ]);
    });
  });

  describe.each([
    ['TASK_QUEUE', 'q'],
    ['WORKFLOW_TYPE', 'w'],
  ] as const satisfies readonly (readonly [DispatchKind, string])[])('of a %s', (kind, name) => {
    const stop = (db: Database = store.db) => pauseDispatch(db, { namespace, kind, name, pausedBy: 'a', reason: 'r' });

    it('its runs are not claimed, started ones neither, until it is resumed', async () => {
      await store.start(3);
      expect(await stop()).toEqual({ kind: 'paused' });
      expect(await stop()).toEqual({ kind: 'already_paused' });
      expect(await store.claim(workerId, 2)).toEqual([]);
      const [outcome] = await startRuns(store.db, [startCommand()], [{ workerId, leaseMs: 30_000 }]);
      expect(outcome).toMatchObject({ kind: 'started', claim: null });
      expect(await resumeDispatch(store.db, { namespace, kind, name })).toEqual({ kind: 'resumed', taskQueues: ['q'] });
      expect(await resumeDispatch(store.db, { namespace, kind, name })).toEqual({ kind: 'not_paused' });
      expect(await store.claim(workerId, 10)).toHaveLength(4);
      const [leased] = await startRuns(store.db, [startCommand()], [{ workerId, leaseMs: 30_000 }]);
      expect(leased).toMatchObject({ kind: 'started', claim: { run: { leaseToken: 1 } } });
    });

    it('others are claimed: another queue, another type, another namespace', async () => {
      await store.start();
      const other = { namespace: 'other', kind, name, pausedBy: '', reason: '' };
      expect(await pauseDispatch(store.db, other)).toEqual({ kind: 'namespace_not_found' });
      await store.database.sql`insert into perdure.namespaces (name) values ('other')`;
      await pauseDispatch(store.db, other);
      await pauseDispatch(store.db, { ...other, namespace, name: 'another' });
      // The name of the one kind is not that of the other.
      await pauseDispatch(store.db, {
        ...other,
        namespace,
        kind: kind === 'TASK_QUEUE' ? 'WORKFLOW_TYPE' : 'TASK_QUEUE',
      });
      expect(await store.claim(workerId)).toHaveLength(1);
    });

    it('suspects of it are not claimed', async () => {
      const [runId] = (await store.start()) as [string];
      await store.database.sql`update perdure.workflow_runs set lost_leases = 3 where run_id = ${runId}`;
      await stop();
      expect(await store.claim(workerId)).toEqual([]);
    });

    it('a claim under way is waited for, and a later one sees the pause: there is none after the answer', async () => {
      await store.start(2);
      const other = openDatabase({ url: store.database.url, maxConnections: 1 });
      let answered = false;
      let stopping: Promise<unknown> = Promise.resolve();
      await store.db.transaction(async (db) => {
        const slots = [{ workerId }];
        const limits = { memoPageBytes: 1e6, memoPageEntries: 100 };
        const claim = { namespace, taskQueue: 'q', workflowTypes: ['w'], slots };
        expect(await claimRuns(db, claim, limits)).toMatchObject([{ kind: 'claimed' }]);
        stopping = stop(other).then(() => {
          answered = true;
        });
        for (let waiting = 0; waiting === 0; ) {
          [{ n: waiting } = { n: 0 }] = await store.database.sql<{ n: number }[]>`
            select count(*)::int as n from pg_locks where relation = 'perdure.dispatch_pauses'::regclass and not granted`;
        }
        expect(answered).toBe(false);
      });
      await stopping;
      expect(await store.claim(workerId)).toEqual([]);
      await other.close();
    });
  });

  it('two types of one queue: the claim passes over the paused one', async () => {
    const both = await store.register({ workerId: '01a20a24-0000-7000-8000-00000000000b' });
    await store.start(2, { workflowType: 'v', priority: 5 });
    await store.start();
    await pauseDispatch(store.db, { namespace, kind: 'WORKFLOW_TYPE', name: 'v', pausedBy: '', reason: '' });
    const claimed = await claimRuns(
      store.db,
      {
        namespace,
        taskQueue: 'q',
        workflowTypes: ['v', 'w'],
        slots: [{ workerId: both }, { workerId: both }],
      },
      { memoPageBytes: 1e6, memoPageEntries: 100 },
    );
    expect(claimed).toMatchObject([{ kind: 'claimed', claim: { run: { workflowType: 'w' } } }, { kind: 'empty' }]);
  });

  it('a step that is refused because of a pause leaves nothing behind', async () => {
    const lease = await leased();
    await pause(lease.runId);
    expect(await store.begin(lease, beginCommand(lease))).toBe('paused');
    expect(await store.attempts(lease.runId)).toEqual({});
  });
});
