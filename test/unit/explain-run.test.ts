import { WaitReason } from '@perdure/proto';
import type { Failure, Run, RunFacts, StepAttempt, WorkerWithRuns } from '@perdure/store';
import { describe, expect, it } from 'vitest';
import { explainRun } from '../../packages/server/dist/services/explain-run.js';

const NOW = new Date('2026-11-23T20:00:00Z');
const inMs = (ms: number) => new Date(NOW.getTime() + ms);
const WORKER_ID = '01a20a24-0000-7000-8000-000000000001';

const run = (fields: Partial<Run>): Run => ({
  runId: 'r',
  namespace: 'default',
  workflowId: 'w-1',
  workflowType: 'checkout',
  build: '',
  taskQueue: 'q',
  priority: 0,
  status: 'RUNNING',
  yieldReason: null,
  attempt: 1,
  leaseToken: 1,
  leasedBy: null,
  leaseExpiresAt: null,
  availableAt: null,
  wakeAt: null,
  runDeadlineAt: null,
  executionDeadlineAt: null,
  startDeadlineAt: null,
  chainDeadlineAt: null,
  cancelRequestedAt: null,
  cancelReason: null,
  lastReleaseReason: null,
  lostLeases: 0,
  retries: 0,
  createdAt: inMs(-60_000),
  startedAt: inMs(-60_000),
  updatedAt: inMs(-60_000),
  finishedAt: null,
  failure: null,
  compensation: null,
  parent: null,
  origin: null,
  firstRunId: null,
  nextRunId: null,
  retriedAt: null,
  failureFingerprint: null,
  resolvedAt: null,
  pause: null,
  ...fields,
});
const step = (fields: Partial<StepAttempt>): StepAttempt => ({
  runId: 'r',
  stepId: 's',
  seq: 1,
  kind: 'FUNCTION',
  awaits: null,
  actionSeq: null,
  attemptNumber: 1,
  countedAttempt: 1,
  maxCountedAttempts: 3,
  isLatest: true,
  isCut: false,
  status: 'RUNNING',
  workerId: WORKER_ID,
  leaseToken: 1,
  eventSeq: null,
  startedAt: inMs(-30_000),
  finishedAt: null,
  nextRetryAt: null,
  firesAt: null,
  deadlineAt: null,
  failure: null,
  ...fields,
});
const worker = (fields: Partial<WorkerWithRuns> = {}): WorkerWithRuns => ({
  workerId: WORKER_ID,
  namespace: 'default',
  taskQueue: 'q',
  workflowTypes: ['checkout'],
  build: 'b7',
  identity: 'web-3:4711',
  slots: 10,
  leaseMs: 10_000,
  status: 'ONLINE',
  registeredAt: inMs(-100_000),
  lastSeenAt: inMs(-1_000),
  running: 1,
  ...fields,
});
const facts = (fields: Partial<RunFacts> = {}): RunFacts => ({
  pauses: [],
  now: NOW,
  currentSteps: [],
  completedSteps: 0,
  attempts: 0,
  workersOnline: 1,
  workersWithType: 1,
  holder: null,
  lastStepEndedAt: null,
  failedSteps: [],
  reapersAlive: 1,
  actions: [],
  lostLeases: [],
  ...fields,
});
const failure = (fields: Partial<Failure> = {}): Failure => ({
  type: 'Error',
  message: 'no good',
  reason: 'APPLICATION',
  ...fields,
});
const running = { status: 'RUNNING', leasedBy: WORKER_ID, leaseExpiresAt: inMs(8_000) } as const;
const held = { holder: worker() };
const declined = failure({ type: 'CardDeclined', code: 'card_declined', message: 'limit' });
const ended = { finishedAt: inMs(-59_942) };

