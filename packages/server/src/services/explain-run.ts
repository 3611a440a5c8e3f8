import { WaitReason } from '@perdure/proto';
import { type Failure, type Run, type RunFacts, type StepAttempt, SUSPECT_LOSSES } from '@perdure/store';
import { awaitsPhrase } from '../rpc/encode/awaits.js';
import { ago, attemptText, errorLine, errorText, list, oneLine, span, workerText } from '../rpc/phrases.js';
import { type Explanation, explainDispatchPause, explainPaused, pausingText } from './explain-pause.js';

const COMPENSATING = 'Its code has ended without a result, and its compensations run; the run ends after them.';
const PARTIAL = ' Not everything that it had done was compensated.';

/** Lateness below this is normal, in ms. */
const LATE_MS = 5_000;

/** Explains why a run is not moving: a pure function of facts that were read at one moment. */
export function explainRun(run: Run, facts: RunFacts): Explanation {
  switch (run.status) {
    case 'RUNNING':
      return withCancel(run, facts, explainRunning(run, facts));
    case 'PENDING':
      return withCancel(run, facts, explainPending(run, facts));
    case 'SLEEPING':
      return withCancel(run, facts, explainSleeping(run, facts));
    case 'WAITING':
      return withCancel(run, facts, explainWaiting(run, facts));
    case 'PAUSED':
      return withCancel(run, facts, explainPaused(run, facts));
    case 'COMPLETED':
    case 'FAILED':
    case 'CANCELLED':
    case 'TERMINATED':
    case 'CONTINUED':
      return {
        reason: WaitReason.UNSPECIFIED,
        text: `${endText(run, facts)}${run.compensation === 'PARTIAL' ? PARTIAL : ''}`,
      };
  }
}

function withCancel(run: Run, { now }: RunFacts, { reason, text }: Explanation): Explanation {
  if (run.compensation === 'COMPENSATING') return { reason, text: `${text} ${COMPENSATING}` };
  if (run.cancelRequestedAt === null) return { reason, text };
  const why = run.cancelReason ? ` ('${oneLine(run.cancelReason)}')` : '';
  return {
    reason,
    text: `${text} A cancel was requested ${ago(now, run.cancelRequestedAt)}${why}; the run ends when its code has cleaned up.`,
  };
}

function explainRunning(run: Run, facts: RunFacts): Explanation {
  const { now, holder } = facts;
  const worker = workerText(run.leasedBy, holder);
  const leaseEndsInMs = run.leaseExpiresAt === null ? 0 : run.leaseExpiresAt.getTime() - now.getTime();
  if (leaseEndsInMs < 0) {
    const seen = holder === null ? '' : `; it was last seen ${ago(now, holder.lastSeenAt)}`;
    const reaper = facts.reapersAlive > 0 ? 'A reaper will reclaim the run.' : `${NO_REAPER} to reclaim the run.`;
    return {
      reason: WaitReason.LEASE_EXPIRED,
      text: `${worker} did not renew its lease, which expired ${span(-leaseEndsInMs)} ago${seen}. ${reaper}`,
    };
  }
  const branches = facts.currentSteps;
  const bodies = branches.filter((step) => step.status === 'RUNNING' && step.kind !== 'SLEEP' && step.awaits === null);
  const waits = branches.filter((step) => !bodies.includes(step)).map((step) => waitText(step, facts));
  const sinceMs = Math.max(run.updatedAt.getTime(), facts.lastStepEndedAt?.getTime() ?? 0);
  const doing =
    bodies.length === 0
      ? `the workflow's code, between steps, for ${span(now.getTime() - sinceMs)}`
      : list(bodies.map((step) => bodyText(step, now)));
  const meanwhile = waits.length === 0 ? '' : ` Meanwhile ${list(waits)}.`;
  return {
    reason: WaitReason.EXECUTING,
    text: `${worker} is executing ${doing}.${meanwhile}${silenceText(facts, leaseEndsInMs)}${pausingText(run, facts)}`,
  };
}

/** A worker that missed renewals may be dead. */
function silenceText({ now, holder }: RunFacts, leaseEndsInMs: number): string {
  if (holder === null || leaseEndsInMs > holder.leaseMs / 2) return '';
  return ` It was last seen ${ago(now, holder.lastSeenAt)}; its lease expires in ${span(leaseEndsInMs)}.`;
}

function bodyText(step: StepAttempt, now: Date): string {
  const timeout = step.deadlineAt === null ? '' : `, times out ${inTime(step.deadlineAt.getTime() - now.getTime())}`;
  return `step '${step.stepId}' (${attemptText(step)}, for ${span(now.getTime() - step.startedAt.getTime())}${timeout})`;
}

