/** The effects of committed commands: who is notified of what. Pure: nothing here waits, sends or reads. */
import type {
  AnswerUpdate,
  AnswerUpdateOutcome,
  ArrivalEffect,
  BeginStep,
  BeginStepOutcome,
  CancelRun,
  CancelRunOutcome,
  ClosedChild,
  ContinueRun,
  ContinueRunOutcome,
  EndRun,
  EndRunOutcome,
  EndRunWithStep,
  EndRunWithStepOutcome,
  EndStep,
  EndStepOutcome,
  ForkRunOutcome,
  HoldRun,
  HoldRunOutcome,
  Keeper,
  LeaseNotice,
  PauseRun,
  PauseRunOutcome,
  PublishEvent,
  PublishEventOutcome,
  QueueRef,
  ReachedRun,
  Relatives,
  ReleaseRun,
  ReleaseRunOutcome,
  RestartRunOutcome,
  ResumeRunOutcome,
  RetryRunAttempt,
  RetryRunAttemptOutcome,
  RetryRunOutcome,
  RunEnd,
  RunHolder,
  SendSignal,
  SendSignalOutcome,
  SendUpdate,
  SendUpdateOutcome,
  SettlePromise,
  SettlePromiseOutcome,
  SettleStep,
  SettleStepOutcome,
  SignalWithStart,
  SignalWithStartOutcome,
  StartChild,
  StartChildOutcome,
  StartRun,
  StartRunOutcome,
  SuspendRun,
  SuspendRunOutcome,
  TerminateRun,
  TerminateRunOutcome,
  ToldParent,
  UpdateAnswer,
  WorkerNotice,
} from '@perdure/store';

export type Effect =
  /** Runs have become claimable. `workflowType`: undefined when not known; `runs`: 1 when absent. */
  | { readonly kind: 'runnable'; readonly queue: QueueRef; readonly workflowType?: string; readonly runs?: number }
  /** A run wakes after this time. */
  | { readonly kind: 'wakes'; readonly inMs: number }
  /** A deadline passes after this time. */
  | { readonly kind: 'expires'; readonly inMs: number }
  /** A run is with no worker any more, and has not ended. */
  | { readonly kind: 'left'; readonly runId: string }
  /** A run is suspended, and a worker keeps it in memory. */
  | { readonly kind: 'kept'; readonly runId: string; readonly keeper: Keeper & QueueRef }
  /** A run has ended. `end`: undefined when it has to be looked up. */
  | { readonly kind: 'ended'; readonly runId: string; readonly end?: RunEnd }
  /** An update is answered. `answer`: undefined when it has to be looked up. */
  | { readonly kind: 'answered'; readonly runId: string; readonly requestId: string; readonly answer?: UpdateAnswer }
  /** A run has ended, or goes back before steps that started children: its parent is told, its children are closed. */
  | { readonly kind: 'relatives'; readonly runId: string; readonly hasParent: boolean; readonly hasChildren: boolean }
  /** A worker gets a notice about its run. */
  | { readonly kind: 'notice'; readonly notice: WorkerNotice }
  /** An event has not reached every wait for it. */
  | { readonly kind: 'unspread' };

export type EffectsOf<Command, Outcome> = (command: Command, outcome: Outcome) => readonly Effect[];

const NONE: readonly Effect[] = [];

export function afterStart(command: StartRun, outcome: StartRunOutcome): readonly Effect[] {
  if (outcome.kind !== 'started') return NONE;
  const effects: Effect[] = [];
  if (outcome.delayed) effects.push({ kind: 'wakes', inMs: command.startDelayMs });
  else if (outcome.claim === null)
    effects.push({ kind: 'runnable', queue: command, workflowType: command.workflowType });
  return [...effects, ...expiryOf(command)];
}

export function afterStartChild(command: StartChild, outcome: StartChildOutcome): readonly Effect[] {
  if (outcome.kind !== 'started') return NONE;
  const { namespace, workflowType, startDelayMs } = command;
  return [
    startDelayMs > 0
      ? { kind: 'wakes', inMs: startDelayMs }
      : { kind: 'runnable', queue: { namespace, taskQueue: outcome.taskQueue }, workflowType },
    ...expiryOf(command),
  ];
}

