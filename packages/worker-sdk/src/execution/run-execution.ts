import { durationOf, type LeasedRun, StepKind } from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import type { FailedCompensation } from '../errors/compensation-report.js';
import { compensationError } from '../errors/errors.js';
import { BodyReports } from './body/body-reports.js';
import type { HeartbeatDetail, Heartbeats } from './body/heartbeats.js';
import type { BodyResult, StepBody } from './body/step-body.js';
import { CancelRequest } from './cancel/cancel-request.js';
import { Cancellation } from './cancel/cancellation.js';
import type { ContextHost } from './context/context-host.js';
import { reportLeftovers } from './context/leftovers.js';
import { RunContext } from './context/run-context.js';
import { type CompensatingHost, compensateRun, reportOf } from './end/compensate.js';
import { runCode } from './end/run-code.js';
import { type EndingHost, endingOf, endRun } from './end/run-ending.js';
import type { RunExecutionOptions } from './execution-options.js';
import type { HeldRun } from './held-run.js';
import type { Lease } from './lease/lease.js';
import { type LeaseLoss, logLeaseLoss } from './lease/lease-loss.js';
import type { ExecutionEnd } from './lease/lease-tenure.js';
import { ExecutionEnded } from './lease/leased-calls.js';
import { LeasedExecution } from './leased-execution.js';
import { DeliveryQueue } from './order/delivery-queue.js';
import { FailureLog } from './order/failure-log.js';
import { isFinal, loadMemo } from './order/memo.js';
import { Program, type StepRef } from './order/program.js';
import type { ResultTicket } from './order/result-ticket.js';
import { LONG_HISTORY, reportLongHistory } from './report/long-history.js';
import { RunState } from './report/run-state.js';
import { Updates } from './report/updates.js';
import { type FaultHost, Faults } from './run/faults.js';
import { PayloadLimit } from './run/payload-limit.js';
import { WorkCount } from './run/work-count.js';
import { RetryBudget } from './step/retry-budget.js';
import type { StepWait } from './step/step-host.js';
import { Arrivals } from './wait/arrivals.js';
import { Suspension } from './wait/suspension.js';
import type { SuspensionHost } from './wait/suspension-host.js';
import { CANCELLED, type WaitEnd, Waits } from './wait/waits.js';

/**
 * Executes one leased run: replays what is recorded, continues live, and gives the run back when everything awaits time.
 * The server's record is always complete: this object can be lost at any moment.
 *
 * States: running, suspended (code in memory, no lease), ended. Moves: start, suspend ({@link onSuspended}), {@link resume},
 * {@link forget} (suspended → ended), {@link loseLease}, {@link release} and {@link end} (running → ended).
 */