function waitText(step: StepAttempt, { now }: RunFacts): string {
  if (step.awaits !== null) return `'${step.stepId}' waits for ${arrivalText(step, now)}`;
  if (step.kind === 'SLEEP') {
    return `'${step.stepId}' sleeps and wakes ${inTime((step.firesAt?.getTime() ?? 0) - now.getTime())}`;
  }
  const inMs = (step.nextRetryAt?.getTime() ?? 0) - now.getTime();
  return `step '${step.stepId}' is retried ${inTime(inMs)} after ${attemptText(step)} failed with ${errorText(step.failure)}`;
}

/** `signal 'go' (for 3 s, times out in 2 h)`. */
function arrivalText(step: StepAttempt, now: Date): string {
  const timeout = step.firesAt === null ? '' : `, times out ${inTime(step.firesAt.getTime() - now.getTime())}`;
  return `${awaitsPhrase(step)} (for ${span(now.getTime() - step.startedAt.getTime())}${timeout})`;
}

/** Waits that a sentence names one by one. */
const MAX_NAMED = 10;

function explainWaiting(run: Run, facts: RunFacts): Explanation {
  const awaited = facts.currentSteps.filter((step) => step.awaits !== null);
  const others = facts.currentSteps.filter((step) => step.awaits === null).map((step) => waitText(step, facts));
  const named = awaited.slice(0, MAX_NAMED).map((step) => arrivalText(step, facts.now));
  const more = awaited.length > MAX_NAMED ? [`${awaited.length - MAX_NAMED} more`] : [];
  const what = awaited.length === 0 ? 'something from outside' : list([...named, ...more]);
  const meanwhile = others.length === 0 ? '' : ` Meanwhile ${list(others)}.`;
  const lateMs = run.wakeAt === null ? 0 : facts.now.getTime() - run.wakeAt.getTime();
  const late = lateMs > LATE_MS ? ` It was due to wake ${span(lateMs)} ago.` : '';
  const nobody = run.wakeAt !== null && facts.reapersAlive === 0 ? ` ${NO_REAPER} to end its timeouts.` : '';
  return { reason: WaitReason.ARRIVAL, text: `It waits for ${what}.${meanwhile}${late}${nobody}` };
}

function explainPending(run: Run, facts: RunFacts): Explanation {
  const waited =
    (run.availableAt === null ? '' : ` It has waited for ${span(facts.now.getTime() - run.availableAt.getTime())}.`) +
    (run.startDeadlineAt === null
      ? ''
      : ` It FAILs ${inTime(run.startDeadlineAt.getTime() - facts.now.getTime())} unless a worker claims it before (start timeout).`) +
    (run.yieldReason === 'RELEASE' && run.lastReleaseReason !== null ? ` ${gaveItBack(run)}.` : '');
  const lost = lostText(run.lostLeases);
  const [paused] = facts.pauses;
  if (paused !== undefined) return explainDispatchPause(paused, facts, `${waited}${lost}`);
  if (facts.workersOnline === 0) {
    return {
      reason: WaitReason.NO_WORKER,
      text: `No worker polls task queue '${run.taskQueue}'. Start one, or check its queue and namespace.${waited}${lost}`,
    };
  }
  if (facts.workersWithType === 0) {
    const online =
      facts.workersOnline === 1
        ? `1 worker is online for task queue '${run.taskQueue}', but it has not`
        : `${facts.workersOnline} workers are online for task queue '${run.taskQueue}', but none has`;
    return {
      reason: WaitReason.NO_WORKER_FOR_TYPE,
      text: `${online} registered workflow '${run.workflowType}'.${waited}${lost}`,
    };
  }
  if (run.lostLeases >= SUSPECT_LOSSES) {
    return {
      reason: WaitReason.NO_FREE_SLOT,
      text: `It lost its worker ${run.lostLeases} times in a row, and a worker executes only one such run at a time. It waits for a slot of a worker without another one.${waited}`,
    };
  }
  const able = facts.workersWithType === 1 ? '1 worker online can' : `${facts.workersWithType} workers online can`;
  return {
    reason: WaitReason.NO_FREE_SLOT,
    text: `It waits for a free slot; ${able} execute it.${waited}${lost}`,
  };
}

function lostText(lostLeases: number): string {
  if (lostLeases === 0) return '';
  return lostLeases === 1 ? ' Its last worker was lost.' : ` Its last ${lostLeases} workers were lost.`;
}

function explainSleeping(run: Run, facts: RunFacts): Explanation {
  const inMs = run.wakeAt === null ? 0 : run.wakeAt.getTime() - facts.now.getTime();
  switch (run.yieldReason) {
    case 'START_DELAY':
      return { reason: WaitReason.START_DELAY, text: `Its start is delayed; ${due('it begins', inMs, facts)}` };
    case 'RUN_RETRY':
      return {
        reason: WaitReason.RUN_RETRY,
        text: `Attempt ${run.attempt - 1} of the run failed with ${errorText(run.failure)}; ${due('the next one begins', inMs, facts)}`,
      };
    case 'RECLAIM':
      return {
        reason: WaitReason.RECLAIM_BACKOFF,
        text: `${lostText(run.lostLeases).trim()} ${due('It may be claimed again', inMs, facts)}`,
      };
    case 'RELEASE':
    case 'STEP_TIMEOUT':
    case 'HOLD':
      return {
        reason: WaitReason.RECLAIM_BACKOFF,
        text: `${gaveItBack(run)}; ${due('it may be claimed again', inMs, facts)}`,
      };
    case 'SUSPEND':
    case null:
      return explainSuspended(run, facts, inMs);
  }
}

