import type { LeasedRun, StepKind } from '@perdure/proto';
import { type Clock, monotonicClock } from '../clock.js';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import type { RunInfo } from '../context.js';
import { durationMessage } from '../rpc/time.js';
import { BodyReports } from './body/body-reports.js';
import type { HeartbeatDetail, Heartbeats } from './body/heartbeats.js';
import type { BodyResult, StepBody } from './body/step-body.js';
import { Cancellation } from './cancel/cancellation.js';
import type { ContextHost } from './context/context-host.js';
import { RunContext } from './context/run-context.js';
import { runCode } from './end/run-code.js';
import type { EndingHost } from './end/run-ending.js';
import { endRun } from './end/run-ending.js';
import type { RunExecutionOptions } from './execution-options.js';
import type { HeldRun } from './held-run.js';
import type { Lease } from './lease/lease.js';
import { type Ended, type ExecutionEnd, Holding } from './lease/lease-tenure.js';
import { ExecutionEnded, type LeasedCalls } from './lease/leased-calls.js';
import { DeliveryQueue } from './order/delivery-queue.js';
import { FailureLog } from './order/failure-log.js';
import { CANCEL_EVENT, loadMemo } from './order/memo.js';
import { Program, type StepRef } from './order/program.js';
import { type FaultHost, Faults } from './run/faults.js';
import { PayloadLimit } from './run/payload-limit.js';
import { RunFacts } from './run/run-facts.js';
import { WorkCount } from './run/work-count.js';
import { Suspension } from './wait/suspension.js';
import type { SuspensionHost } from './wait/suspension-host.js';
import { CANCELLED, type WaitEnd, Waits } from './wait/waits.js';

/**
 * Executes one leased run: replays what is recorded, continues live, and gives the run back when everything awaits time.
 * Whatever happens to the worker, the server's record is complete: this object can be dropped at any moment.
 */
