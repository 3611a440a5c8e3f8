/** Every state × every command: what happens, and that what must not happen does not. */
import {
  answerUpdates,
  awaitSteps,
  beginCompensations,
  beginSteps,
  cancelRuns,
  claimRuns,
  completeSteps,
  continueRuns,
  type Database,
  deleteRuns,
  dismissRuns,
  endRuns,
  endRunsWithStep,
  endSteps,
  failSteps,
  findRuns,
  forkRuns,
  holdRuns,
  type LeaseRef,
  observeCancels,
  openDatabase,
  pauseRuns,
  type RunStatus,
  recordSteps,
  registerWorkers,
  releaseRuns,
  renewLeases,
  restartRuns,
  resumeRuns,
  retryRunAttempts,
  retryRuns,
  scheduleSleeps,
  sendUpdates,
  setRunStates,
  settleSteps,
  startChildren,
  startRuns,
  suspendRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startCommand } from '../support/store.js';

const namespace = 'default';
const failure = { type: 'Error', message: 'm', reason: 'APPLICATION' } as const;

type State =
  | 'PENDING'
  | 'RUNNING'
  | 'SLEEPING'
  | 'WOKEN'
  | 'COMPLETED'
  | 'FAILED'
  | 'CANCELLED'
  | 'TERMINATED'
  | 'CONTINUED';
const STATES: readonly State[] = [
  'PENDING',
  'RUNNING',
  'SLEEPING',
  'WOKEN',
  'COMPLETED',
  'FAILED',
  'CANCELLED',
  'TERMINATED',
  'CONTINUED',
];

/** A run that is paused: while its worker holds it (PAUSING), or suspended (PAUSED). */
type PausedState = 'PAUSING' | 'PAUSED';
/** What a paused run answers, when it is not the same as without the pause. */
const PAUSED: Record<string, Partial<Record<PausedState, string>>> = {
  beginStep: { PAUSING: 'paused' },
  recordStep: { PAUSING: 'paused' },
  completeRunWithStep: { PAUSING: 'paused' },
  scheduleSleep: { PAUSING: 'paused' },
  startChild: { PAUSING: 'paused' },
  awaitStep: { PAUSING: 'paused' },
  pauseRun: { PAUSING: 'already_paused', PAUSED: 'already_paused' },
  resumeRun: { PAUSING: 'resumed', PAUSED: 'resumed' },
};

type Command = (db: Database, lease: LeaseRef) => Promise<readonly { readonly kind: string }[]>;