export class RunExecution
  extends LeasedExecution
  implements ContextHost, SuspensionHost, EndingHost, FaultHost, HeldRun, CompensatingHost
{
  readonly codec: Codec;
  readonly limit: PayloadLimit;
  readonly reports: BodyReports;
  readonly retryBudget: RetryBudget;
  readonly faults: Faults;
  readonly failures = new FailureLog();
  readonly cancellation = new Cancellation();
  readonly work = new WorkCount(() => {
    if (this.#isRewinding) this.#releaseWhenIdle();
    else if (this.#waits.size > 0 || this.#isPaused || this.#onQuiet !== undefined) this.#delivery.recheck();
  });
  readonly #program = new Program();
  readonly arrivals: Arrivals;
  readonly #waits: Waits;
  readonly #suspension: Suspension;
  readonly #cancelRequest: CancelRequest;
  #delivery: DeliveryQueue;
  /** Made on demand: most runs set no state and take no updates. */
  #state: RunState | undefined;
  #updates: Updates | undefined;
  /** The run is paused, and given back when its bodies have ended. */
  #isPaused = false;
  /** The end of the run is being recorded, or it is given back. */
  #isFinishing = false;
  /** The code has been given a result that will not be recorded: it goes no further. */
  #isRewinding = false;
  #hasEnded = false;
  /** The code has ended, and what it has done is being undone. */
  #isCompensating = false;
  #onQuiet: (() => void) | undefined;
  /** The result that the code has been given last, when it was that of a body that has ended at once. */
  #lastTold: string | undefined;
  /** How many steps the code had requested then. */
  #seqWhenTold = 0;
  /** The code has read its clock since. */
  #hasReadClock = false;

  constructor(options: RunExecutionOptions) {
    super(options);
    const { leased } = options;
    const { clock } = this;
    this.codec = options.codec;
    this.limit = new PayloadLimit(options.maxPayloadBytes);
    this.reports = new BodyReports(leased.runId, this.codec, this.limit, () => options.flushHeartbeats(this));
    this.retryBudget = new RetryBudget(options.workflow.options.maxRetriesInAll ?? Number.POSITIVE_INFINITY);
    this.faults = new Faults(this, options);
    this.#waits = new Waits(
      () => this.#delivery.recheck(),
      (stepId) => this.arrivals.timedOut(stepId),
      clock,
    );
    this.arrivals = new Arrivals(this, this.#waits, leased.hasArrivals);
    this.#suspension = new Suspension(this, this.#waits, this.arrivals, clock);
    this.#cancelRequest = new CancelRequest(this, this.#waits, leased.cancelObserved);
    this.#delivery = this.#deliver([]);
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Suspended, and may resume under the next lease of the run. */
  get isSuspended(): boolean {
    return this.#suspension.isSuspended && !this.#hasEnded;
  }

  get isIdle(): boolean {
    return !this.#hasEnded && !this.#isFinishing && !this.#isRewinding && this.work.isZero;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  get seq(): number {
    return this.#program.seq;
  }

  get delivery(): DeliveryQueue {
    return this.#delivery;
  }

  /** The code replays what has happened already. */
  get replaying(): boolean {
    return this.#delivery.replaying;
  }

  get now(): Date {
    this.#hasReadClock = true;
    // The time of a lazy result does not count, that of another is not known yet: a replay knows it.
    if (this.unrecorded.hidesTime) {
      this.options.lastSteps.readsClock(this.facts.run.workflowType);
      this.rewind();
    }
    return this.facts.now;
  }

  get state(): RunState {
    this.#state ??= new RunState(this);
    return this.#state;
  }

  get updates(): Updates {
    this.#updates ??= new Updates(this);
    return this.#updates;
  }

  /** The code is ahead of what is recorded, and the run is held. */
  get isLive(): boolean {
    return !this.#hasEnded && !this.replaying && !this.#suspension.isSuspended;
  }

  get heartbeats(): Heartbeats {
    return this.reports.heartbeats;
  }

  takeHeartbeats(maxBytes: number): readonly HeartbeatDetail[] {
    return this.reports.take(maxBytes);
  }

  /** Begins; {@link ended} tells what became of it. */
  start(): void {
    void this.faults.guard(() => this.#execute());
  }

  /**
   * Continues after a suspension, without a replay, when no other worker has held the run since: then only what was
   * awaited may have changed, and whether a cancel is requested.
   *
   * @returns false when another worker has held it; this execution cannot be used then
   */
  resume(leased: LeasedRun, lease: Lease, claimedAtMs: number): boolean {
    const isNext = leased.leaseToken === this.lease.leaseToken + 1 && leased.attempt === this.facts.run.attempt;
    if (!this.isSuspended || !isNext) return false;
    this.beginTenure(leased, lease, claimedAtMs);
    this.#suspension.resume(leased);
    return true;
  }

  onSuspended(): void {
    if (!this.replaying) this.#program.forgetReplayed();
    this.tenure.end({ how: 'suspended' });
  }

  /** Drops the code from memory; the next claim of the run replays it. */
  forget(): void {
    this.end('suspended');
  }

  /** Nothing that this execution does counts from now on: every write of it would be refused. */
  loseLease(how: LeaseLoss): void {
    if (this.#hasEnded) return;
    logLeaseLoss(this.facts.log, this.lease.leaseToken, how);
    this.end(how === 'terminated' ? 'terminated' : 'lost');
  }

  /** Gives the run back, whatever it was doing, for a worker that shuts down. `delayMs`: not claimable before. */
  async release(reason: string, delayMs = 0): Promise<void> {
    this.unrecorded.sendKept();
    await this.faults.guard(async () => {
      await this.calls.call('releaseRun', { reason, delay: durationOf(delayMs) }, { gated: false });
      this.end('released');
    });
  }

  cancel(): void {
    if (!this.#hasEnded) this.#cancelRequest.receive();
  }

  /** Steps that have begun end and are recorded; then the run is given back. A replay continues it when it is resumed. */
  pause(): void {
    if (this.#hasEnded || this.#isPaused) return;
    this.#isPaused = true;
    this.#delivery.recheck();
  }

  arrived(): void {
    if (!this.#hasEnded) this.arrivals.hint();
  }

  onArrivalsTaken(): void {
    this.#cancelRequest.onArrivalsTaken();
  }

  open(name: string, kind: StepKind): StepRef | undefined {
    this.#program.refuseAfterEnd(name);
    // The code continued without a recorded result while the run was suspended: a replay shows what comes of that.
    if (this.#suspension.isSuspended) this.forget();
    if (this.#hasEnded || this.#isRewinding) return undefined;
    const opened = this.#program.open(name, kind);
    if (!('mismatch' in opened)) {
      if (opened.seq === LONG_HISTORY && !this.replaying) reportLongHistory(this.facts);
      return this.#isDead(opened, kind) ? undefined : opened;
    }
    const { runId } = this.facts.run;
    this.faults.nonDeterministic(
      `${opened.mismatch} (run ${runId}). Rename the step, or run the code that began the run.`,
    );
    return undefined;
  }

  /**
   * Executes a body. After a stall of the process a result may arrive before the end of the lease is noticed, so the lease
   * is checked before every body.
   */
  runBody(body: StepBody, onResult: (result: BodyResult) => void): void {
    if (this.lease.remainingMs <= 0) this.loseLease('expired');
    if (this.#hasEnded) return;
    this.cancellation.bodyStarts(body);
    body.start((result) => {
      this.cancellation.bodyEnded(body);
      if (this.#hasEnded) return;
      try {
        onResult(result);
      } catch (error) {
        this.faults.onError(error);
      }
    });
  }

  async wait(step: StepRef, { isDecided = false, onArrival, ...wait }: StepWait): Promise<WaitEnd> {
    const { stepId } = step;
    if (this.#hasEnded) throw new ExecutionEnded();
    // A branch of the code that has ended.
    if (this.#isCompensating && !step.isCompensation) return new Promise(() => undefined);
    this.arrivals.expect(stepId, onArrival);
    if (!isDecided && this.cancellation.isCancelled(step)) return CANCELLED;
    const end = await this.#waits.wait({ ...wait, stepId, uncancellable: isDecided || step.uncancellable });
    if (end.kind === 'due') this.arrivals.forget(stepId);
    return end;
  }

  abandonBranches(): void {
    this.#isCompensating = true;
    this.#waits.stop();
  }

  quiet(): Promise<void> {
    return new Promise((resolve) => {
      this.#onQuiet = resolve;
      this.#delivery.recheck();
    });
  }

  /** A body of the code that was under way when the compensations began, and was lost with its worker. */
  #isDead({ recorded, isCompensation }: StepRef, kind: StepKind): boolean {
    if (!this.options.leased.compensating || isCompensation || kind !== StepKind.FUNCTION) return false;
    return recorded === undefined || !isFinal(recorded);
  }

  beginFinish(): boolean {
    if (this.#isFinishing || this.#isRewinding) return false;
    this.#isFinishing = true;
    return true;
  }

  undoFinish(): void {
    this.#isFinishing = false;
  }

  foretellsEnd(stepId: string, ticket: ResultTicket): boolean {
    const { facts, unrecorded, work } = this;
    const isAlone = unrecorded.isClear && work.count === 1 && this.#waits.size === 0 && this.#delivery.isAlone(ticket);
    if (!isAlone || this.#state !== undefined || this.#updates !== undefined) return false;
    return this.options.lastSteps.isLast(facts.run.workflowType, stepId);
  }

  hasNotEnded(stepId: string): void {
    this.options.lastSteps.continued(this.facts.run.workflowType, stepId);
  }

  told(stepId: string | undefined): void {
    this.#lastTold = stepId;
    this.#seqWhenTold = this.#program.seq;
    this.#hasReadClock = false;
  }

  rewind(): void {
    if (this.#hasEnded || this.#isRewinding) return;
    this.#isRewinding = true;
    this.#delivery.stop();
    this.#waits.stop();
    this.unrecorded.sendKept();
    this.unrecorded.stop();
    this.#releaseWhenIdle();
  }

  #releaseWhenIdle(): void {
    if (this.work.isZero) void this.release('A replay must show its code what was recorded.');
  }

  /** The code stands still, and nothing of its work is under way that may bring it on. */
  #sendKept(): void {
    const { keptCount } = this.unrecorded;
    if (keptCount === 0 || this.work.count > keptCount) return;
    this.unrecorded.sendKept();
  }

  /** Learns after which step the code has returned. */
  #noteEnd(): void {
    const { lastSteps } = this.options;
    const { workflowType } = this.facts.run;
    if (this.#lastTold === undefined || this.#seqWhenTold !== this.#program.seq) return;
    if (this.#hasReadClock) lastSteps.readsClock(workflowType);
    else lastSteps.returned(workflowType, this.#lastTold);
  }

  /** @param error what the code threw, when it failed */
  end(how: ExecutionEnd, error?: unknown): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.calls.end();
    this.#delivery.stop();
    this.#waits.stop();
    this.unrecorded.stop();
    this.cancellation.stop(how);
    this.tenure.end({ how, error, stepId: error === undefined ? undefined : this.failures.stepOf(error) });
  }

  #deliver(recorded: readonly string[]): DeliveryQueue {
    const onIdle = () => {
      this.#sendKept();
      this.#state?.send();
      if (this.work.isZero) {
        this.#onQuiet?.();
        this.#onQuiet = undefined;
      }
      if (this.#isPaused) {
        // Somebody may have ended a step by hand whose body does not end.
        if (this.work.isZero || !this.arrivals.onIdle()) this.#giveBack();
      } else this.#suspension.onIdle();
    };
    const wantsIdle = () =>
      this.#waits.size > 0 || this.#isPaused || this.#onQuiet !== undefined || this.unrecorded.keptCount > 0;
    return new DeliveryQueue(recorded, onIdle, wantsIdle, this.clock);
  }

  /** The run is paused. @see pause */
  #giveBack(): void {
    if (!this.isIdle || !this.#suspension.isLive || !this.beginFinish()) return;
    void this.faults.guard(() =>
      this.calls.exclusively(async () => {
        if (this.#state !== undefined) await this.#state.sent();
        await this.calls.call('releaseRun', {}, { gated: false });
        this.end('released');
      }),
    );
  }

  async #execute(): Promise<void> {
    const { leased, workflow } = this.options;
    const memo = await loadMemo(leased, this.calls);
    // Held by the program for as long as it is needed.
    leased.memo = [];
    this.#program.replay(memo);
    this.retryBudget.replay(memo.entries.values());
    this.#delivery = this.#deliver(memo.delivered);
    this.arrivals.onReplay(memo);
    this.#cancelRequest.replay();
    if (leased.cancelRequested) this.cancel();
    let input: unknown;
    try {
      input = decodeValue(this.codec, leased.input);
    } catch (error) {
      this.faults.undecodable('The input cannot be decoded', error);
      return;
    }
    const context = new RunContext(this);
    const outcome = await runCode(workflow, context, input);
    if (this.#updates !== undefined) await this.#updates.settled();
    this.#program.end();
    const { compensations } = context;
    let ending = endingOf(this, outcome, {
      workflow,
      retries: leased.retries,
      cancelRequested: this.cancellation.isRequested,
      isCompensating: leased.compensating,
      lastCompensation: compensations?.lastSeq ?? 0,
    });
    let failed: readonly FailedCompensation[] | undefined;
    if (compensations?.hasWork && (ending.kind === 'fail' || ending.kind === 'cancel')) {
      if (this.#suspension.isSuspended) this.forget();
      if (this.#hasEnded) return;
      failed = await compensateRun(this, compensations, leased.compensating);
      if (ending.kind === 'cancel' && failed.length > 0)
        ending = {
          kind: 'fail',
          error: compensationError(compensations.compensated.length + failed.length, failed, ending.error),
        };
    } else if (leased.compensating && (ending.kind === 'complete' || ending.kind === 'continue')) {
      this.faults.nonDeterministic('The run is being compensated, but its code now returns.');
      return;
    }
    // What is left of its branches must not continue while the end is being recorded.
    this.#delivery.stop();
    if (this.#suspension.isSuspended) this.forget();
    if (this.#hasEnded || !this.beginFinish()) return;
    const { unawaited } = context;
    reportLeftovers(this.facts, this.options.unawaitedCalls, { unrequested: this.#delivery.unrequested, unawaited });
    if (this.#state !== undefined) await this.#state.sent();
    if (ending.kind === 'complete') this.#noteEnd();
    const how = await endRun(this, ending, {
      attempt: leased.retries + 1,
      maxAttempts: workflow.options.retry?.maxAttempts ?? 1,
      hasWaits: this.#waits.size > 0 || this.#isCompensating,
      compensation: reportOf(this.codec, compensations?.compensated ?? [], failed),
    });
    this.end(how, 'error' in ending ? ending.error : undefined);
  }
}