/** The first deadline of a run that has started. */
function expiryOf({
  runTimeoutMs,
  startDelayMs,
  startTimeoutMs = 0,
  chainTimeoutMs = 0,
}: StartRun | StartChild): Effect[] {
  const timeouts = [runTimeoutMs, chainTimeoutMs, startTimeoutMs > 0 ? startDelayMs + startTimeoutMs : 0].filter(
    (ms) => ms > 0,
  );
  return timeouts.length === 0 ? [] : [{ kind: 'expires', inMs: Math.min(...timeouts) }];
}

/** A child whose parent was cancelled while it waited. */
export function afterSettle(command: SettleStep, outcome: SettleStepOutcome): readonly Effect[] {
  return command.stepKind === 'CHILD' && outcome.kind === 'settled'
    ? [{ kind: 'relatives', runId: command.runId, hasParent: false, hasChildren: true }]
    : NONE;
}

export function afterTell(_: unknown, parents: readonly ToldParent[]): readonly Effect[] {
  return parents.flatMap((parent) =>
    parent.effect.kind === 'wakes' ? [parent.effect] : arrivalEffects(parent, parent.effect),
  );
}

export function afterClose(_: unknown, children: readonly ClosedChild[]): readonly Effect[] {
  return children.flatMap((child) =>
    child.close === 'CANCEL' ? afterCancel(child, child.outcome) : afterTerminate(child, child.outcome),
  );
}

export function afterBeginStep(command: BeginStep, outcome: BeginStepOutcome): readonly Effect[] {
  return outcome.kind === 'begun' && command.timeoutMs > 0 ? [{ kind: 'expires', inMs: command.timeoutMs }] : NONE;
}

export function afterSuspend({ namespace, runId }: SuspendRun, outcome: SuspendRunOutcome): readonly Effect[] {
  if (outcome.kind !== 'suspended') return NONE;
  const effects: Effect[] = [{ kind: 'left', runId }];
  if (outcome.keeper !== null) effects.push({ kind: 'kept', runId, keeper: { namespace, ...outcome.keeper } });
  if (outcome.wakeInMs !== null) effects.push({ kind: 'wakes', inMs: outcome.wakeInMs });
  return effects;
}

export function afterEndWithStep({ end }: EndRunWithStep, outcome: EndRunWithStepOutcome): readonly Effect[] {
  return afterEnd(end, outcome);
}

export function afterEnd(command: EndRun, outcome: EndRunOutcome | EndRunWithStepOutcome): readonly Effect[] {
  switch (outcome.kind) {
    case 'ended':
      return [{ kind: 'ended', runId: command.runId, ...endOf(command) }, ...relativesOf(command.runId, outcome)];
    case 'already_ended':
      // The server that recorded the end may have died before it notified anybody.
      return [{ kind: 'ended', runId: command.runId }];
    default:
      return NONE;
  }
}

export function afterRetry(command: RetryRunAttempt, outcome: RetryRunAttemptOutcome): readonly Effect[] {
  if (outcome.kind !== 'retrying') return NONE;
  const left: Effect[] = [{ kind: 'left', runId: command.runId }];
  if (outcome.hasChildren) {
    left.push({ kind: 'relatives', runId: command.runId, hasParent: false, hasChildren: true });
  }
  if (outcome.delayed) return [...left, { kind: 'wakes', inMs: command.retryAfterMs }];
  return [...left, { kind: 'runnable', queue: { namespace: command.namespace, taskQueue: outcome.taskQueue } }];
}

export function afterRelease(command: ReleaseRun, outcome: ReleaseRunOutcome): readonly Effect[] {
  if (outcome.kind !== 'released') return NONE;
  const left: Effect = { kind: 'left', runId: command.runId };
  if (command.delayMs > 0) return [left, { kind: 'wakes', inMs: command.delayMs }];
  return [left, { kind: 'runnable', queue: { namespace: command.namespace, taskQueue: outcome.taskQueue } }];
}

