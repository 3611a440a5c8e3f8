import type { MessageInitShape } from '@bufbuild/protobuf';
import type { LeasedRun, PayloadSchema, StepKind } from '@perdure/proto';
import type { Logger } from 'pino';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import type { RunInfo } from '../context.js';
import { CancelledError, LeaseLostError, NonDeterminismError, PayloadTooLargeError } from '../errors/errors.js';
import { failureOf } from '../errors/failure.js';
import { RpcError } from '../rpc/rpc-error.js';
import { dateOf, durationMessage } from '../rpc/time.js';
import type { WorkerTransport } from '../worker/worker-transport.js';
import type { Workflow } from '../workflow.js';
import { DeliveryQueue } from './delivery-queue.js';
import { type HeartbeatDetail, Heartbeats } from './heartbeats.js';
import { type ExecutionEnd, Holding } from './holding.js';
import { idempotencyKey } from './idempotency-key.js';
import type { Lease } from './lease.js';
import { ExecutionEnded, type LeasedCalls } from './leased-calls.js';
import { loadMemo, type Memo } from './memo.js';
import { mismatchOf, ProgramOrder, type StepRef } from './program-order.js';
import { runCode } from './run-code.js';
import { endRun } from './run-ending.js';
import { currentScope } from './scope.js';
import type { BodyResult, StepBody, StepBodyHost } from './step-body.js';
import { Suspension } from './suspension.js';
import { CANCELLED, type WaitEnd, Waits } from './waits.js';
import { RunContext } from './workflow-context.js';

export interface RunExecutionOptions {
  readonly leased: LeasedRun;
  readonly lease: Lease;
  /** When the claim was received, by the monotonic clock. */
  readonly claimedAtMs: number;
  readonly workflow: Workflow;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly transport: WorkerTransport;
  readonly codec: Codec;
  readonly maxPayloadBytes: number;
  readonly log: Logger;
  /** Sends what `heartbeats` holds now. */
  readonly flushHeartbeats: (execution: RunExecution) => Promise<void>;
}

const EMPTY_MEMO: Memo = { entries: new Map(), delivered: [] };
/** Before a run that met a fault of the server or ours may be claimed again, in ms. */
const FAULT_DELAY_MS = 5_000;

/**
 * Executes one leased run: replays what is recorded, goes on live, and gives the run back when everything awaits time.
 * Whatever happens to the worker, the server's record is complete: this object can be dropped at any moment.
 */
export class RunExecution implements StepBodyHost {
  readonly run: RunInfo;
  readonly codec: Codec;
  readonly #options: RunExecutionOptions;
  #holding: Holding;
  #childLog: Logger | undefined;
  readonly #waits = new Waits(() => this.delivery.touch());
  readonly #bodies = new Set<StepBody>();
  readonly #order = new ProgramOrder();
  readonly #suspension = new Suspension(this, this.#waits);
  #heartbeats: Heartbeats | undefined;
  #controller: AbortController | undefined;
  #abortReason: Error | undefined;
  #memo: Memo = EMPTY_MEMO;
  #delivery = new DeliveryQueue([], () => undefined);
  #hasEnded = false;
  #finishing = false;
  #cancelRequested: boolean;
  #busyCount = 0;
  #now: Date;

  constructor(options: RunExecutionOptions) {
    const { leased, lease } = options;
    this.#options = options;
    this.codec = options.codec;
    this.#cancelRequested = leased.cancelRequested;
    const createdAt = leased.createdAt === undefined ? new Date(0) : dateOf(leased.createdAt);
    const startedAt = leased.startedAt === undefined ? createdAt : dateOf(leased.startedAt);
    this.#now = startedAt;
    this.run = {
      runId: leased.runId,
      workflowId: leased.workflowId,
      workflowType: leased.workflowType,
      namespace: options.namespace,
      taskQueue: options.taskQueue,
      version: leased.version,
      attempt: leased.attempt,
      createdAt,
      startedAt,
    };
    this.#holding = this.#hold(leased, lease, options.claimedAtMs);
  }

