import {
  awaitSteps,
  beginSteps,
  cancelRuns,
  completeSteps,
  type EndStep,
  endRuns,
  endSteps,
  failSteps,
  type LeaseRef,
  recordSteps,
  retryRuns,
  scheduleSleeps,
  settleSteps,
  startChildren,
  suspendRuns,
  takeArrivals,
  terminateRuns,
  unclosedParents,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { beginCommand, FAILURE, openTestStore, type TestStore } from '../support/store.js';

const namespace = 'default';
const bytes = (text: string) => ({ data: Buffer.from(text), encoding: 'json' });

describe('a step that is ended by hand', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());

  const claimed = async (): Promise<LeaseRef> => {
    await store.start();
    const [lease] = await store.claim(workerId);
    return lease as LeaseRef;
  };
  const end = async ({ runId }: { readonly runId: string }, more: Partial<EndStep> = {}) => {
    const action = { namespace, runId, actor: 'ada', reason: 'I say so', requestId: null };
    const [outcome] = await endSteps(store.db, [
      { ...action, stepId: 's', outcome: { kind: 'COMPLETED', output: bytes('1') }, ...more },
    ]);
    return outcome;
  };
  const failForRetry = async (lease: LeaseRef, attemptNumber = 1) => {
    await store.begin(lease, { attemptNumber });
    const failed = { ...lease, stepId: 's', attemptNumber, failure: FAILURE, retryAfterMs: 3_600_000, eventSeq: 0 };
    expect(await failSteps(store.db, [failed])).toMatchObject([{ kind: 'failed' }]);
  };
  const failFinally = async (lease: LeaseRef, eventSeq = 2) => {
    await store.begin(lease);
    await failSteps(store.db, [
      { ...lease, stepId: 's', attemptNumber: 1, failure: FAILURE, retryAfterMs: null, eventSeq },
    ]);
  };
  const take = async (lease: LeaseRef, eventSeq = 5) =>
    (await takeArrivals(store.db, [{ ...lease, eventSeq, dueStepIds: [] }]))[0];
  const reclaimed = async (runId: string): Promise<LeaseRef> => {
    const [lease] = await store.claim(workerId);
    expect(lease?.runId).toBe(runId);
    return lease as LeaseRef;
  };

  it('ends the attempt under way; every late write of its worker is refused, and what was recorded is taken', async () => {
    const lease = await claimed();
    await store.begin(lease);
    expect(await end(lease)).toMatchObject({ kind: 'ended', attemptNumber: 1, effect: { kind: 'arrived' } });
    const attempt = { ...lease, stepId: 's', attemptNumber: 1 };
    const refused = [
      await completeSteps(store.db, [{ ...attempt, output: bytes('2'), eventSeq: 2 }]),
      await failSteps(store.db, [{ ...attempt, failure: FAILURE, retryAfterMs: null, eventSeq: 2 }]),
      await failSteps(store.db, [{ ...attempt, failure: FAILURE, retryAfterMs: 1, eventSeq: 0 }]),
      await beginSteps(store.db, [beginCommand(lease, { attemptNumber: 2 })]),
    ];
    const taken = await take(lease);
    refused.push(await completeSteps(store.db, [{ ...attempt, output: bytes('2'), eventSeq: 6 }]));
    expect(refused.flat().map(({ kind }) => kind)).toEqual(refused.map(() => 'ended_by_hand'));
    expect(taken).toMatchObject({ kind: 'taken', arrivals: [{ stepId: 's', status: 'COMPLETED', eventSeq: 5 }] });
    expect(await end(lease)).toEqual({ kind: 'step_ended', status: 'COMPLETED' });
    const [row] = await store.database.sql`
      select convert_from(s.output, 'utf8') as output, a.kind, a.actor, a.reason, a.detail
      from perdure.step_runs s join perdure.run_actions a on a.run_id = s.run_id and a.seq = s.action_seq
      where s.run_id = ${lease.runId}`;
    expect(row).toEqual({
      output: '1',
      kind: 'COMPLETE_STEP',
      actor: 'ada',
      reason: 'I say so',
      detail: { stepId: 's' },
    });
  });

  it('that waits for its next attempt: the outcome is an attempt of its own, and none follows', async () => {
    const lease = await claimed();
    await failForRetry(lease);
    const waits = [{ stepId: 's', on: 'RETRY' as const }];
    await suspendRuns(store.db, [{ ...lease, waits, arrivalsAwaited: 0, isKept: false }]);
    expect(await store.run(lease.runId)).toMatchObject({ status: 'SLEEPING' });
    expect(await end(lease, { outcome: { kind: 'SKIPPED' } })).toMatchObject({
      kind: 'ended',
      attemptNumber: 2,
      effect: { kind: 'woken' },
    });
    expect(await store.attempts(lease.runId)).toEqual({ 's/1': 'FAILED APPLICATION', 's/2': 'SKIPPED' });
    const next = await reclaimed(lease.runId);
    expect(await beginSteps(store.db, [beginCommand(next, { attemptNumber: 3 })])).toEqual([{ kind: 'ended_by_hand' }]);
    expect(
      await recordSteps(store.db, [{ ...beginCommand(next, { attemptNumber: 2 }), output: null, eventSeq: 2 }]),
    ).toEqual([{ kind: 'ended_by_hand' }]);
    await terminateRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
  });

  it('before the cancel request has: the cancel finds it ended, whichever attempt it names', async () => {
    const lease = await claimed();
    await failForRetry(lease);
    await cancelRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
    expect(await end(lease)).toMatchObject({ kind: 'ended', attemptNumber: 2 });
    const settle = { ...lease, stepId: 's', seq: 1, stepKind: 'FUNCTION' as const, attemptNumber: 1, eventSeq: 2 };
    expect(await settleSteps(store.db, [{ ...settle, status: 'CANCELLED' }])).toEqual([{ kind: 'arrived' }]);
    expect(await settleSteps(store.db, [{ ...settle, status: 'FAILED' }])).toEqual([{ kind: 'arrived' }]);
  });

  it('after the cancel request has ended it: it is refused', async () => {
    const lease = await claimed();
    await failForRetry(lease);
    await cancelRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
    const settle = { ...lease, stepId: 's', seq: 1, stepKind: 'FUNCTION' as const, attemptNumber: 1, eventSeq: 2 };
    expect(await settleSteps(store.db, [{ ...settle, status: 'CANCELLED' }])).toMatchObject([{ kind: 'settled' }]);
    expect(await end(lease)).toEqual({ kind: 'step_ended', status: 'CANCELLED' });
  });

  it('that is a timer wakes the run before its time; it has no result, and its worker may not fire it', async () => {
    const lease = await claimed();
    const sleep = { ...lease, stepId: 's', seq: 1, durationMs: 3_600_000, until: null, uncancellable: false };
    await scheduleSleeps(store.db, [{ ...sleep, attemptNumber: 1 }]);
    const waits = [{ stepId: 's', on: 'TIMER' as const }];
    await suspendRuns(store.db, [{ ...lease, waits, arrivalsAwaited: 0, isKept: false }]);
    expect(await end(lease)).toEqual({ kind: 'no_result' });
    const done = { kind: 'COMPLETED', output: null } as const;
    expect(await end(lease, { outcome: done })).toMatchObject({ kind: 'ended', effect: { kind: 'woken' } });
    const next = await reclaimed(lease.runId);
    expect(
      await completeSteps(store.db, [{ ...next, stepId: 's', attemptNumber: 1, output: null, eventSeq: 2 }]),
    ).toEqual([{ kind: 'ended_by_hand' }]);
    await terminateRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
  });

  it('that waits for several arrivals wakes the run at once', async () => {
    const lease = await claimed();
    const wait = { stepKind: 'SIGNAL', attemptNumber: 1, timeoutMs: null, eventSeq: 1, uncancellable: false } as const;
    await awaitSteps(store.db, [
      { ...lease, ...wait, stepId: 's', seq: 1, awaits: 'a' },
      { ...lease, ...wait, stepId: 'other', seq: 2, awaits: 'b' },
    ]);
    await suspendRuns(store.db, [{ ...lease, waits: [], arrivalsAwaited: 2, isKept: false }]);
    expect(await end(lease)).toMatchObject({ kind: 'ended', effect: { kind: 'woken' } });
    await terminateRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
  });

  it('that waits for a child leaves a mark, so that the child is closed also when the server dies here', async () => {
    const lease = await claimed();
    const childRunId = uuid();
    const limits = { startDelayMs: 0, runTimeoutMs: 0, executionTimeoutMs: 0, maxLostLeases: 10 };
    await startChildren(store.db, [
      {
        ...lease,
        ...limits,
        stepId: 's',
        seq: 1,
        attemptNumber: 1,
        eventSeq: 1,
        uncancellable: false,
        childRunId,
        workflowId: null,
        workflowType: 'w',
        taskQueue: 'children',
        priority: null,
        build: null,
        reusePolicy: 'ALLOW',
        parentClose: 'TERMINATE',
        input: null,
      },
    ]);
    expect(await end(lease)).toMatchObject({ kind: 'ended', closesChildren: true });
    expect(await unclosedParents(store.db, { limit: 10, minAgeMs: 0 })).toContain(lease.runId);
  });

  it('of a run that has FAILED: its retry continues with the outcome', async () => {
    const lease = await claimed();
    await failFinally(lease);
    const later = { ...beginCommand(lease, { stepId: 'later', seq: 2 }), output: null, eventSeq: 3 };
    await recordSteps(store.db, [later]);
    const cut = { from: { leaseToken: lease.leaseToken, eventSeq: 2 }, seq: 1 };
    await endRuns(store.db, [{ ...lease, end: 'FAILED', failure: FAILURE, cut }]);
    expect(await end(lease, { stepId: 'later' })).toEqual({ kind: 'taken_back' });
    expect(await end(lease)).toMatchObject({ kind: 'ended', attemptNumber: 2, effect: { kind: 'none' } });
    expect(await store.run(lease.runId)).toMatchObject({ status: 'FAILED' });
    await retryRuns(store.db, [{ namespace, runId: lease.runId, actor: '', reason: '', requestId: null }]);
    const next = await reclaimed(lease.runId);
    const rows = await store.database.sql`
      select step_id, attempt_number, status, lease_token, event_seq, is_cut from perdure.step_runs
      where run_id = ${lease.runId} and attempt_key = 0 order by seq`;
    expect(rows).toMatchObject([
      {
        step_id: 's',
        attempt_number: 2,
        status: 'COMPLETED',
        lease_token: next.leaseToken,
        event_seq: 1,
        is_cut: false,
      },
      { step_id: 'later', is_cut: true },
    ]);
    await terminateRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
  });

  it('of a run that has FAILED without its worker: the retry still goes back to the failure', async () => {
    const lease = await claimed();
    await failFinally(lease);
    await recordSteps(store.db, [{ ...beginCommand(lease, { stepId: 'later', seq: 2 }), output: null, eventSeq: 3 }]);
    await endRuns(store.db, [{ ...lease, end: 'FAILED', failure: { ...FAILURE, stepId: 's' } }]);
    expect(await end(lease)).toMatchObject({ kind: 'ended' });
    await retryRuns(store.db, [{ namespace, runId: lease.runId, actor: '', reason: '', requestId: null }]);
    const [row] = await store.database.sql`
      select is_cut from perdure.step_runs where run_id = ${lease.runId} and step_id = 'later'`;
    expect(row).toEqual({ is_cut: true });
    await terminateRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
  });

  it('whose failure the code was given, and left behind, is refused', async () => {
    const lease = await claimed();
    await failFinally(lease);
    expect(await end(lease)).toEqual({ kind: 'step_ended', status: 'FAILED' });
    const cut = { from: { leaseToken: lease.leaseToken, eventSeq: 9 }, seq: 3 };
    await endRuns(store.db, [{ ...lease, end: 'FAILED', failure: FAILURE, cut }]);
    expect(await end(lease)).toEqual({ kind: 'step_ended', status: 'FAILED' });
  });

  it('of a run that was terminated: a retry continues with the outcome, and with no other attempt', async () => {
    const lease = await claimed();
    await store.begin(lease);
    await terminateRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
    expect(await end(lease, { outcome: { kind: 'FAILED', failure: FAILURE } })).toMatchObject({ kind: 'ended' });
    await retryRuns(store.db, [{ namespace, runId: lease.runId, actor: '', reason: '', requestId: null }]);
    await reclaimed(lease.runId);
    expect(await store.attempts(lease.runId)).toEqual({ 's/1': 'CANCELLED', 's/2': 'FAILED APPLICATION' });
    await terminateRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
  });

  it('a repeat with the same request id changes nothing, whatever has become of the run', async () => {
    const lease = await claimed();
    await store.begin(lease);
    const requestId = uuid();
    expect(await end(lease, { requestId })).toMatchObject({ kind: 'ended' });
    expect(await end(lease, { requestId })).toMatchObject({ kind: 'already_ended' });
    await take(lease);
    await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    expect(await end(lease, { requestId })).toMatchObject({ kind: 'already_ended' });
  });

  it('a batch ends steps of several runs, and several of one', async () => {
    const leases = [await claimed(), await claimed()];
    for (const lease of leases) {
      await store.begin(lease);
      await store.begin(lease, { stepId: 't', seq: 2 });
    }
    const action = { namespace, actor: '', reason: '', requestId: null, outcome: { kind: 'SKIPPED' } } as const;
    const commands = leases.flatMap(({ runId }) => ['s', 't', 's'].map((stepId) => ({ ...action, runId, stepId })));
    const outcomes = await endSteps(store.db, commands.reverse());
    expect(outcomes.map(({ kind }) => kind)).toEqual(['ended', 'ended', 'step_ended', 'ended', 'ended', 'step_ended']);
  });
});
