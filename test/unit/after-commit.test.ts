import { describe, expect, it } from 'vitest';
import * as after from '../../packages/server/dist/commands/after-commit.js';

const run = { namespace: 'n', runId: 'r' };
const lease = { ...run, leaseToken: 3 };
const holder = { workerId: 'w', leaseToken: 3 };
const start = {
  ...run,
  workflowId: 'r',
  workflowType: 't',
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
} as const;
const failure = { type: 'Error', message: 'm', reason: 'APPLICATION' } as const;

describe('what follows a commit', () => {
  it('a started run is runnable, unless it is delayed or already leased', () => {
    const started = { kind: 'started', runId: 'r', delayed: false, claim: null } as const;
    expect(after.afterStart(start, started)).toEqual([{ kind: 'runnable', queue: start, workflowType: 't' }]);
    expect(after.afterStart(start, { ...started, claim: {} as never })).toEqual([]);
    const later = { ...start, startDelayMs: 500, runTimeoutMs: 900 };
    expect(after.afterStart(later, { ...started, delayed: true })).toEqual([
      { kind: 'wakes', inMs: 500 },
      { kind: 'expires', inMs: 900 },
    ]);
    expect(after.afterStart(later, { kind: 'existing', runId: 'r', workflowId: 'w', status: 'PENDING' })).toEqual([]);
    expect(after.afterStart(later, { kind: 'namespace_not_found' })).toEqual([]);
  });

  it('a begun step with a timeout announces its deadline, a repeated begin does not', () => {
    const step = { ...lease, stepId: 's', seq: 1, stepKind: 'FUNCTION', attemptNumber: 1, countedAttempt: 1 } as const;
    const begin = { ...step, maxCountedAttempts: 0, timeoutMs: 700, input: null, uncancellable: false };
    const startedAt = new Date();
    expect(after.afterBeginStep(begin, { kind: 'begun', startedAt })).toEqual([{ kind: 'expires', inMs: 700 }]);
    expect(after.afterBeginStep(begin, { kind: 'already_begun', startedAt })).toEqual([]);
    expect(after.afterBeginStep({ ...begin, timeoutMs: 0 }, { kind: 'begun', startedAt })).toEqual([]);
    expect(after.afterBeginStep(begin, { kind: 'lease_lost' })).toEqual([]);
  });

  it('a suspended run has left its worker, and wakes when its timer says so', () => {
    const suspend = { ...lease, waits: [], arrivalsAwaited: 0, isKept: false };
    const wakeAt = new Date();
    const left = { kind: 'left', runId: 'r' };
    expect(after.afterSuspend(suspend, { kind: 'suspended', wakeAt, wakeInMs: 40, keeper: null })).toEqual([
      left,
      { kind: 'wakes', inMs: 40 },
    ]);
    expect(after.afterSuspend(suspend, { kind: 'suspended', wakeAt: null, wakeInMs: null, keeper: null })).toEqual([
      left,
    ]);
    expect(after.afterSuspend(suspend, { kind: 'lease_lost' })).toEqual([]);
  });

  it('a suspended run is remembered with the worker that keeps it in memory', () => {
    const suspend = { ...lease, waits: [], arrivalsAwaited: 1, isKept: true };
    const keeper = { workerId: 'w', taskQueue: 'q', workflowType: 't' };
    expect(after.afterSuspend(suspend, { kind: 'suspended', wakeAt: null, wakeInMs: null, keeper })).toEqual([
      { kind: 'left', runId: 'r' },
      { kind: 'kept', runId: 'r', keeper: { namespace: suspend.namespace, ...keeper } },
    ]);
  });

  it('the command that ends a run announces the end with its result, a repeat announces it without', () => {
    const completed = { ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false } as const;
    const none = { output: null, failure: null, cancelReason: null };
    expect(after.afterEnd(completed, { kind: 'ended' })).toEqual([
      { kind: 'ended', runId: 'r', end: { ...none, status: 'COMPLETED' } },
    ]);
    expect(after.afterEnd({ ...lease, end: 'FAILED', failure }, { kind: 'ended' })).toEqual([
      { kind: 'ended', runId: 'r', end: { ...none, status: 'FAILED', failure } },
    ]);
    // Why it was cancelled is in the database alone.
    const ended = [{ kind: 'ended', runId: 'r' }];
    expect(after.afterEnd({ ...lease, end: 'CANCELLED' }, { kind: 'ended' })).toEqual(ended);
    expect(after.afterEnd(completed, { kind: 'already_ended' })).toEqual(ended);
    expect(after.afterEnd(completed, { kind: 'lease_lost' })).toEqual([]);
  });

  it('a run that is given back is runnable at once or wakes after its delay', () => {
    const release = { ...lease, delayMs: 0, reason: '' };
    const released = { kind: 'released', taskQueue: 'q' } as const;
    const left = { kind: 'left', runId: 'r' };
    const runnable = [left, { kind: 'runnable', queue: { namespace: 'n', taskQueue: 'q' } }];
    expect(after.afterRelease(release, released)).toEqual(runnable);
    expect(after.afterRelease({ ...release, delayMs: 9 }, released)).toEqual([left, { kind: 'wakes', inMs: 9 }]);
    expect(after.afterRelease(release, { kind: 'already_released', taskQueue: 'q' })).toEqual([]);
    const retry = { ...lease, failure, retryAfterMs: 8, cut: null };
    const retrying = { kind: 'retrying', taskQueue: 'q' } as const;
    expect(after.afterRetry(retry, { ...retrying, delayed: true })).toEqual([left, { kind: 'wakes', inMs: 8 }]);
    expect(after.afterRetry(retry, { ...retrying, delayed: false })).toEqual([
      left,
      { kind: 'runnable', queue: { namespace: 'n', taskQueue: 'q' } },
    ]);
  });

  it('a cancel request notifies the worker that holds the run, wakes the queue of a sleeping run, or ends the run', () => {
    const cancel = { ...run, reason: '' };
    const requested = { kind: 'requested', taskQueue: 'q' } as const;
    expect(after.afterCancel(cancel, { ...requested, status: 'RUNNING', holder })).toEqual([
      { kind: 'notice', notice: { kind: 'cancel_requested', ...run, workerId: 'w', leaseToken: 3 } },
    ]);
    expect(after.afterCancel(cancel, { ...requested, status: 'PENDING', holder: null })).toEqual([
      { kind: 'runnable', queue: { namespace: 'n', taskQueue: 'q' } },
    ]);
    const cancelled = { kind: 'cancelled', status: 'CANCELLED', taskQueue: 'q', holder: null } as const;
    expect(after.afterCancel(cancel, cancelled)).toEqual([{ kind: 'ended', runId: 'r' }]);
    expect(after.afterCancel(cancel, { ...cancelled, kind: 'already_requested' })).toEqual([]);
    expect(after.afterCancel(cancel, { kind: 'run_not_found' })).toEqual([]);
  });

  it('a termination announces the end of the run, and notifies its worker of the lost lease', () => {
    const ended = { kind: 'ended', runId: 'r' };
    const notice = { kind: 'notice', notice: { kind: 'lease_lost', ...run, workerId: 'w', leaseToken: 3 } };
    const command = { ...run, reason: '' };
    expect(after.afterTerminate(command, { kind: 'terminated', holder })).toEqual([ended, notice]);
    expect(after.afterTerminate(command, { kind: 'terminated', holder: null })).toEqual([ended]);
    expect(after.afterTerminate(command, { kind: 'already_terminated' })).toEqual([]);
  });
});
