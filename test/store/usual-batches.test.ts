import {
  cancelRuns,
  claimRuns,
  type Database,
  endRuns,
  endRunsWithStep,
  type LeaseRef,
  openDatabase,
  recordSteps,
  registerWorkers,
  startRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startCommand } from '../support/store.js';

/** The plain statements for usual batches write what they may; what they may not must be judged, and nothing may be lost. */
describe('usual batches with something unusual among them', () => {
  let database: TestDatabase;
  let db: Database;
  const queue = { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'] };
  const workerId = uuid();
  beforeAll(async () => {
    database = await createDatabase();
    db = openDatabase({ url: database.url });
    await registerWorkers(db, [{ ...queue, workerId, build: '', identity: '', slots: 10, leaseMs: 30_000 }]);
  });
  afterAll(async () => {
    await db.close();
    await database.drop();
  });

  const lease = async (count: number): Promise<LeaseRef[]> => {
    await startRuns(
      db,
      Array.from({ length: count }, () => startCommand()),
    );
    const slots = Array.from({ length: count }, () => ({ workerId }));
    const claims = await claimRuns(db, { ...queue, slots }, { memoPageBytes: 1_000, memoPageEntries: 10 });
    return claims.flatMap((outcome) =>
      outcome.kind === 'claimed'
        ? [{ namespace: 'default', runId: outcome.claim.run.runId, leaseToken: outcome.claim.run.leaseToken }]
        : [],
    );
  };
  const rows = async (runId: string) =>
    (await database.sql`select count(*)::int as n from perdure.step_runs where run_id = ${runId}`)[0]?.n;

  it('in a batch of steps an old lease and a repeat get their own outcome, and the others are recorded', async () => {
    const [first, second, third] = (await lease(3)) as [LeaseRef, LeaseRef, LeaseRef];
    const stepOf = (ref: LeaseRef, stepId: string) => ({
      ...ref,
      stepId,
      seq: 1,
      stepKind: 'FUNCTION' as const,
      attemptNumber: 1,
      countedAttempt: 1,
      maxCountedAttempts: 3,
      uncancellable: false,
      output: null,
      eventSeq: 1,
    });
    expect((await recordSteps(db, [stepOf(third, 's')]))[0]?.kind).toBe('recorded');
    const stale = { ...second, leaseToken: second.leaseToken + 1 };
    const outcomes = await recordSteps(db, [stepOf(first, 's'), stepOf(stale, 's'), stepOf(third, 's')]);
    expect(outcomes.map(({ kind }) => kind)).toEqual(['already_recorded', 'lease_lost', 'already_recorded']);
    expect([await rows(first.runId), await rows(second.runId), await rows(third.runId)]).toEqual([1, 0, 1]);
    const twice = await recordSteps(db, [stepOf(first, 't'), stepOf(first, 't')]);
    expect(twice.map(({ kind }) => kind)).toEqual(['already_recorded', 'already_recorded']);
    expect(await rows(first.runId)).toBe(2);
  });

  it('in a batch of ends an old lease, a repeat and a failure get their own outcome, and the others end their runs', async () => {
    const [first, second, third] = (await lease(3)) as [LeaseRef, LeaseRef, LeaseRef];
    const complete = { end: 'COMPLETED' as const, output: null, hasOpenSteps: false };
    const failure = { type: 'Error', message: 'x', reason: 'APPLICATION' as never };
    const outcomes = await endRuns(db, [
      { ...first, ...complete },
      { ...second, ...complete, leaseToken: second.leaseToken + 1 },
      { ...third, end: 'FAILED', failure },
    ]);
    expect(outcomes.map(({ kind }) => kind)).toEqual(['already_ended', 'lease_lost', 'ended']);
    const statusOf = async ({ runId }: LeaseRef) =>
      (await database.sql`select status from perdure.workflow_runs where run_id = ${runId}`)[0]?.status;
    expect([await statusOf(first), await statusOf(second), await statusOf(third)]).toEqual([
      'COMPLETED',
      'RUNNING',
      'FAILED',
    ]);
  });

  it('in a batch of last results with their ends, a refused result ends nothing, and a repeat is answered like the first call', async () => {
    const [first, repeated, stale, cancelled, taken] = (await lease(5)) as [
      LeaseRef,
      LeaseRef,
      LeaseRef,
      LeaseRef,
      LeaseRef,
    ];
    const last = (ref: LeaseRef) => ({
      step: {
        ...ref,
        stepId: 'last',
        seq: 1,
        stepKind: 'FUNCTION' as const,
        attemptNumber: 1,
        countedAttempt: 1,
        maxCountedAttempts: 3,
        uncancellable: false,
        output: null,
        eventSeq: 1,
      },
      end: { ...ref, end: 'COMPLETED' as const, output: null, hasOpenSteps: false },
    });
    expect(await endRunsWithStep(db, [last(repeated)])).toEqual([{ kind: 'ended' }]);
    await cancelRuns(db, [{ namespace: 'default', runId: cancelled.runId, reason: '' }]);
    await recordSteps(db, [{ ...last(taken).step, seq: 2 }]);
    const outcomes = await endRunsWithStep(
      db,
      [first, repeated, { ...stale, leaseToken: stale.leaseToken + 1 }, cancelled, taken].map(last),
    );
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      'already_ended',
      'already_ended',
      'lease_lost',
      'cancel_requested',
      'step_mismatch',
    ]);
    const statuses = await Promise.all(
      [first, repeated, stale, cancelled, taken].map(
        async ({ runId }) =>
          (await database.sql`select status from perdure.workflow_runs where run_id = ${runId}`)[0]?.status,
      ),
    );
    expect(statuses).toEqual(['COMPLETED', 'COMPLETED', 'RUNNING', 'RUNNING', 'RUNNING']);
    expect([await rows(first.runId), await rows(stale.runId), await rows(cancelled.runId)]).toEqual([1, 0, 0]);
  });

  it('starts: a repeat and an unknown namespace leave their neighbours, and no slot is used twice', async () => {
    const [fresh, repeat, nowhere] = [startCommand(), startCommand(), { ...startCommand(), namespace: 'nowhere' }];
    await startRuns(db, [repeat]);
    const slot = { workerId, leaseMs: 30_000 };
    const outcomes = await startRuns(db, [fresh, repeat, nowhere], [slot, slot, slot]);
    expect(outcomes.map(({ kind }) => kind)).toEqual(['started', 'existing', 'namespace_not_found']);
    expect(outcomes[0]).toMatchObject({ claim: { run: { runId: fresh.runId, leaseToken: 1 } } });
    const changed = { ...slot, leaseMs: 1_000 };
    const [other] = await startRuns(db, [startCommand()], [changed]);
    expect(other).toMatchObject({ kind: 'started', claim: null });
  });
});