/** The lease is the one that brought the run into its state: a repeat of that very command is answered as one. */
const COMMANDS: Record<string, { readonly run: Command; readonly expected: Record<State, string> }> = {
  beginStep: {
    run: (db, lease) =>
      beginSteps(db, [
        {
          ...lease,
          stepId: 'new',
          seq: 9,
          stepKind: 'FUNCTION',
          attemptNumber: 1,
          countedAttempt: 1,
          maxCountedAttempts: 0,
          timeoutMs: 0,
          input: null,
          uncancellable: false,
        },
      ]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'begun',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  recordStep: {
    run: (db, lease) =>
      recordSteps(db, [
        {
          ...lease,
          stepId: 'at once',
          seq: 9,
          stepKind: 'FUNCTION',
          attemptNumber: 1,
          countedAttempt: 1,
          maxCountedAttempts: 0,
          uncancellable: false,
          output: null,
          eventSeq: 1,
        },
      ]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'recorded',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  completeStep: {
    run: (db, lease) => completeSteps(db, [{ ...lease, stepId: 'open', attemptNumber: 1, output: null, eventSeq: 1 }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'completed',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  failStep: {
    run: (db, lease) =>
      failSteps(db, [{ ...lease, stepId: 'open', attemptNumber: 1, failure, retryAfterMs: null, eventSeq: 1 }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'failed',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  scheduleSleep: {
    run: (db, lease) =>
      scheduleSleeps(db, [
        { ...lease, stepId: 'later', seq: 8, durationMs: 1, until: null, uncancellable: false, attemptNumber: 1 },
      ]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'scheduled',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  settleStep: {
    run: (db, lease) =>
      settleSteps(db, [
        { ...lease, stepId: 'new', seq: 8, stepKind: 'FUNCTION', attemptNumber: 0, status: 'CANCELLED', eventSeq: 1 },
      ]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'cancel_not_requested',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  beginCompensation: {
    run: (db, lease) => beginCompensations(db, [lease]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'compensating',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  observeCancel: {
    run: (db, lease) => observeCancels(db, [{ ...lease, eventSeq: 1 }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'cancel_not_requested',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  startChild: {
    run: (db, lease) =>
      startChildren(db, [
        {
          ...lease,
          stepId: 'child',
          seq: 9,
          attemptNumber: 1,
          eventSeq: 1,
          uncancellable: false,
          childRunId: uuid(),
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
        },
      ]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'started',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  suspendRun: {
    run: (db, lease) =>
      suspendRuns(db, [{ ...lease, waits: [{ stepId: 'nap', on: 'TIMER' }], arrivalsAwaited: 0, isKept: false }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'suspended',
      SLEEPING: 'already_suspended',
      WOKEN: 'already_suspended',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  completeRun: {
    run: (db, lease) => endRuns(db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: true }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'ended',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'already_ended',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  completeRunWithStep: {
    run: (db, lease) =>
      endRunsWithStep(db, [
        {
          step: {
            ...lease,
            stepId: 'last',
            seq: 77,
            stepKind: 'FUNCTION',
            attemptNumber: 1,
            countedAttempt: 1,
            maxCountedAttempts: 1,
            uncancellable: false,
            output: null,
            eventSeq: 77,
          },
          end: { ...lease, end: 'COMPLETED', output: null, hasOpenSteps: true },
        },
      ]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'ended',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'already_ended',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  failRun: {
    run: (db, lease) => endRuns(db, [{ ...lease, end: 'FAILED', failure }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'ended',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'already_ended',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  confirmCancel: {
    run: (db, lease) => endRuns(db, [{ ...lease, end: 'CANCELLED' }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'cancel_not_requested',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'already_ended',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  retryRunAttempt: {
    run: (db, lease) => retryRunAttempts(db, [{ ...lease, failure, retryAfterMs: 1_000, cut: null }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'retrying',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  continueRun: {
    run: (db, lease) =>
      continueRuns(db, [
        {
          ...lease,
          input: null,
          taskQueue: 'elsewhere',
          priority: null,
          startDelayMs: 0,
          runTimeoutMs: null,
          executionTimeoutMs: null,
          hasOpenSteps: true,
        },
      ]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'continued',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'already_continued',
    },
  },
  releaseRun: {
    run: (db, lease) => releaseRuns(db, [{ ...lease, delayMs: 0, reason: '' }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'released',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  renewLease: {
    run: (db, lease) => renewLeases(db, [lease]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'renewed',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  cancelRun: {
    run: (db, { runId }) => cancelRuns(db, [{ namespace, runId, reason: '' }]),
    expected: {
      PENDING: 'cancelled',
      RUNNING: 'requested',
      SLEEPING: 'requested',
      WOKEN: 'requested',
      COMPLETED: 'wrong_state',
      FAILED: 'wrong_state',
      CANCELLED: 'already_requested',
      TERMINATED: 'wrong_state',
      CONTINUED: 'wrong_state',
    },
  },
  terminateRun: {
    run: (db, { runId }) => terminateRuns(db, [{ namespace, runId, reason: '' }]),
    expected: {
      PENDING: 'terminated',
      RUNNING: 'terminated',
      SLEEPING: 'terminated',
      WOKEN: 'terminated',
      COMPLETED: 'wrong_state',
      FAILED: 'wrong_state',
      CANCELLED: 'wrong_state',
      TERMINATED: 'already_terminated',
      CONTINUED: 'wrong_state',
    },
  },
  awaitStep: {
    run: (db, lease) =>
      awaitSteps(db, [
        {
          ...lease,
          stepId: 'go',
          seq: 9,
          stepKind: 'SIGNAL',
          attemptNumber: 1,
          awaits: 'go',
          timeoutMs: null,
          eventSeq: 1,
          uncancellable: false,
        },
      ]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'waiting',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  pauseRun: {
    run: (db, { runId, namespace: of }) => pauseRuns(db, [{ namespace: of, runId, reason: '', by: '' }]),
    expected: {
      PENDING: 'paused',
      RUNNING: 'paused',
      SLEEPING: 'paused',
      WOKEN: 'paused',
      COMPLETED: 'run_closed',
      FAILED: 'run_closed',
      CANCELLED: 'run_closed',
      TERMINATED: 'run_closed',
      CONTINUED: 'run_closed',
    },
  },
  resumeRun: {
    run: (db, { runId, namespace: of }) => resumeRuns(db, [{ namespace: of, runId, by: '' }]),
    expected: {
      PENDING: 'not_paused',
      RUNNING: 'not_paused',
      SLEEPING: 'not_paused',
      WOKEN: 'not_paused',
      COMPLETED: 'run_closed',
      FAILED: 'run_closed',
      CANCELLED: 'run_closed',
      TERMINATED: 'run_closed',
      CONTINUED: 'run_closed',
    },
  },
  holdRun: {
    run: (db, lease) => holdRuns(db, [{ ...lease, failure }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'held',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  answerUpdate: {
    run: (db, lease) => answerUpdates(db, [{ ...lease, stepId: 'open', answer: { kind: 'COMPLETED', output: null } }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'update_not_found',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  setRunState: {
    run: (db, lease) => setRunStates(db, [{ ...lease, state: null, seq: 1 }]),
    expected: {
      PENDING: 'lease_lost',
      RUNNING: 'set',
      SLEEPING: 'lease_lost',
      WOKEN: 'lease_lost',
      COMPLETED: 'lease_lost',
      FAILED: 'lease_lost',
      CANCELLED: 'lease_lost',
      TERMINATED: 'lease_lost',
      CONTINUED: 'lease_lost',
    },
  },
  sendUpdate: {
    run: (db, { runId, namespace: of }) =>
      sendUpdates(db, [
        { namespace: of, runId, name: 'n', payload: null, requestId: uuid(), sender: '', maxUnanswered: 10 },
      ]),
    expected: {
      PENDING: 'sent',
      RUNNING: 'sent',
      SLEEPING: 'sent',
      WOKEN: 'sent',
      COMPLETED: 'run_closed',
      FAILED: 'run_closed',
      CANCELLED: 'run_closed',
      TERMINATED: 'run_closed',
      CONTINUED: 'run_closed',
    },
  },
  retryRun: {
    run: (db, { namespace: of, runId }) =>
      retryRuns(db, [{ namespace: of, runId, actor: 'a', reason: 'r', requestId: null }]),
    expected: {
      PENDING: 'wrong_state',
      RUNNING: 'wrong_state',
      SLEEPING: 'wrong_state',
      WOKEN: 'wrong_state',
      COMPLETED: 'wrong_state',
      FAILED: 'retried',
      CANCELLED: 'retried',
      TERMINATED: 'retried',
      CONTINUED: 'wrong_state',
    },
  },
  forkRun: {
    run: (db, { namespace: of, runId }) =>
      forkRuns(db, [
        {
          namespace: of,
          runId,
          actor: 'a',
          reason: 'r',
          requestId: null,
          stepId: 'nap',
          workflowId: `fork of ${runId}`,
          input: null,
        },
      ]),
    expected: {
      PENDING: 'step_not_found',
      RUNNING: 'forked',
      SLEEPING: 'forked',
      WOKEN: 'forked',
      COMPLETED: 'forked',
      FAILED: 'forked',
      CANCELLED: 'forked',
      TERMINATED: 'forked',
      CONTINUED: 'forked',
    },
  },
  dismissRun: {
    run: (db, { namespace: of, runId }) =>
      dismissRuns(db, [{ namespace: of, runId, actor: 'a', reason: 'r', requestId: null }]),
    expected: {
      PENDING: 'wrong_state',
      RUNNING: 'wrong_state',
      SLEEPING: 'wrong_state',
      WOKEN: 'wrong_state',
      COMPLETED: 'wrong_state',
      FAILED: 'dismissed',
      CANCELLED: 'wrong_state',
      TERMINATED: 'wrong_state',
      CONTINUED: 'wrong_state',
    },
  },
  endStep: {
    run: (db, { namespace: of, runId }) =>
      endSteps(db, [
        {
          namespace: of,
          runId,
          actor: 'a',
          reason: 'r',
          requestId: null,
          stepId: 'open',
          outcome: { kind: 'SKIPPED' },
        },
      ]),
    expected: {
      PENDING: 'step_not_found',
      RUNNING: 'ended',
      SLEEPING: 'ended',
      WOKEN: 'ended',
      COMPLETED: 'wrong_state',
      FAILED: 'ended',
      CANCELLED: 'ended',
      TERMINATED: 'ended',
      CONTINUED: 'wrong_state',
    },
  },
  restartRun: {
    run: (db, { namespace: of, runId }) =>
      restartRuns(db, [{ namespace: of, runId, actor: 'a', reason: 'r', requestId: null, workflowId: null }]),
    expected: {
      PENDING: 'workflow_id_taken',
      RUNNING: 'workflow_id_taken',
      SLEEPING: 'workflow_id_taken',
      WOKEN: 'workflow_id_taken',
      COMPLETED: 'restarted',
      FAILED: 'restarted',
      CANCELLED: 'restarted',
      TERMINATED: 'restarted',
      CONTINUED: 'restarted',
    },
  },
  deleteRun: {
    run: (db, { namespace, runId }) => deleteRuns(db, [{ namespace, runId }]),
    expected: {
      PENDING: 'wrong_state',
      RUNNING: 'wrong_state',
      SLEEPING: 'wrong_state',
      WOKEN: 'wrong_state',
      COMPLETED: 'deleted',
      FAILED: 'deleted',
      CANCELLED: 'deleted',
      TERMINATED: 'deleted',
      CONTINUED: 'deleted',
    },
  },
};
const CHANGES = new Set([
  'compensating',
  'begun',
  'recorded',
  'completed',
  'failed',
  'scheduled',
  'started',
  'suspended',
  'ended',
  'retrying',
  'released',
  'renewed',
  'cancelled',
  'requested',
  'terminated',
  'deleted',
  'retried',
  'continued',
  'resumed',
  'held',
  'waiting',
  'forked',
]);

describe('state × command', () => {
  let database: TestDatabase;
  let db: Database;
  const workerId = uuid();
  beforeAll(async () => {
    database = await createDatabase();
    db = openDatabase({ url: database.url });
    await registerWorkers(db, [
      {
        workerId,
        namespace,
        taskQueue: 'q',
        workflowTypes: ['w'],
        build: '',
        identity: '',
        slots: 1,
        leaseMs: 30_000,
      },
    ]);
  });
  afterAll(async () => {
    await db.close();
    await database.drop();
  });

  const start = async (taskQueue: string): Promise<string> => {
    const command = startCommand({ namespace, taskQueue });
    await startRuns(db, [command]);
    return command.runId;
  };

  /** A run in the state, and the lease that it had last. */
  const inState = async (state: State): Promise<LeaseRef> => {
    if (state === 'PENDING') return { namespace, runId: await start('unserved'), leaseToken: 0 };
    await start('q');
    const [claimed] = await claimRuns(
      db,
      { namespace, taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId }] },
      { memoPageBytes: 1e6, memoPageEntries: 100 },
    );
    if (claimed?.kind !== 'claimed') throw new Error('nothing to claim');
    const { runId, leaseToken } = claimed.claim.run;
    const lease = { namespace, runId, leaseToken };
    await scheduleSleeps(db, [
      { ...lease, stepId: 'nap', seq: 1, durationMs: 3_600_000, until: null, uncancellable: false, attemptNumber: 1 },
    ]);
    await beginSteps(db, [
      {
        ...lease,
        stepId: 'open',
        seq: 2,
        stepKind: 'FUNCTION',
        attemptNumber: 1,
        countedAttempt: 1,
        maxCountedAttempts: 0,
        timeoutMs: 0,
        input: null,
        uncancellable: false,
      },
    ]);
    const suspend = async () => {
      await suspendRuns(db, [{ ...lease, waits: [{ stepId: 'nap', on: 'TIMER' }], arrivalsAwaited: 0, isKept: false }]);
    };
    switch (state) {
      case 'RUNNING':
        break;
      case 'SLEEPING':
        await suspend();
        break;
      case 'WOKEN':
        await suspend();
        await database.sql`update perdure.workflow_runs set status = 'PENDING', wake_at = null, waits = null, available_at = now(), task_queue = 'elsewhere' where run_id = ${runId}`;
        break;
      case 'COMPLETED':
        await endRuns(db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: true }]);
        break;
      case 'FAILED':
        await endRuns(db, [{ ...lease, end: 'FAILED', failure }]);
        break;
      case 'CANCELLED':
        await cancelRuns(db, [{ namespace, runId, reason: '' }]);
        await endRuns(db, [{ ...lease, end: 'CANCELLED' }]);
        break;
      case 'TERMINATED':
        await terminateRuns(db, [{ namespace, runId, reason: '' }]);
        break;
      case 'CONTINUED': {
        const successor = { input: null, taskQueue: 'elsewhere', priority: null, startDelayMs: 0 };
        const limits = { runTimeoutMs: null, executionTimeoutMs: null, hasOpenSteps: true };
        const [continued] = await continueRuns(db, [{ ...lease, ...successor, ...limits }]);
        // So that its workflow id is free.
        if (continued?.kind === 'continued')
          await terminateRuns(db, [{ namespace, runId: continued.nextRunId, reason: '' }]);
      }
    }
    return lease;
  };

  const snapshot = async (runId: string) =>
    JSON.stringify([
      await database.sql`select * from perdure.workflow_runs where run_id = ${runId}`,
      await database.sql`select * from perdure.step_runs where run_id = ${runId} order by seq, attempt_number`,
    ]);

  for (const [name, { run, expected }] of Object.entries(COMMANDS)) {
    for (const state of STATES) {
      it(`${name} of a ${state} run: ${expected[state]}`, async () => {
        const lease = await inState(state);
        const before = await snapshot(lease.runId);
        const [outcome] = await run(db, lease);
        expect(outcome?.kind).toBe(expected[state]);
        const after = await snapshot(lease.runId);
        // A failed run that was restarted or dismissed keeps when that was.
        const isResolved = state === 'FAILED' && (name === 'restartRun' || name === 'dismissRun');
        if (CHANGES.has(outcome?.kind ?? '') || (name === 'pauseRun' && outcome?.kind === 'paused') || isResolved)
          expect(after).not.toBe(before);
        else expect(after).toBe(before);
      });
    }

    for (const [state, from] of [
      ['PAUSING', 'RUNNING'],
      ['PAUSED', 'SLEEPING'],
    ] as const) {
      const kind = PAUSED[name]?.[state] ?? expected[from];
      it(`${name} of a ${state} run: ${kind}`, async () => {
        const lease = await inState(from);
        await pauseRuns(db, [{ namespace, runId: lease.runId, reason: '', by: 'me' }]);
        const before = await snapshot(lease.runId);
        const [outcome] = await run(db, lease);
        expect(outcome?.kind).toBe(kind);
        const after = await snapshot(lease.runId);
        if (CHANGES.has(kind)) expect(after).not.toBe(before);
        else expect(after).toBe(before);
      });
    }

    it(`${name} of a run that does not exist, with an old token or of another namespace changes nothing`, async () => {
      const lease = await inState('RUNNING');
      const before = await snapshot(lease.runId);
      const [missing] = await run(db, { ...lease, runId: uuid() });
      expect(missing?.kind).toBe('run_not_found');
      const unfenced = [
        'cancelRun',
        'terminateRun',
        'deleteRun',
        'retryRun',
        'restartRun',
        'dismissRun',
        'endStep',
        'forkRun',
        'sendUpdate',
        'pauseRun',
        'resumeRun',
      ];
      if (!unfenced.includes(name)) {
        expect((await run(db, { ...lease, leaseToken: lease.leaseToken - 1 }))[0]?.kind).toBe('lease_lost');
        expect((await run(db, { ...lease, leaseToken: lease.leaseToken + 1 }))[0]?.kind).toBe('lease_lost');
        expect((await run(db, { ...lease, namespace: 'other' }))[0]?.kind).toBe('run_not_found');
      }
      expect(await snapshot(lease.runId)).toBe(before);
      await terminateRuns(db, [{ namespace, runId: lease.runId, reason: '' }]);
    });
  }

  it('a batch gives each command its own outcome, in order, also for one run', async () => {
    const lease = await inState('RUNNING');
    const step = (stepId: string, seq: number) => ({
      ...lease,
      stepId,
      seq,
      stepKind: 'FUNCTION' as const,
      attemptNumber: 1,
      countedAttempt: 1,
      maxCountedAttempts: 0,
      timeoutMs: 0,
      input: null,
      uncancellable: false,
    });
    const outcomes = await beginSteps(db, [
      step('a', 3),
      { ...step('b', 4), leaseToken: 99 },
      step('a', 3),
      step('c', 5),
      { ...step('d', 6), runId: uuid() },
    ]);
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      'begun',
      'lease_lost',
      'already_begun',
      'begun',
      'run_not_found',
    ]);
  });

  it('terminal states never change again until the run is deleted or retried', async () => {
    for (const state of ['COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED'] as const satisfies readonly RunStatus[]) {
      const lease = await inState(state);
      const before = await snapshot(lease.runId);
      for (const [name, { run }] of Object.entries(COMMANDS))
        if (!['deleteRun', 'retryRun', 'restartRun', 'dismissRun', 'endStep', 'forkRun'].includes(name))
          await run(db, lease);
      expect(await snapshot(lease.runId)).toBe(before);
      const [found] = await findRuns(db, [{ namespace, runId: lease.runId, workflowId: null }]);
      expect(found).toMatchObject({ status: state });
    }
  });

  it('concurrent batches that meet the same runs in different order do not deadlock', async () => {
    const leases: LeaseRef[] = [];
    for (let n = 0; n < 20; n++) leases.push(await inState('RUNNING'));
    const rounds = Array.from({ length: 30 }, (_, n) => {
      const order = n % 2 === 0 ? leases : [...leases].reverse();
      if (n % 3 === 0) return renewLeases(db, order);
      if (n % 3 === 1)
        return cancelRuns(
          db,
          order.map(({ runId }) => ({ namespace, runId, reason: '' })),
        );
      return completeSteps(
        db,
        order.map((lease) => ({ ...lease, stepId: 'open', attemptNumber: 1, output: null, eventSeq: 1 })),
      );
    });
    const outcomes = await Promise.all(rounds as Promise<readonly { kind: string }[]>[]);
    expect(outcomes.flat()).toHaveLength(600);
  });
});
