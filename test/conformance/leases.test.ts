import { FailureReason, type LeasedRun, RunStatus, StepKind, StepStatus } from '@perdure/proto';
import type { RpcError } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import {
  begin,
  failure,
  fenceOf,
  finalStep,
  payload,
  pollsWait,
  type RawWorker,
  refusal,
  registerRawWorker,
  startRequest,
} from '../support/raw-worker.js';
import { CLOCK_MOVING_REAPER } from '../support/sleepers.js';
import { until } from '../support/until.js';

/** So long that none expires by itself. */
const LEASE_MS = 60_000;

describe('leases', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { ...CLOCK_MOVING_REAPER, reclaimBackoffMs: 100 } });
  });
  afterAll(() => perdure.stop());

  const startOne = async (maxLostLeases = 10): Promise<{ worker: RawWorker; runId: string }> => {
    const worker = await registerRawWorker(perdure, `q-${uuid()}`, ['w'], LEASE_MS);
    const { runId } = await perdure.workflows.startWorkflow(
      startRequest({ taskQueue: worker.taskQueue, maxLostLeases }),
    );
    return { worker, runId };
  };
  const expire = () => perdure.database.advanceClock(LEASE_MS + 1_000);
  const getRun = async (runId: string) => {
    const { run } = await perdure.workflows.getRun({ runId });
    if (run === undefined) throw new Error('no run');
    return run;
  };
  const history = async (runId: string) => (await perdure.workflows.getHistory({ runId })).steps;

  /** A run in its second lease, with what its first one left: an open step, a failed one, a timer. */
  const relapsed = async () => {
    const { worker } = await startOne();
    const first = await worker.claim();
    await perdure.workers.beginStep(begin(first, 'open'));
    await perdure.workers.beginStep(begin(first, 'failing', { seq: 2 }));
    await perdure.workers.failStep({
      ...fenceOf(first),
      stepId: 'failing',
      attemptNumber: 1,
      failure: failure(),
      retryAfter: { seconds: 1n },
    });
    await perdure.workers.scheduleSleep({
      ...fenceOf(first),
      stepId: 'timer',
      seq: 3,
      when: { case: 'duration', value: { seconds: 3_600n } },
    });
    await perdure.workers.releaseRun(fenceOf(first));
    return { first, second: await worker.claim() };
  };

  const writes: Record<string, (run: LeasedRun) => Promise<unknown>> = {
    GetMemo: (run) => perdure.workers.getMemo(fenceOf(run)),
    'BeginStep of a new step': (run) => perdure.workers.beginStep(begin(run, 'new', { seq: 9 })),
    'BeginStep of the next attempt': (run) =>
      perdure.workers.beginStep(begin(run, 'failing', { seq: 2, attemptNumber: 2 })),
    CompleteStep: (run) =>
      perdure.workers.completeStep({ ...fenceOf(run), stepId: 'open', attemptNumber: 1, eventSeq: 1 }),
    'CompleteStep with its beginning': (run) =>
      perdure.workers.completeStep({
        ...fenceOf(run),
        stepId: 'at once',
        attemptNumber: 1,
        eventSeq: 1,
        begin: { seq: 9, kind: StepKind.FUNCTION, countedAttempt: 1 },
      }),
    FailStep: (run) =>
      perdure.workers.failStep({ ...fenceOf(run), stepId: 'open', attemptNumber: 1, failure: failure(), eventSeq: 1 }),
    SettleStep: (run) =>
      perdure.workers.settleStep({
        ...fenceOf(run),
        stepId: 'failing',
        seq: 2,
        kind: StepKind.FUNCTION,
        attemptNumber: 1,
        status: StepStatus.FAILED,
        eventSeq: 1,
      }),
    ObserveCancel: (run) => perdure.workers.observeCancel({ ...fenceOf(run), eventSeq: 1 }),
    ScheduleSleep: (run) =>
      perdure.workers.scheduleSleep({ ...fenceOf(run), stepId: 'nap', seq: 9, when: { case: 'duration', value: {} } }),
    StartChildren: (run) =>
      perdure.workers.startChildren({
        ...fenceOf(run),
        children: [{ stepId: 'child', seq: 9, attemptNumber: 1, eventSeq: 9, workflowType: 'w' }],
      }),
    SuspendRun: (run) =>
      perdure.workers.suspendRun({
        ...fenceOf(run),
        waits: [{ stepId: 'timer', kind: { case: 'timer', value: {} } }],
      }),
    AnswerUpdate: (run) =>
      perdure.workers.answerUpdate({ ...fenceOf(run), stepId: 'open', answer: { case: 'completed', value: {} } }),
    SetRunState: (run) => perdure.workers.setRunState({ ...fenceOf(run), state: payload('stale'), seq: 1 }),
    CompleteWorkflow: (run) => perdure.workers.completeWorkflow({ ...fenceOf(run), output: payload('stale') }),
    'CompleteWorkflow with the last step': (run) =>
      perdure.workers.completeWorkflow({ ...fenceOf(run), output: payload('stale'), finalStep: finalStep('last', 9) }),
    FailWorkflow: (run) => perdure.workers.failWorkflow({ ...fenceOf(run), failure: failure('stale') }),
    'FailWorkflow with a retry': (run) =>
      perdure.workers.failWorkflow({ ...fenceOf(run), failure: failure('stale'), retryAfter: {} }),
    ConfirmCancel: (run) => perdure.workers.confirmCancel(fenceOf(run)),
    ContinueWorkflow: (run) => perdure.workers.continueWorkflow(fenceOf(run)),
    HoldRun: (run) => perdure.workers.holdRun({ ...fenceOf(run), failure: failure('stale') }),
  };
  for (const [name, write] of Object.entries(writes)) {
    it(`${name} refuses a stale lease token and changes nothing`, async () => {
      const { first, second } = await relapsed();
      const before = [await getRun(first.runId), await history(first.runId)];
      const error: RpcError = await refusal(write(first));
      expect(error).toMatchObject({ status: 'FAILED_PRECONDITION', reason: 'LEASE_LOST' });
      expect(error.metadata.run_id).toBe(first.runId);
      expect([await getRun(first.runId), await history(first.runId)]).toEqual(before);
      expect((await refusal(write({ ...second, leaseToken: second.leaseToken + 1 }))).reason).toBe('LEASE_LOST');
      // A run that is not there and one of another namespace look the same.
      expect((await refusal(write({ ...second, runId: uuid() }))).reason).toBe('RUN_NOT_FOUND');
    });
  }

  it('ReleaseRun refuses a stale lease token, but answers the repeat of a release', async () => {
    const { worker } = await startOne();
    const first = await worker.claim();
    await perdure.workers.releaseRun(fenceOf(first));
    await perdure.workers.releaseRun(fenceOf(first));
    const second = await worker.claim();
    expect((await refusal(perdure.workers.releaseRun(fenceOf(first)))).reason).toBe('LEASE_LOST');
    expect((await getRun(first.runId)).leaseToken).toBe(second.leaseToken);
  });

  it('ReleaseRun keeps the reason, and describe shows it', async () => {
    const { worker, runId } = await startOne();
    const run = await worker.claim();
    const reason = 'Its input cannot be decoded: unexpected token';
    await perdure.workers.releaseRun({ ...fenceOf(run), reason, delay: { seconds: 60n } });
    expect((await getRun(runId)).lastReleaseReason).toBe(reason);
    const sleeping = await perdure.workflows.describeRun({ runId });
    expect(sleeping.explanation).toMatch(
      /^Its worker gave it back: Its input cannot .*; it may be claimed again in .* s\.$/,
    );
    const { worker: next, runId: other } = await startOne();
    await perdure.workers.releaseRun({ ...fenceOf(await next.claim()), reason });
    expect((await perdure.workflows.describeRun({ runId: other })).explanation).toContain(reason);
    await perdure.workers.releaseRun(fenceOf(await next.claim()));
    expect((await getRun(other)).lastReleaseReason).toBe('');
  });

  it('RecordHeartbeat reports a stale lease as lost and renews the others', async () => {
    const { first, second } = await relapsed();
    const untilBefore = (await getRun(second.runId)).leaseExpiresAt;
    const { worker } = await startOne();
    const other = await worker.claim();
    const beat = await perdure.workers.recordHeartbeat({
      workerId: worker.workerId,
      leases: [
        { ...fenceOf(first), steps: [{ stepId: 'open', attemptNumber: 1, detail: payload('stale') }] },
        fenceOf(other),
      ],
    });
    expect(beat.leases.map(({ renewed }) => renewed)).toEqual([false, true]);
    expect((await getRun(second.runId)).leaseExpiresAt).toEqual(untilBefore);
    const { attempts } = await perdure.workflows.listStepAttempts({ runId: first.runId, stepId: 'open' });
    expect(attempts[0]?.heartbeat).toBeUndefined();
  });

  it('every acknowledged write may be repeated and is answered like the first call', async () => {
    const { worker } = await startOne();
    const run = await worker.claim();
    const began = await perdure.workers.beginStep(begin(run, 's'));
    expect(await perdure.workers.beginStep(begin(run, 's'))).toEqual(began);
    const complete = { ...fenceOf(run), stepId: 's', attemptNumber: 1, output: payload('x'), eventSeq: 1 };
    const completed = await perdure.workers.completeStep(complete);
    expect(await perdure.workers.completeStep(complete)).toEqual(completed);
    const sleep = {
      ...fenceOf(run),
      stepId: 'nap',
      seq: 2,
      when: { case: 'duration' as const, value: { seconds: 60n } },
    };
    const scheduled = await perdure.workers.scheduleSleep(sleep);
    expect((await perdure.workers.scheduleSleep(sleep)).firesAt).toEqual(scheduled.firesAt);
    const waits = [{ stepId: 'nap', kind: { case: 'timer' as const, value: {} } }];
    const suspended = await perdure.workers.suspendRun({ ...fenceOf(run), waits });
    expect(suspended.suspended).toBe(true);
    expect((await perdure.workers.suspendRun({ ...fenceOf(run), waits })).wakeAt).toEqual(suspended.wakeAt);
    expect(await history(run.runId)).toHaveLength(2);
  });

  it('a step that is recorded with its beginning obeys the same rules, and a repeat changes nothing', async () => {
    const { worker } = await startOne();
    const run = await worker.claim();
    const record = (more: object = {}) =>
      perdure.workers.completeStep({
        ...fenceOf(run),
        stepId: 's',
        attemptNumber: 1,
        eventSeq: 1,
        output: payload('x'),
        begin: { seq: 1, kind: StepKind.FUNCTION, countedAttempt: 1 },
        ...more,
      });
    const first = await record();
    expect(await record()).toEqual(first);
    expect((await refusal(record({ begin: { seq: 2, kind: StepKind.FUNCTION, countedAttempt: 1 } }))).reason).toBe(
      'STEP_MISMATCH',
    );
    expect((await refusal(record({ stepId: 'other', attemptNumber: 2 }))).reason).toBe('WRONG_ATTEMPT');
    await perdure.workers.beginStep(begin(run, 'failing', { seq: 2 }));
    const failed = { ...fenceOf(run), stepId: 'failing', attemptNumber: 1, failure: failure() };
    expect(
      (
        await refusal(
          record({
            stepId: 'failing',
            attemptNumber: 2,
            begin: { seq: 2, kind: StepKind.FUNCTION, countedAttempt: 2 },
          }),
        )
      ).reason,
    ).toBe('WRONG_ATTEMPT');
    await perdure.workers.failStep({ ...failed, retryAfter: {} });
    await record({
      stepId: 'failing',
      attemptNumber: 2,
      begin: { seq: 2, kind: StepKind.FUNCTION, countedAttempt: 2 },
    });
    const steps = await history(run.runId);
    expect(steps.map(({ stepId, attemptNumber, isLatest }) => [stepId, attemptNumber, isLatest])).toEqual([
      ['s', 1, true],
      ['failing', 1, false],
      ['failing', 2, true],
    ]);
    await perdure.workflows.cancelRun({ runId: run.runId });
    expect(
      (await refusal(record({ stepId: 'late', begin: { seq: 3, kind: StepKind.FUNCTION, countedAttempt: 1 } }))).reason,
    ).toBe('CANCEL_REQUESTED');
    await record({
      stepId: 'late',
      begin: { seq: 3, kind: StepKind.FUNCTION, countedAttempt: 1, uncancellable: true },
    });
  });

  it('the run of a dead worker is reclaimed: lease cleared, open attempt closed, attempt + 1', async () => {
    const { worker, runId } = await startOne();
    const first = await worker.claim();
    await perdure.workers.beginStep(begin(first, 's'));
    await expire();
    const second = await worker.claim();
    expect(second.runId).toBe(runId);
    expect(second.leaseToken).toBe(first.leaseToken + 1);
    expect(second.attempt).toBe(2);
    const [attempt] = await history(runId);
    expect(attempt).toMatchObject({ status: StepStatus.FAILED, attemptNumber: 1 });
    expect(attempt?.failure?.message).toMatch(/worker/i);
    expect(second.memo[0]).toMatchObject({ stepId: 's', status: StepStatus.FAILED });
    expect(
      (await refusal(perdure.workers.completeStep({ ...fenceOf(first), stepId: 's', attemptNumber: 1, eventSeq: 1 })))
        .reason,
    ).toBe('LEASE_LOST');
  });

  it('a run that loses its worker every time waits longer each time and FAILs at its limit', async () => {
    const { worker, runId } = await startOne(3);
    for (let n = 0; n < 3; n++) {
      await worker.claim();
      await expire();
    }
    const run = await until('the run to fail', async () => {
      const found = await getRun(runId);
      return found.status === RunStatus.FAILED ? found : undefined;
    });
    expect(run.failure?.reason).toBe(FailureReason.TOO_MANY_LOST_LEASES);
    expect(run.attempt).toBeGreaterThanOrEqual(3);
    expect(run.leasedBy).toBe('');
  });

  it('an attempt that a live worker does not end past its timeout is failed, and the run goes to another worker', async () => {
    const strict = await startPerdure({ server: { stepTimeoutGraceMs: 0 }, reaper: CLOCK_MOVING_REAPER });
    const worker = await registerRawWorker(strict, 'q', ['w'], 600_000);
    await strict.workflows.startWorkflow(startRequest());
    const stuck = await worker.claim();
    await strict.workers.beginStep({ ...begin(stuck, 'slow'), timeout: { seconds: 60n } });
    await strict.workers.beginStep(begin(stuck, 'beside', { seq: 2 }));
    // A worker that is silent may be dead, which would use up no try: this one renews its lease past the timeout.
    await strict.database.advanceClock(61_000);
    await strict.workers.recordHeartbeat({ workerId: worker.workerId, leases: [fenceOf(stuck)] });
    const next = await worker.claim();
    expect(next).toMatchObject({ runId: stuck.runId, leaseToken: stuck.leaseToken + 1 });
    const reasons = next.memo.map(({ stepId, failure }) => [stepId, failure?.reason]).sort();
    expect(reasons).toEqual([
      ['beside', FailureReason.WORKER_LOST],
      ['slow', FailureReason.STEP_TIMEOUT],
    ]);
    const late = strict.workers.completeStep({ ...fenceOf(stuck), stepId: 'slow', attemptNumber: 1, eventSeq: 1 });
    expect((await refusal(late)).reason).toBe('LEASE_LOST');
    await strict.stop();
  });

  it('a worker that gives up a suspect, in any way, is given the next one at once', async () => {
    // No look but the first, and those that somebody asks for.
    const quiet = await startPerdure({ server: { pollFallbackMs: 60_000 }, reaper: false });
    const worker = await registerRawWorker(quiet, 'q');
    await quiet.workflows.startWorkflows({ runs: Array.from({ length: 6 }, () => startRequest()) });
    await quiet.database.sql`update perdure.workflow_runs set lost_leases = 2, counted_losses = 0`;
    const nap = { stepId: 'nap', seq: 1, when: { case: 'duration' as const, value: { seconds: 60n } } };
    const waits = [{ stepId: 'nap', kind: { case: 'timer' as const, value: {} } }];
    const delay = { seconds: 60n };
    const givingUp: ((run: LeasedRun) => Promise<unknown>)[] = [
      (run) => quiet.workers.completeWorkflow(fenceOf(run)),
      (run) => quiet.workers.failWorkflow({ ...fenceOf(run), failure: failure() }),
      (run) => quiet.workers.failWorkflow({ ...fenceOf(run), failure: failure(), retryAfter: delay }),
      (run) => quiet.workers.releaseRun({ ...fenceOf(run), delay }),
      async (run) => {
        await quiet.workers.scheduleSleep({ ...fenceOf(run), ...nap });
        await quiet.workers.suspendRun({ ...fenceOf(run), waits });
      },
    ];
    let held = await worker.claim();
    const seen = [held.runId];
    for (const giveUp of givingUp) {
      const next = worker.poll(20_000);
      await worker.waiting();
      await giveUp(held);
      held = (await next) ?? expect.fail('The next suspect did not come.');
      seen.push(held.runId);
    }
    expect(new Set(seen).size).toBe(6);
    await quiet.stop();
  });

  it('several reapers side by side wake every sleeper and reclaim every lease once', async () => {
    const crowd = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
    for (let n = 0; n < 2; n++) crowd.startReaper(CLOCK_MOVING_REAPER);
    const worker = await registerRawWorker(crowd, 'q', ['w'], 600_000);
    const runs = Array.from({ length: 60 }, () => startRequest());
    await crowd.workflows.startWorkflows({ runs });
    const leased: LeasedRun[] = [];
    for (let n = 0; n < 60; n++) leased.push(await worker.claim());
    // Half of them sleep, the others lose their worker.
    await Promise.all(
      leased.slice(0, 30).map(async (run) => {
        const nap = { stepId: 'nap', seq: 1, when: { case: 'duration' as const, value: { seconds: 300n } } };
        await crowd.workers.scheduleSleep({ ...fenceOf(run), ...nap });
        const waits = [{ stepId: 'nap', kind: { case: 'timer' as const, value: {} } }];
        await crowd.workers.suspendRun({ ...fenceOf(run), waits });
      }),
    );
    await crowd.database.advanceClock(601_000);
    const again: LeasedRun[] = [];
    for (let n = 0; n < 60; n++) again.push(await worker.claim());
    expect(new Set(again.map(({ runId }) => runId)).size).toBe(60);
    expect(again.every(({ leaseToken }) => leaseToken === 2)).toBe(true);
    const slept = new Set(leased.slice(0, 30).map(({ runId }) => runId));
    for (const { runId, attempt } of again) expect(attempt).toBe(slept.has(runId) ? 1 : 2);
    await crowd.stop();
  });

  it('heartbeats keep a lease for as long as they arrive', async () => {
    const { worker, runId } = await startOne();
    const run = await worker.claim();
    for (let n = 0; n < 5; n++) {
      await perdure.database.advanceClock(LEASE_MS * 0.6);
      const { leases } = await perdure.workers.recordHeartbeat({ workerId: worker.workerId, leases: [fenceOf(run)] });
      expect(leases[0]?.renewed).toBe(true);
    }
    expect((await getRun(runId)).leaseToken).toBe(run.leaseToken);
    await perdure.workers.completeWorkflow(fenceOf(run));
  });

  it('a claim race has one winner per run', async () => {
    const taskQueue = `q-${uuid()}`;
    const workers = await Promise.all(Array.from({ length: 5 }, () => registerRawWorker(perdure, taskQueue)));
    const polls = workers.flatMap((worker) => Array.from({ length: 8 }, () => worker.poll(20_000)));
    await pollsWait(perdure, taskQueue, 40);
    await perdure.workflows.startWorkflows({ runs: Array.from({ length: 30 }, () => startRequest({ taskQueue })) });
    let answered = 0;
    for (const poll of polls) void poll.then(() => answered++);
    await until('a poll per run to be answered', () => answered === 30);
    // Ends the others.
    for (const { workerId } of workers) await perdure.workers.deregisterWorker({ workerId });
    const claimed = (await Promise.all(polls)).filter((run) => run !== undefined);
    expect(claimed).toHaveLength(30);
    expect(new Set(claimed.map(({ runId }) => runId)).size).toBe(30);
    expect(claimed.every(({ leaseToken }) => leaseToken === 1)).toBe(true);
  });

  it('a poll whose client has left gets no run', async () => {
    const { worker } = await startOne();
    await perdure.workers.completeWorkflow(fenceOf(await worker.claim()));
    const controller = new AbortController();
    const gone = perdure.workers.pollActivity(
      { workerId: worker.workerId, taskQueue: worker.taskQueue, wait: { seconds: 20n } },
      { signal: controller.signal },
    );
    await worker.waiting();
    controller.abort();
    expect((await refusal(gone)).status).toBe('CANCELLED');
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    expect(run.attempt).toBe(1);
    await perdure.workers.completeWorkflow(fenceOf(run));
  });

  it('higher priority is claimed first, then the older', async () => {
    const worker = await registerRawWorker(perdure, `q-${uuid()}`);
    const ids: string[] = [];
    for (const priority of [0, 5, 0, 5]) {
      ids.push((await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue, priority }))).runId);
    }
    const order: string[] = [];
    for (let n = 0; n < 4; n++) order.push((await worker.claim()).runId);
    expect(order).toEqual([ids[1], ids[3], ids[0], ids[2]]);
  });
});