function gaveItBack({ lastReleaseReason }: Run): string {
  return lastReleaseReason === null
    ? 'Its worker gave it back'
    : `Its worker gave it back: ${oneLine(lastReleaseReason)}`;
}

function explainSuspended(run: Run, facts: RunFacts, inMs: number): Explanation {
  const dueAt = (step: StepAttempt) => (step.kind === 'SLEEP' ? step.firesAt : step.nextRetryAt)?.getTime();
  const waiting = facts.currentSteps.filter((step) => dueAt(step) !== undefined);
  const first =
    waiting.find((step) => step.kind !== 'SLEEP' && dueAt(step) === run.wakeAt?.getTime()) ??
    waiting.find((step) => dueAt(step) === run.wakeAt?.getTime());
  const others = waiting.filter((step) => step !== first).map((step) => waitText(step, facts));
  const meanwhile = others.length === 0 ? '' : ` Meanwhile ${list(others)}.`;
  if (first !== undefined && first.kind !== 'SLEEP') {
    const attempt = attemptText(first);
    return {
      reason: WaitReason.STEP_RETRY,
      text: `${attempt.charAt(0).toUpperCase()}${attempt.slice(1)} of step '${first.stepId}' failed with ${errorText(first.failure)}; ${due('the next one begins', inMs, facts)}${meanwhile}`,
    };
  }
  const what = first === undefined ? 'It sleeps' : `It sleeps in '${first.stepId}'`;
  return { reason: WaitReason.TIMER, text: `${what}; ${due('it wakes', inMs, facts)}${meanwhile}` };
}

/** What happens next and when; when it is late, whether a reaper is alive to do it. */
function due(what: string, inMs: number, { reapersAlive }: RunFacts): string {
  const nobody = reapersAlive > 0 ? '' : ` ${NO_REAPER} to wake it.`;
  if (inMs > -LATE_MS) return `${what} ${inTime(inMs)}.${nobody}`;
  return `that was due ${span(-inMs)} ago.${nobody === '' ? ' The reapers are late.' : nobody}`;
}

function endText(run: Run, facts: RunFacts): string {
  const tookMs = (run.finishedAt?.getTime() ?? 0) - run.createdAt.getTime();
  switch (run.status) {
    case 'COMPLETED':
      return `It COMPLETED after ${span(tookMs)}.`;
    case 'CANCELLED': {
      const why = run.cancelReason ? ` ('${oneLine(run.cancelReason)}')` : '';
      return `It was CANCELLED after ${span(tookMs)}${why}.`;
    }
    case 'FAILED':
      return failedText(run, facts.failedSteps);
    default:
      return run.failure === null ? `It has ended: ${run.status}.` : `${run.status}: ${oneLine(run.failure.message)}`;
  }
}

/** Names the step whose error ended the run, when the recorded errors show it. */
function failedText(run: Run, failedSteps: readonly StepAttempt[]): string {
  const attempts = run.retries === 0 ? '' : ` It was the run's last of ${run.retries + 1} attempts.`;
  for (let error = run.failure; error !== null; error = error.cause ?? null) {
    const step = failedSteps.find(({ failure }) => failure !== null && isSame(failure, error as Failure));
    if (step === undefined) continue;
    const failed = `tep '${step.stepId}' failed with ${errorText(step.failure)}. It was ${whyFinal(step)}.`;
    return error === run.failure
      ? `S${failed}${attempts}`
      : `The workflow failed with ${errorLine(run.failure as Failure)}, because s${failed}${attempts}`;
  }
  const { reason } = run.failure ?? {};
  if (reason === undefined || reason === 'APPLICATION')
    return `The workflow's code failed with ${errorText(run.failure)}.${attempts}`;
  return `It failed: ${oneLine(run.failure?.message ?? '')}${attempts}`;
}

const isSame = (a: Failure, b: Failure): boolean => a.type === b.type && a.message === b.message && a.code === b.code;

function whyFinal(step: StepAttempt): string {
  const attempt = attemptText(step);
  if (step.failure?.nonRetryable === true) return `${attempt}; not retried, because the error is non-retryable`;
  if (step.maxCountedAttempts > 0 && step.countedAttempt >= step.maxCountedAttempts)
    return `${attempt}; no attempts are left`;
  return `${attempt}; not retried, because of stopOn or retryOn in its retry policy`;
}

const NO_REAPER = 'No reaper is running';

const inTime = (ms: number): string => (ms <= 0 ? 'now' : `in ${span(ms)}`);