export function afterCancel(command: CancelRun, outcome: CancelRunOutcome): readonly Effect[] {
  switch (outcome.kind) {
    case 'cancelled':
      return [{ kind: 'ended', runId: command.runId }, ...relativesOf(command.runId, outcome)];
    case 'requested': {
      const { namespace } = command;
      if (outcome.holder !== null) return [leaseNotice('cancel_requested', command, outcome.holder)];
      return outcome.status === 'PENDING'
        ? [{ kind: 'runnable', queue: { namespace, taskQueue: outcome.taskQueue } }]
        : NONE;
    }
    default:
      return NONE;
  }
}

/** The worker that holds the run gives it back when its bodies have ended. */
export function afterPause(command: PauseRun, outcome: PauseRunOutcome): readonly Effect[] {
  return outcome.kind === 'paused' && outcome.holder !== null ? [leaseNotice('paused', command, outcome.holder)] : NONE;
}

export function afterResume(_: unknown, outcome: ResumeRunOutcome): readonly Effect[] {
  return outcome.kind === 'resumed' && outcome.status === 'PENDING'
    ? [{ kind: 'runnable', queue: outcome.queue, workflowType: outcome.workflowType }]
    : NONE;
}

export function afterHold({ runId }: HoldRun, outcome: HoldRunOutcome): readonly Effect[] {
  return outcome.kind === 'held' ? [{ kind: 'left', runId }] : NONE;
}

export function afterTerminate(command: TerminateRun, outcome: TerminateRunOutcome): readonly Effect[] {
  if (outcome.kind !== 'terminated') return NONE;
  const ended: Effect[] = [{ kind: 'ended', runId: command.runId }, ...relativesOf(command.runId, outcome)];
  return outcome.holder === null ? ended : [...ended, leaseNotice('lease_lost', command, outcome.holder)];
}

export function afterRetryRun(_: unknown, outcome: RetryRunOutcome): readonly Effect[] {
  return outcome.kind === 'retried' ? runnableAgain(outcome) : NONE;
}

export function afterRestart(_: unknown, outcome: RestartRunOutcome): readonly Effect[] {
  return outcome.kind === 'restarted' ? runnableAgain(outcome) : NONE;
}

export function afterFork(_: unknown, outcome: ForkRunOutcome): readonly Effect[] {
  return outcome.kind === 'forked' ? runnableAgain(outcome) : NONE;
}

export function afterEndStep(command: EndStep, outcome: EndStepOutcome): readonly Effect[] {
  if (outcome.kind !== 'ended') return NONE;
  const arrival = arrivalEffects(command, outcome.effect);
  if (!outcome.closesChildren) return arrival;
  return [...arrival, { kind: 'relatives', runId: command.runId, hasParent: false, hasChildren: true }];
}

/** Callers that wait for the run read that it was continued, and wait for its successor. */
export function afterContinue({ runId, startDelayMs }: ContinueRun, outcome: ContinueRunOutcome): readonly Effect[] {
  if (outcome.kind !== 'continued') return outcome.kind === 'already_continued' ? [{ kind: 'ended', runId }] : NONE;
  const effects: Effect[] = [{ kind: 'ended', runId }, ...runnableAgain(outcome)];
  if (startDelayMs > 0) effects.push({ kind: 'wakes', inMs: startDelayMs });
  if (outcome.hasChildren) effects.push({ kind: 'relatives', runId, hasParent: false, hasChildren: true });
  return effects;
}

function runnableAgain(run: {
  readonly queue: QueueRef;
  readonly workflowType: string;
  readonly expiresInMs: number | null;
}): readonly Effect[] {
  const runnable: Effect = { kind: 'runnable', queue: run.queue, workflowType: run.workflowType };
  return run.expiresInMs === null ? [runnable] : [runnable, { kind: 'expires', inMs: run.expiresInMs }];
}

export function afterSignal(command: SendSignal, outcome: SendSignalOutcome): readonly Effect[] {
  return outcome.kind === 'sent' ? arrivalEffects(command, outcome.effect) : NONE;
}