export class RunExecution implements ContextHost, SuspensionHost, EndingHost, FaultHost, HeldRun {
  readonly codec: Codec;
  readonly facts: RunFacts;
  readonly limit: PayloadLimit;
  readonly reports: BodyReports;
  readonly faults: Faults;
  readonly failures = new FailureLog();
  readonly cancellation = new Cancellation();
  readonly work = new WorkCount(() => {
    if (this.#waits.size > 0) this.#delivery.touch();
  });
  readonly #options: RunExecutionOptions;
  readonly #clock: Clock;
  readonly #program = new Program();
  readonly #waits: Waits;
  readonly #suspension: Suspension;
  #holding: Holding;
  #delivery: DeliveryQueue;
  #isSuspect: boolean;
  #isCancelObserved: boolean;
  /** The author's function has returned or thrown. */
  #hasCodeEnded = false;
  /** The end of the run is being recorded. */
  #isFinishing = false;
  #hasEnded = false;

  constructor(options: RunExecutionOptions) {
    const { leased, clock = monotonicClock } = options;
    this.#options = options;
    this.#clock = clock;
    this.codec = options.codec;
    this.facts = new RunFacts(leased, options);
    this.limit = new PayloadLimit(options.maxPayloadBytes);
    this.reports = new BodyReports(leased.runId, this.codec, this.limit, () => options.flushHeartbeats(this));
    this.faults = new Faults(this, options.transport, options.faultDelayMs);
    this.#waits = new Waits(() => this.#delivery.touch(), clock);
    this.#suspension = new Suspension(this, this.#waits, clock);
    this.#delivery = this.#deliver([]);
    this.#isSuspect = leased.lostLeases > 0;
    this.#isCancelObserved = leased.cancelObserved !== undefined;
    this.#holding = this.#hold(leased, options.lease, options.claimedAtMs);
  }

  get run(): RunInfo {
    return this.facts.run;
  }

  get lease(): Lease {
    return this.#holding.lease;
  }

  get calls(): LeasedCalls {
    return this.#holding.calls;
  }

  /** How the present lease ended; never rejects. */
  get ended(): Promise<Ended> {
    return this.#holding.ended;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** It was suspended, and may resume under the next lease of the run. */
  get isParked(): boolean {
    return this.#suspension.isSuspended && !this.#hasEnded;
  }

  get isIdle(): boolean {
    return !this.#hasEnded && !this.#isFinishing && this.work.isZero;
  }

  get isSuspect(): boolean {
    return this.#isSuspect;
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

  get heartbeats(): Heartbeats {
    return this.reports.heartbeats;
  }

  takeHeartbeats(maxBytes: number): readonly HeartbeatDetail[] {
    return this.reports.take(maxBytes);
  }

  /** Begins. What becomes of it is told by {@link ended}. */
  start(): void {
    void this.faults.guard(() => this.#execute());
  }

  /**
   * Continues after a suspension, without a replay, when nobody else has held the run since: then all that may have changed is
   * what was awaited, and whether a cancel was requested.
   *
   * @returns false when that is not so; the execution is of no use any more
   */
  resume(leased: LeasedRun, lease: Lease, claimedAtMs: number): boolean {
    const isNext = leased.leaseToken === this.lease.leaseToken + 1 && leased.attempt === this.facts.run.attempt;
    if (!this.isParked || !isNext) return false;
    this.#holding = this.#hold(leased, lease, claimedAtMs);
    this.#isSuspect = false;
    this.#suspension.resume(leased);
    return true;
  }

  onSuspended(): void {
    if (!this.replaying) this.#program.forgetReplayed();
    this.#holding.end({ how: 'suspended' });
  }

  evict(): void {
    this.end('suspended');
  }

  /** The lease is lost: nothing that this execution does counts any more. */
  drop(): void {
    if (this.#hasEnded) return;
    this.facts.log.warn({ event: 'lease_lost', leaseToken: this.lease.leaseToken });
    this.end('lost');
  }

  /** Gives the run back, whatever it was doing; for a worker that must go. */
  async release(reason: string, delayMs = 0): Promise<void> {
    await this.faults.guard(async () => {
      await this.calls.call('releaseRun', { reason, delay: durationMessage(delayMs) }, { gated: false });
      this.end('released');
    });
  }

  /** A cancel is requested: bodies are stopped, the code is told at the next place in the order of results. */
  cancel(): void {
    if (this.cancellation.isRequested || this.#hasEnded) return;
    this.cancellation.request();
    if (!this.#isCancelObserved) void this.faults.guard(() => this.#observeCancel());
    this.#waits.cancel();
    this.#delivery.touch();
  }

  async #observeCancel(): Promise<void> {
    this.#isCancelObserved = true;
    const ticket = this.#delivery.reserve();
    await this.work.during(() => this.calls.call('observeCancel', { eventSeq: ticket.eventSeq }));
    ticket.ready(() => this.cancellation.observe());
  }

  open(name: string, kind: StepKind): StepRef | undefined {
    if (this.#hasCodeEnded) throw askedTooLate(name);
    // The code continued without a result of ours while the run was not held: a replay will tell what comes of that.
    if (this.#suspension.isSuspended) this.evict();
    if (this.#hasEnded) return undefined;
    const opened = this.#program.open(name, kind);
    if (!('mismatch' in opened)) return opened;
    const { runId } = this.facts.run;
    this.faults.failNonDeterministic(
      `${opened.mismatch} (run ${runId}). Rename the step, or run the code that began the run.`,
    );
    return undefined;
  }

  /**
   * Executes a body. After a stall of the process a result may come in before the lease's end is noticed, so the lease is
   * looked at before every body.
   */
  runBody(body: StepBody, onResult: (result: BodyResult) => void): void {
    if (this.lease.remainingMs <= 0) this.drop();
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

  wait(step: StepRef, on: 'TIMER' | 'RETRY', remainingMs: number): Promise<WaitEnd> {
    const { stepId, uncancellable } = step;
    if (this.#hasEnded) throw new ExecutionEnded();
    if (this.cancellation.isCancelled(step)) return Promise.resolve(CANCELLED);
    return this.#waits.wait({ stepId, on, uncancellable, remainingMs });
  }

  untilMs(time: Date): number {
    return this.#holding.untilMs(time, this.facts.now);
  }

  beginFinish(): boolean {
    if (this.#isFinishing) return false;
    this.#isFinishing = true;
    return true;
  }

  /** @param error what the code threw, when it failed */
  end(how: ExecutionEnd, error?: unknown): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.calls.end();
    this.#delivery.stop();
    this.#waits.stop();
    this.cancellation.stop(how);
    this.#holding.end({ how, error, stepId: error === undefined ? undefined : this.failures.stepOf(error) });
  }

  #hold(leased: LeasedRun, lease: Lease, claimedAtMs: number): Holding {
    const { transport, namespace, log } = this.#options;
    return new Holding(leased, lease, claimedAtMs, {
      transport,
      namespace,
      log,
      onLost: () => this.drop(),
      onFault: (error) => this.faults.giveBack('The server failed repeatedly', error),
      onRefusal: (error) => this.faults.onError(error),
    });
  }

  #deliver(recorded: readonly string[]): DeliveryQueue {
    const onIdle = () => this.#suspension.onIdle();
    return new DeliveryQueue(recorded, onIdle, () => this.#waits.size > 0, this.#clock);
  }

  async #execute(): Promise<void> {
    const { leased, workflow } = this.#options;
    const memo = await loadMemo(leased, this.calls);
    // Held by the program for as long as it is needed.
    leased.memo = [];
    this.#program.replay(memo);
    this.#delivery = this.#deliver(memo.delivered);
    if (this.#isCancelObserved) this.#delivery.ask(CANCEL_EVENT, () => this.cancellation.observe());
    if (leased.cancelRequested) this.cancel();
    let input: unknown;
    try {
      input = decodeValue(this.codec, leased.input);
    } catch (error) {
      // A worker that was deployed without the right codec must not end the runs of those that have it.
      this.faults.giveBack('The input cannot be decoded', error);
      return;
    }
    const context = new RunContext(this);
    const outcome = await runCode(workflow, context, input);
    this.#hasCodeEnded = true;
    // What is left of its branches must not go on while the end is being recorded.
    this.#delivery.stop();
    if (this.#suspension.isSuspended) this.evict();
    if (this.#hasEnded || !this.beginFinish()) return;
    this.#reportLeftovers(context);
    const how = await endRun(this, outcome, {
      workflow,
      retries: leased.retries,
      cancelRequested: this.cancellation.isRequested,
      hasOpenSteps: this.#waits.size > 0 || !this.work.isZero,
    });
    this.end(how, outcome.ok ? undefined : outcome.error);
  }

  #reportLeftovers({ unawaited }: RunContext): void {
    const { log } = this.facts;
    const { unasked } = this.#delivery;
    if (unasked.length > 0) log.warn({ event: 'recorded_steps_not_asked_for', stepIds: unasked.slice(0, 20) });
    if (unawaited.length > 0) log.warn({ event: 'step_not_awaited', stepIds: unawaited.slice(0, 20) });
  }
}

function askedTooLate(name: string): Error {
  return new Error(
    `'${name}' was asked for after the workflow's function had ended. Await everything before it returns.`,
  );
}