  get lease(): Lease {
    return this.#holding.lease;
  }

  get calls(): LeasedCalls {
    return this.#holding.calls;
  }

  /** How the present lease ended; never rejects. */
  get ended(): Promise<ExecutionEnd> {
    return this.#holding.ended;
  }

  /** It was suspended, and may go on under the next lease of the run. */
  get isParked(): boolean {
    return this.#suspension.isParked && !this.#hasEnded;
  }

  #hold(leased: LeasedRun, lease: Lease, claimedAtMs: number): Holding {
    const { transport, namespace, log } = this.#options;
    return new Holding(leased, lease, claimedAtMs, {
      transport,
      namespace,
      log,
      onLost: () => this.drop(),
      onFault: (error) => this.fault('The server failed repeatedly', error),
      onRefusal: (error) => this.#failed(error),
    });
  }

  #end(how: ExecutionEnd): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.calls.end();
    this.#delivery.stop();
    this.#waits.stop();
    this.#abort(() =>
      how === 'lost'
        ? new LeaseLostError('The lease of the run was lost; another worker goes on with it.')
        : new CancelledError('The run has ended.'),
    );
    this.#holding.end(how);
  }

  /** Made on demand: most runs report none. */
  get heartbeats(): Heartbeats {
    this.#heartbeats ??= new Heartbeats(this.codec);
    return this.#heartbeats;
  }

  /** What is to be sent along with the next lease renewal; see {@link Heartbeats.take}. */
  takeHeartbeats(): readonly HeartbeatDetail[] {
    return this.#heartbeats?.take() ?? [];
  }

  get delivery(): DeliveryQueue {
    return this.#delivery;
  }

  /** The code replays what has happened already. */
  get replaying(): boolean {
    return this.#delivery.replaying;
  }

  /** Made on demand: most code never looks at it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  get now(): Date {
    return this.#now;
  }

  /** Made on demand. */
  get log(): Logger {
    const { runId, workflowId, workflowType } = this.run;
    this.#childLog ??= this.#options.log.child({ runId, workflowId, workflowType });
    return this.#childLog;
  }

  /** Begins. What becomes of it is told by {@link ended}. */
  start(): void {
    void this.#guard(() => this.#execute());
  }

  /**
   * Goes on after a suspension, without a replay, when nobody else has held the run since: then all that may have changed is
   * what was awaited, and whether a cancel was asked for.
   *
   * @returns false when that is not so; the execution is of no use any more
   */
  resume(leased: LeasedRun, lease: Lease, claimedAtMs: number): boolean {
    const isNext = leased.leaseToken === this.lease.leaseToken + 1 && leased.attempt === this.run.attempt;
    if (!this.isParked || !isNext) return false;
    this.#holding = this.#hold(leased, lease, claimedAtMs);
    this.#suspension.resumed(leased);
    return true;
  }

  /** The suspension is committed: the lease is over, but the code stays where it stands. */
  parked(): void {
    if (!this.replaying) this.#memo = EMPTY_MEMO;
    this.#holding.end('suspended');
  }

  /** Forgets a parked execution; whoever holds the run next replays it. */
  evict(): void {
    this.#end('suspended');
  }

  /** The lease is lost: nothing that this execution does counts any more. */
  drop(): void {
    if (this.#hasEnded) return;
    this.log.warn({ event: 'lease_lost', leaseToken: this.lease.leaseToken });
    this.#end('lost');
  }

  /** Gives the run back, whatever it was doing; for a worker that must go. */
  async release(reason: string, delayMs = 0): Promise<void> {
    await this.#guard(async () => {
      await this.calls.call('releaseRun', { reason, delay: durationMessage(delayMs) }, { gated: false });
      this.#end('released');
    });
  }

  /** A cancel was asked for. */
  cancel(): void {
    if (this.#cancelRequested || this.#hasEnded) return;
    this.#cancelRequested = true;
    const reason = new CancelledError();
    for (const body of this.#bodies) if (!body.uncancellable) body.abort(reason);
    this.#abortReason = reason;
    this.#controller?.abort(reason);
    this.#waits.cancel();
    this.#delivery.touch();
  }

  isCancelled(step: StepRef): boolean {
    return this.#cancelRequested && !step.uncancellable;
  }

  /**
   * Gives the next use of a name its id and place, and holds it against what is recorded.
   *
   * @returns undefined when they do not fit: the run fails, and the call never ends
   */
  open(name: string, kind: StepKind): StepRef | undefined {
    // The code went on by itself, without a result of ours, while the run was not held: a replay will tell what comes of that.
    if (this.#suspension.isParked) this.evict();
    if (this.#hasEnded) return undefined;
    const { stepId, seq } = this.#order.next(name);
    const recorded = this.#memo.entries.get(stepId);
    const uncancellable = currentScope().uncancellable === true;
    if (recorded === undefined) return { stepId, seq, recorded, uncancellable };
    const mismatch = mismatchOf(recorded, { kind, seq }, this.#cancelRequested);
    if (mismatch === undefined) return { stepId, seq: recorded.seq, recorded, uncancellable };
    this.failNonDeterministic(
      `${mismatch} (run ${this.run.runId}). Rename the step, or run the code that began the run.`,
    );
    return undefined;
  }

  /** Ends the run as NON_DETERMINISM, past any catch of the author's code. */
  failNonDeterministic(message: string): void {
    void this.#guard(async () => {
      if (this.#finishing) return;
      this.#finishing = true;
      this.log.error({ event: 'non_determinism', message });
      await this.calls.call('failWorkflow', { failure: failureOf(this.codec, new NonDeterminismError(message)) });
      this.#end('failed');
    });
  }

  /**
   * Runs one of our own activities about a call of the author's. Errors in it are ours to deal with; once the execution has
   * ended it just stops.
   */
  activity(work: () => Promise<void>): void {
    void this.#guard(work);
  }

  /** While `work` runs, the run is not suspended. */
  async busy<T>(work: () => Promise<T>): Promise<T> {
    this.beginWork();
    try {
      return await work();
    } finally {
      this.endWork();
    }
  }

  /** The code has not come to its end, and no work of ours is under way that needs the lease. */
  get isIdle(): boolean {
    return !this.#hasEnded && !this.#finishing && this.#busyCount === 0;
  }

  /** Until {@link endWork}, the run is not suspended. */
  beginWork(): void {
    this.#busyCount++;
  }

  endWork(): void {
    this.#busyCount--;
    if (this.#waits.size > 0) this.#delivery.touch();
  }

  /**
   * Executes a body. After a stall of the process a result may come in before the lease's end is noticed, so the lease is
   * looked at before every body.
   *
   * @param onResult not called once the execution has ended
   */
  runBody(body: StepBody, onResult: (result: BodyResult) => void): void {
    if (this.lease.remainingMs <= 0) this.drop();
    if (this.#hasEnded) return;
    this.#bodies.add(body);
    if (this.#cancelRequested && !body.uncancellable) body.abort(new CancelledError());
    body.start((result) => {
      this.#bodies.delete(body);
      if (this.#hasEnded) return;
      try {
        onResult(result);
      } catch (error) {
        this.#failed(error);
      }
    });
  }

  wait(step: StepRef, on: 'TIMER' | 'RETRY', remainingMs: number): Promise<WaitEnd> {
    const { stepId, uncancellable } = step;
    if (this.#hasEnded) throw new ExecutionEnded();
    if (this.isCancelled(step)) return Promise.resolve(CANCELLED);
    return this.#waits.wait({ stepId, on, uncancellable, remainingMs });
  }

  /** Delivers something that is not recorded, in its turn. */
  deliverUnrecorded(deliver: () => void): void {
    this.#delivery.later(deliver);
  }

  /** The workflow's clock: the time of the latest result. */
  advanceClock(time: Date): void {
    if (time > this.#now) this.#now = time;
  }

  /** Ms until a time of the database's clock, reckoned from the claim. */
  untilMs(time: Date): number {
    return this.#holding.untilMs(time, this.#now);
  }

  /** @throws {PayloadTooLargeError} */
  checkSize(payload: MessageInitShape<typeof PayloadSchema> | undefined, what: string): void {
    const bytes = payload?.data?.byteLength ?? 0;
    if (bytes > this.#options.maxPayloadBytes) {
      throw new PayloadTooLargeError(
        `${what} has ${bytes} bytes; the server accepts ${this.#options.maxPayloadBytes}. Keep it elsewhere and pass a reference.`,
      );
    }
  }

  idempotencyKey(stepId: string): string {
    return idempotencyKey(this.run.runId, stepId);
  }

  lastHeartbeat(stepId: string): unknown {
    return this.heartbeats.last(stepId);
  }

  recordHeartbeat(stepId: string, attemptNumber: number, detail: unknown): void {
    const payload = this.heartbeats.record(stepId, attemptNumber, detail);
    this.checkSize(payload, `The heartbeat detail of step '${stepId}'`);
  }

  /** Sends a detail that no heartbeat has carried yet, before the attempt ends. */
  async flushHeartbeat(stepId: string): Promise<void> {
    if (this.heartbeats.isSent(stepId)) return;
    await this.#options.flushHeartbeats(this);
  }

  /** Something failed that is not the author's: the run goes back, for another worker or a later build. */
  fault(what: string, error: unknown): void {
    if (this.#hasEnded) return;
    this.log.error({ event: 'execution_fault', what, err: error });
    const { transport, namespace } = this.#options;
    const { runId, leaseToken } = this.lease;
    const message = error instanceof Error ? error.message : String(error);
    const reason = `${what}: ${message}`.replace(/[^\P{Cc}\n\t]/gu, ' ').slice(0, 250);
    this.#end('released');
    transport
      .releaseRun({ namespace, runId, leaseToken, reason, delay: durationMessage(FAULT_DELAY_MS) })
      .catch((cause: unknown) => this.log.warn({ event: 'release_failed', err: cause }));
  }

  /** Tells whoever still runs or listens; an error is made only when somebody does. */
  #abort(makeReason: () => Error): void {
    if (this.#bodies.size === 0 && this.#controller === undefined) return;
    const reason = makeReason();
    for (const body of this.#bodies) body.abort(reason);
    this.#abortReason ??= reason;
    this.#controller?.abort(reason);
  }

  async #guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (error instanceof ExecutionEnded || this.#hasEnded) return;
    if (error instanceof RpcError && error.reason === 'STEP_MISMATCH') this.failNonDeterministic(error.message);
    else this.fault('A call was refused', error);
  }

  async #execute(): Promise<void> {
    const { leased, workflow } = this.#options;
    const memo = loadMemo(leased, this.calls);
    this.#memo = memo instanceof Promise ? await memo : memo;
    // Held by the memo for as long as it is needed.
    leased.memo = [];
    this.#delivery = new DeliveryQueue(
      this.#memo.delivered,
      () => this.#suspension.onQuiet(),
      () => this.#waits.size > 0,
    );
    if (this.#cancelRequested) this.#abortReason = new CancelledError();
    let input: unknown;
    try {
      input = decodeValue(this.codec, leased.input);
    } catch (error) {
      // A worker that was deployed without the right codec must not end the runs of those that have it.
      this.fault('The input cannot be decoded', error);
      return;
    }
    const outcome = await runCode(workflow, new RunContext(this), input);
    if (this.#suspension.isParked) this.evict();
    if (this.#hasEnded || this.#finishing) return;
    this.#finishing = true;
    this.#reportUnasked();
    const how = await endRun(this, outcome, {
      workflow,
      retries: leased.retries,
      cancelRequested: this.#cancelRequested,
      hasOpenSteps: this.#waits.size > 0 || this.#busyCount > 0,
    });
    this.#end(how);
  }

  #reportUnasked(): void {
    const { unasked } = this.#delivery;
    if (unasked.length > 0) this.log.warn({ event: 'recorded_steps_not_asked_for', stepIds: unasked.slice(0, 20) });
  }
}
