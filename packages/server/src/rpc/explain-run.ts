import { WaitReason } from '@perdure/proto';
import { type Run, type RunFacts, type StepAttempt, SUSPECT_LOSSES } from '@perdure/store';

/** Why a run is not moving, for programs and for people. */
export interface Explanation {
  readonly reason: WaitReason;
  readonly text: string;
}

/** Says why a run is where it is; a pure function of what was read in one moment. */
export function explainRun(run: Run, facts: RunFacts): Explanation {
  switch (run.status) {
    case 'RUNNING':
      return explainRunning(run, facts);
    case 'PENDING':
      return explainPending(run, facts);
    case 'SLEEPING':
      return explainSleeping(run, facts);
    // Reserved: no run gets there yet.
    case 'WAITING':
    case 'PAUSED':
      return { reason: WaitReason.UNSPECIFIED, text: `It is ${run.status}.` };
    case 'COMPLETED':
    case 'FAILED':
    case 'CANCELLED':
    case 'TERMINATED':
      return { reason: WaitReason.UNSPECIFIED, text: `It has ended: ${run.status}.` };
  }
}

function explainRunning(run: Run, { now, currentSteps }: RunFacts): Explanation {
  const overdueMs = run.lockedUntil === null ? 0 : now.getTime() - run.lockedUntil.getTime();
  if (overdueMs > 0) {
    return {
      reason: WaitReason.LEASE_EXPIRED,
      text: `Worker ${run.lockedBy} has not renewed its lease, which ended ${span(overdueMs)} ago; the reaper takes the run back. If it does not, check that a reaper is running.`,
    };
  }
  const open = currentSteps.filter((step) => step.status === 'RUNNING').map((step) => stepText(step));
  const doing = open.length === 0 ? 'its own code, between steps' : list(open);
  return { reason: WaitReason.EXECUTING, text: `Worker ${run.lockedBy} executes ${doing}.` };
}

function explainPending(run: Run, facts: RunFacts): Explanation {
  const waited =
    (run.availableAt === null ? '' : ` It has waited for ${span(facts.now.getTime() - run.availableAt.getTime())}.`) +
    (run.yieldReason === 'RELEASE' && run.lastReleaseReason !== null ? ` ${gaveItBack(run)}.` : '');
  if (facts.workersOnline === 0) {
    return {
      reason: WaitReason.NO_WORKER,
      text: `No worker polls task queue '${run.taskQueue}'. Start one, or check its queue and namespace.${waited}`,
    };
  }
  if (facts.workersWithType === 0) {
    return {
      reason: WaitReason.NO_WORKER_FOR_TYPE,
      text: `${count(facts.workersOnline, 'worker')} of task queue '${run.taskQueue}' online, but none has the workflow '${run.workflowType}'.${waited}`,
    };
  }
  if (run.lostLeases >= SUSPECT_LOSSES) {
    return {
      reason: WaitReason.NO_FREE_SLOT,
      text: `It lost its worker ${run.lostLeases} times in a row, so it waits for a free slot of a worker that executes no other run of which that is true.${waited}`,
    };
  }
  return {
    reason: WaitReason.NO_FREE_SLOT,
    text: `It waits for a free slot; ${count(facts.workersWithType, 'worker')} online can execute it.${waited}`,
  };
}

function explainSleeping(run: Run, { now, currentSteps }: RunFacts): Explanation {
  const wakes = run.wakeAt === null ? '' : due(run.wakeAt.getTime() - now.getTime());
  switch (run.yieldReason) {
    case 'START_DELAY':
      return { reason: WaitReason.START_DELAY, text: `Its start is delayed; it begins ${wakes}.` };
    case 'RUN_RETRY':
      return {
        reason: WaitReason.RUN_RETRY,
        text: `Attempt ${run.attempt - 1} of the run failed (${run.failure?.message ?? 'no message'}); the next one begins ${wakes}.`,
      };
    case 'RECLAIM':
      return {
        reason: WaitReason.RECLAIM_BACKOFF,
        text: `It lost its worker ${run.lostLeases} times in a row; it may be claimed again ${wakes}.`,
      };
    case 'RELEASE':
    case 'STEP_TIMEOUT':
      return { reason: WaitReason.RECLAIM_BACKOFF, text: `${gaveItBack(run)}; it may be claimed again ${wakes}.` };
    case 'SUSPEND':
    case null:
      return explainSuspended(run, currentSteps, wakes);
  }
}

function gaveItBack({ lastReleaseReason }: Run): string {
  return lastReleaseReason === null ? 'Its worker gave it back' : `Its worker gave it back: ${lastReleaseReason}`;
}

function explainSuspended(run: Run, currentSteps: readonly StepAttempt[], wakes: string): Explanation {
  const dueAt = (step: StepAttempt) => (step.kind === 'SLEEP' ? step.firesAt : step.nextRetryAt)?.getTime();
  const awaited = currentSteps.filter((step) => dueAt(step) !== undefined && dueAt(step) === run.wakeAt?.getTime());
  const retried = awaited.find((step) => step.kind !== 'SLEEP');
  if (retried !== undefined) {
    const tries = retried.maxTries > 0 ? ` of ${retried.maxTries}` : '';
    return {
      reason: WaitReason.STEP_RETRY,
      text: `Try ${retried.tryNumber}${tries} of step '${retried.stepId}' failed (${retried.failure?.message ?? 'no message'}); the next one begins ${wakes}.`,
    };
  }
  const timer = awaited[0];
  const what = timer === undefined ? 'It sleeps' : `It sleeps in '${timer.stepId}'`;
  return { reason: WaitReason.TIMER, text: `${what}; it wakes ${wakes}.` };
}

function stepText(step: StepAttempt): string {
  const tries = step.maxTries > 0 ? ` of ${step.maxTries}` : '';
  return `step '${step.stepId}' (try ${step.tryNumber}${tries})`;
}

const list = (items: readonly string[]): string =>
  items.length <= 3 ? items.join(', ') : `${items.slice(0, 3).join(', ')} and ${items.length - 3} more`;

const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;

const due = (ms: number): string => (ms <= 0 ? 'now' : `in ${span(ms)}`);

function span(ms: number): string {
  const units: readonly [number, string][] = [
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'min'],
    [1_000, 's'],
  ];
  for (const [size, unit] of units) if (ms >= size) return `${Math.round((ms / size) * 10) / 10} ${unit}`;
  return `${Math.max(0, Math.round(ms))} ms`;
}