const cases: readonly (readonly [string, Run, RunFacts, WaitReason, string])[] = [
  [
    'A step that executes is named with its attempt, its age, its timeout, and the worker by name and build.',
    run(running),
    facts({
      ...held,
      currentSteps: [step({ stepId: 'import', countedAttempt: 2, attemptNumber: 2, deadlineAt: inMs(270_000) })],
    }),
    WaitReason.EXECUTING,
    "Worker web-3:4711 (build b7) is executing step 'import' (attempt 2 of 3, for 30 s, times out in 4.5 min).",
  ],
  [
    'Every branch of a running run is named, sleeps and retries as what they are.',
    run(running),
    facts({
      ...held,
      currentSteps: [
        step({ stepId: 'a', maxCountedAttempts: 0 }),
        step({ stepId: 'timer', kind: 'SLEEP', firesAt: inMs(3_000), maxCountedAttempts: 1 }),
        step({ stepId: 'pay', status: 'FAILED', nextRetryAt: inMs(5_000), failure: failure() }),
      ],
    }),
    WaitReason.EXECUTING,
    "Worker web-3:4711 (build b7) is executing step 'a' (attempt 1, for 30 s). Meanwhile 'timer' sleeps and wakes in 3 s and step 'pay' is retried in 5 s after attempt 1 of 3 failed with Error: no good.",
  ],
  [
    'Between steps it says since when, counted from the last change.',
    run(running),
    facts({ ...held, lastStepEndedAt: inMs(-4_000) }),
    WaitReason.EXECUTING,
    "Worker web-3:4711 (build b7) is executing the workflow's code, between steps, for 4 s.",
  ],
  [
    'A worker that has missed renewals is said to be silent, with the end of its lease.',
    run({ ...running, leaseExpiresAt: inMs(2_000) }),
    facts({ holder: worker({ build: '', lastSeenAt: inMs(-8_000) }), currentSteps: [step({})] }),
    WaitReason.EXECUTING,
    "Worker web-3:4711 is executing step 's' (attempt 1 of 3, for 30 s). It was last seen 8 s ago; its lease expires in 2 s.",
  ],
  [
    'A lost lease is explained with when its worker was last seen, and a reaper is promised only when one is alive.',
    run({ ...running, leaseExpiresAt: inMs(-12_000) }),
    facts({ holder: worker({ lastSeenAt: inMs(-22_000) }) }),
    WaitReason.LEASE_EXPIRED,
    'Worker web-3:4711 (build b7) did not renew its lease, which expired 12 s ago; it was last seen 22 s ago. A reaper will reclaim the run.',
  ],
  [
    'A lost lease without a reaper says that no reaper will reclaim the run.',
    run({ ...running, leaseExpiresAt: inMs(-12_000) }),
    facts({ reapersAlive: 0 }),
    WaitReason.LEASE_EXPIRED,
    `Worker ${WORKER_ID} did not renew its lease, which expired 12 s ago. No reaper is running to reclaim the run.`,
  ],
  [
    'A requested cancel is shown for as long as the run has not ended.',
    run({ ...running, cancelRequestedAt: inMs(-3_000), cancelReason: 'stop it' }),
    facts({ ...held, currentSteps: [step({})] }),
    WaitReason.EXECUTING,
    "Worker web-3:4711 (build b7) is executing step 's' (attempt 1 of 3, for 30 s). A cancel was requested 3 s ago ('stop it'); the run ends when its code has cleaned up.",
  ],
  [
    'A claimable run without workers says how long it has waited.',
    run({ status: 'PENDING', availableAt: inMs(-43_700) }),
    facts({ workersOnline: 0, workersWithType: 0 }),
    WaitReason.NO_WORKER,
    "No worker polls task queue 'q'. Start one, or check its queue and namespace. It has waited for 43.7 s.",
  ],
  [
    'A run with a start timeout says when it FAILs.',
    run({ status: 'PENDING', availableAt: inMs(-1_000), startDeadlineAt: inMs(59_000) }),
    facts({ workersOnline: 0, workersWithType: 0 }),
    WaitReason.NO_WORKER,
    "No worker polls task queue 'q'. Start one, or check its queue and namespace. It has waited for 1 s. It FAILs in 59 s unless a worker claims it before (start timeout).",
  ],
  [
    'One worker without the type is a singular.',
    run({ status: 'PENDING', availableAt: inMs(-1_000) }),
    facts({ workersWithType: 0 }),
    WaitReason.NO_WORKER_FOR_TYPE,
    "1 worker is online for task queue 'q', but it has not registered workflow 'checkout'. It has waited for 1 s.",
  ],
  [
    'Several workers without the type are a plural.',
    run({ status: 'PENDING', availableAt: inMs(-1_000) }),
    facts({ workersOnline: 3, workersWithType: 0 }),
    WaitReason.NO_WORKER_FOR_TYPE,
    "3 workers are online for task queue 'q', but none has registered workflow 'checkout'. It has waited for 1 s.",
  ],
  [
    'A run that waits for a slot says that it lost its worker.',
    run({ status: 'PENDING', availableAt: inMs(-1_000), lostLeases: 1 }),
    facts({ workersWithType: 2 }),
    WaitReason.NO_FREE_SLOT,
    'It waits for a free slot; 2 workers online can execute it. It has waited for 1 s. Its last worker was lost.',
  ],
  [
    'A sleep says when it wakes.',
    run({ status: 'SLEEPING', yieldReason: 'SUSPEND', wakeAt: inMs(3_054_000) }),
    facts({ currentSteps: [step({ stepId: 'cooling', kind: 'SLEEP', firesAt: inMs(3_054_000) })] }),
    WaitReason.TIMER,
    "It sleeps in 'cooling'; it wakes in 50.9 min.",
  ],
  [
    'An overdue sleep without any reaper says that nobody wakes it.',
    run({ status: 'SLEEPING', yieldReason: 'SUSPEND', wakeAt: inMs(-55_000) }),
    facts({ currentSteps: [step({ stepId: 'nap', kind: 'SLEEP', firesAt: inMs(-55_000) })], reapersAlive: 0 }),
    WaitReason.TIMER,
    "It sleeps in 'nap'; that was due 55 s ago. No reaper is running to wake it.",
  ],
  [
    'An overdue sleep with reapers alive says that they are late.',
    run({ status: 'SLEEPING', yieldReason: 'SUSPEND', wakeAt: inMs(-55_000) }),
    facts(),
    WaitReason.TIMER,
    'It sleeps; that was due 55 s ago. The reapers are late.',
  ],
  [
    'A retry names the error with its code on one line, its cause, and every other branch.',
    run({ status: 'SLEEPING', yieldReason: 'SUSPEND', wakeAt: inMs(15_200) }),
    facts({
      currentSteps: [
        step({
          stepId: 'call payment api',
          status: 'FAILED',
          attemptNumber: 5,
          countedAttempt: 4,
          maxCountedAttempts: 10,
          nextRetryAt: inMs(15_200),
          failure: failure({
            code: 'HTTP_503',
            message: 'HTTP 503\nretry-after: 60\n<html>body</html>',
            cause: failure({
              type: 'FetchError',
              message: 'x',
              cause: failure({ code: 'ECONNREFUSED', message: 'connect 10.0.0.7' }),
            }),
          }),
        }),
        step({ stepId: 'limit', kind: 'SLEEP', firesAt: inMs(60_000) }),
      ],
    }),
    WaitReason.STEP_RETRY,
    "Attempt 5, counted as 4 of 10 of step 'call payment api' failed with Error [HTTP_503]: HTTP 503 ⏎ retry-after: 60 ⏎ <html>body</html> (caused by Error [ECONNREFUSED]: connect 10.0.0.7); the next one begins in 15.2 s. Meanwhile 'limit' sleeps and wakes in 1 min.",
  ],
  [
    'The backoff before the next attempt of the run names the error.',
    run({ status: 'SLEEPING', yieldReason: 'RUN_RETRY', attempt: 3, wakeAt: inMs(2_000), failure: failure() }),
    facts(),
    WaitReason.RUN_RETRY,
    'Attempt 2 of the run failed with Error: no good; the next one begins in 2 s.',
  ],
  [
    'The backoff after lost workers counts them.',
    run({ status: 'SLEEPING', yieldReason: 'RECLAIM', lostLeases: 2, wakeAt: inMs(2_000) }),
    facts(),
    WaitReason.RECLAIM_BACKOFF,
    'Its last 2 workers were lost. It may be claimed again in 2 s.',
  ],
  [
    'A run that was given back says so.',
    run({ status: 'SLEEPING', yieldReason: 'RELEASE', wakeAt: inMs(2_000) }),
    facts(),
    WaitReason.RECLAIM_BACKOFF,
    'Its worker gave it back; it may be claimed again in 2 s.',
  ],
  [
    'A delayed start says when it begins.',
    run({ status: 'SLEEPING', yieldReason: 'START_DELAY', wakeAt: inMs(7_200_000) }),
    facts(),
    WaitReason.START_DELAY,
    'Its start is delayed; it begins in 2 h.',
  ],
  [
    'A failed run names the step whose error ended it, and why that was not retried.',
    run({ status: 'FAILED', ...ended, failure: declined }),
    facts({ failedSteps: [step({ stepId: 'charge', status: 'FAILED', failure: declined })] }),
    WaitReason.UNSPECIFIED,
    "Step 'charge' failed with CardDeclined [card_declined]: limit. It was attempt 1 of 3; not retried, because of stopOn or retryOn in its retry policy.",
  ],
  [
    'A terminal error is given as the reason why there was no retry.',
    run({ status: 'FAILED', ...ended, failure: failure({ type: 'TerminalError', nonRetryable: true }) }),
    facts({
      failedSteps: [step({ status: 'FAILED', failure: failure({ type: 'TerminalError', nonRetryable: true }) })],
    }),
    WaitReason.UNSPECIFIED,
    "Step 's' failed with TerminalError: no good. It was attempt 1 of 3; not retried, because the error is non-retryable.",
  ],
  [
    "A step's error in the chain of causes is named as the cause, and attempts of the run are counted.",
    run({
      status: 'FAILED',
      ...ended,
      retries: 2,
      failure: failure({ type: 'OrderError', message: 'order failed', cause: declined }),
    }),
    facts({
      failedSteps: [
        step({ stepId: 'charge', status: 'FAILED', countedAttempt: 3, attemptNumber: 3, failure: declined }),
      ],
    }),
    WaitReason.UNSPECIFIED,
    "The workflow failed with OrderError: order failed, because step 'charge' failed with CardDeclined [card_declined]: limit. It was attempt 3 of 3; no attempts are left. It was the run's last of 3 attempts.",
  ],
  [
    "An error of the workflow's own code names no step.",
    run({ status: 'FAILED', ...ended, failure: failure({ type: 'TypeError' }) }),
    facts(),
    WaitReason.UNSPECIFIED,
    "The workflow's code failed with TypeError: no good.",
  ],
  [
    'A failure that Perdure found is told in its own words.',
    run({
      status: 'FAILED',
      ...ended,
      failure: failure({ reason: 'RUN_TIMEOUT', message: 'The run did not end in time.' }),
    }),
    facts(),
    WaitReason.UNSPECIFIED,
    'It failed: The run did not end in time.',
  ],
  [
    'A completed run says how long it took.',
    run({ status: 'COMPLETED', ...ended }),
    facts(),
    WaitReason.UNSPECIFIED,
    'It COMPLETED after 58 ms.',
  ],
  [
    'A waiting run says for what, since when and until when, and what else its branches do.',
    run({ status: 'WAITING', wakeAt: inMs(3_600_000) }),
    facts({
      currentSteps: [
        step({ kind: 'SIGNAL', awaits: 'go', firesAt: inMs(3_600_000) }),
        step({ kind: 'EVENT', awaits: JSON.stringify({ namespace: 'default', name: 'paid', key: 'k' }) }),
        step({ kind: 'PROMISE', stepId: 'approval', awaits: 'f00' }),
        step({ kind: 'CHILD', stepId: 'child', awaits: 'order-7' }),
        step({ kind: 'SLEEP', stepId: 'nap', firesAt: inMs(7_200_000) }),
      ],
    }),
    WaitReason.ARRIVAL,
    "It waits for signal 'go' (for 30 s, times out in 1 h), event 'paid' with key 'k' (for 30 s), promise 'approval' (for 30 s) and child run order-7 (step 'child') (for 30 s). Meanwhile 'nap' sleeps and wakes in 2 h.",
  ],
  [
    'A waiting run whose timeouts nobody ends says so.',
    run({ status: 'WAITING', wakeAt: inMs(-60_000) }),
    facts({ reapersAlive: 0, currentSteps: [step({ kind: 'SIGNAL', awaits: 'go', firesAt: inMs(-60_000) })] }),
    WaitReason.ARRIVAL,
    "It waits for signal 'go' (for 30 s, times out now). It was due to wake 1 min ago. No reaper is running to end its timeouts.",
  ],
  [
    'A running run names the waits beside its bodies.',
    run({ leasedBy: WORKER_ID, leaseExpiresAt: inMs(9_000) }),
    facts({ holder: worker(), currentSteps: [step({}), step({ kind: 'SIGNAL', stepId: 'go', awaits: 'go' })] }),
    WaitReason.EXECUTING,
    "Worker web-3:4711 (build b7) is executing step 's' (attempt 1 of 3, for 30 s). Meanwhile 'go' waits for signal 'go' (for 30 s).",
  ],
  [
    'A cancelled run says why.',
    run({ status: 'CANCELLED', ...ended, cancelReason: 'stop it', cancelRequestedAt: inMs(-60_000) }),
    facts(),
    WaitReason.UNSPECIFIED,
    "It was CANCELLED after 58 ms ('stop it').",
  ],
  [
    'A terminated run says by which words.',
    run({
      status: 'TERMINATED',
      ...ended,
      failure: failure({ reason: 'TERMINATED', message: 'The run was terminated: x' }),
    }),
    facts(),
    WaitReason.UNSPECIFIED,
    'TERMINATED: The run was terminated: x',
  ],
];

describe('explainRun', () => {
  it.each(cases)('%s', (_, given, known, reason, text) => {
    expect(explainRun(given, known)).toEqual({ reason, text });
  });
});