export function afterUpdate(command: SendUpdate, outcome: SendUpdateOutcome): readonly Effect[] {
  return outcome.kind === 'sent' ? arrivalEffects(command, outcome.effect) : NONE;
}

export function afterAnswer({ runId, answer }: AnswerUpdate, outcome: AnswerUpdateOutcome): readonly Effect[] {
  switch (outcome.kind) {
    case 'answered':
      return [{ kind: 'answered', runId, requestId: outcome.requestId, answer }];
    case 'already_answered':
      // The server that recorded the answer may have died before it notified anybody.
      return [{ kind: 'answered', runId, requestId: outcome.requestId }];
    default:
      return NONE;
  }
}

export function afterPublish(_command: PublishEvent, outcome: PublishEventOutcome): readonly Effect[] {
  switch (outcome.kind) {
    case 'published':
      return outcome.isSpread
        ? afterReached(outcome.reached)
        : [...afterReached(outcome.reached), { kind: 'unspread' }];
    case 'already_published':
      // The server that published it may have died before it had reached every wait.
      return outcome.isSpread ? NONE : [{ kind: 'unspread' }];
    case 'namespace_not_found':
      return NONE;
  }
}

export function afterSignalWithStart({ start }: SignalWithStart, outcome: SignalWithStartOutcome): readonly Effect[] {
  if (outcome.kind !== 'sent') return NONE;
  if (!outcome.started) {
    return arrivalEffects({ namespace: start.namespace, runId: outcome.runId }, outcome.effect);
  }
  return afterStart(start, {
    kind: 'started',
    runId: outcome.runId,
    delayed: start.startDelayMs > 0,
    claim: null,
  });
}

export function afterSettlePromise(_command: SettlePromise, outcome: SettlePromiseOutcome): readonly Effect[] {
  return outcome.kind === 'settled' ? arrivalEffects(outcome.reached, outcome.reached.effect) : NONE;
}

/** Something has come for many runs: one effect for each queue and type of which runs were suspended. */
export function afterReached(reached: readonly ReachedRun[]): readonly Effect[] {
  const notices: Effect[] = [];
  const runnable = new Map<string, Effect & { readonly kind: 'runnable' }>();
  for (const run of reached) {
    const { effect } = run;
    if (effect.kind === 'woken') {
      const { queue, workflowType } = effect;
      const key = `${queue.namespace}\n${queue.taskQueue}\n${workflowType}`;
      runnable.set(key, { kind: 'runnable', queue, workflowType, runs: (runnable.get(key)?.runs ?? 0) + 1 });
    } else notices.push(...arrivalEffects(run, effect));
  }
  return [...runnable.values(), ...notices];
}

/** Something has come for a run: a suspended one is claimable, the worker of another one takes it. */
function arrivalEffects(
  run: { readonly namespace: string; readonly runId: string },
  effect: ArrivalEffect,
): readonly Effect[] {
  switch (effect.kind) {
    case 'none':
    case 'leased':
      return NONE;
    case 'woken':
      return [{ kind: 'runnable', queue: effect.queue, workflowType: effect.workflowType }];
    case 'arrived':
      return [leaseNotice('arrived', run, effect.holder)];
  }
}

function relativesOf(runId: string, { relatives }: { readonly relatives?: Relatives }): readonly Effect[] {
  return relatives === undefined ? NONE : [{ kind: 'relatives', runId, ...relatives }];
}

/** How a run ended, when the command says it. */
function endOf(command: EndRun): { readonly end?: RunEnd } {
  const none = { output: null, failure: null, cancelReason: null };
  switch (command.end) {
    case 'COMPLETED':
      return { end: { ...none, status: 'COMPLETED', output: command.output } };
    case 'FAILED':
      return { end: { ...none, status: 'FAILED', failure: command.failure } };
    case 'CANCELLED':
      return {};
  }
}

function leaseNotice(
  kind: LeaseNotice['kind'],
  { namespace, runId }: { readonly namespace: string; readonly runId: string },
  { workerId, leaseToken }: RunHolder,
): Effect {
  return { kind: 'notice', notice: { kind, namespace, workerId, runId, leaseToken } };
}
