import { ChurningSet } from '@perdure/collections';
import { type AwaitNoticesResponse, durationOf, type LeasedRun, msOf } from '@perdure/proto';
import type { Logger } from 'pino';
import { type Clock, pause } from '../clock.js';
import type { Codec } from '../codec/codec.js';
import { LastSteps } from '../execution/end/last-steps.js';
import { Lease } from '../execution/lease/lease.js';
import type { Ended } from '../execution/lease/lease-tenure.js';
import { RunExecution } from '../execution/run-execution.js';
import type { RunService, WorkerTransport } from '../rpc/worker-transport.js';
import type { Workflow } from '../workflow.js';
import { EarlyNotices } from './early-notices.js';
import { FaultBackoff } from './fault-backoff.js';
import { type Claim, LateClaims, leaseKey } from './late-claims.js';
import type { LeaseKeeper } from './lease-keeper.js';
import type { SlotLedger } from './slot-ledger.js';
import type { WarmCache } from './warm-cache.js';

export interface AdmissionOptions {
  readonly transport: WorkerTransport;
  readonly runService: RunService;
  readonly unawaitedCalls: 'error' | 'warn';
  readonly onNonDeterminism: 'hold' | 'fail';
  readonly clock: Clock;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly workflows: ReadonlyMap<string, Workflow>;
  readonly codec: Codec;
  readonly log: Logger;
  readonly ledger: SlotLedger;
  readonly warm: WarmCache;
  /** The outcome of the registration. */
  readonly registered: () => { readonly keeper: LeaseKeeper; readonly maxPayloadBytes: number };
  /** A slot is free again. */
  readonly onRoom: () => void;
}

/**
 * Admits leased runs: each takes a slot and resumes in memory, when it is warm, or by a replay. It starts immediately when
 * its lease can be trusted; when the answer with the lease took too long - the network or this process stalled - the lease
 * is renewed first, and a run that another worker holds by then never starts.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #executions = new ChurningSet<RunExecution>();
  readonly #late: LateClaims;
  readonly #early: EarlyNotices;
  readonly #faults = new FaultBackoff();
  readonly #lastSteps = new LastSteps();
  #onEnd: () => void = () => undefined;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#early = new EarlyNotices(options.clock);
    this.#late = new LateClaims({
      ...options,
      keeper: () => options.registered().keeper,
      onHeld: (claim) => this.#begin(claim, false),
      onGone: (claim) => this.#gone(claim),
    });
  }

  /** Runs that have a slot. */
  get size(): number {
    return this.#executions.size + this.#late.size;
  }

  /** @param sentAtMs when the poll that returned them was sent, by the clock */
  admit(runs: readonly LeasedRun[], sentAtMs: number): void {
    const { workflows, clock, ledger, log } = this.#options;
    const receivedAtMs = clock.nowMs();
    const late: Claim[] = [];
    for (const leased of runs) {
      const workflow = workflows.get(leased.workflowType);
      if (workflow === undefined) {
        const { runId, workflowType } = leased;
        log.error({ event: 'run_refused', runId, workflowType, message: 'The worker has no workflow of this type.' });
        this.#release(leased, `The worker has no workflow '${workflowType}'.`, this.#faults.next(runId).delayMs);
        continue;
      }
      if (!this.#early.apply(leased)) {
        this.#options.warm.take(leased.runId)?.forget();
        continue;
      }
      ledger.begin(leased.workflowType);
      const leaseMs = msOf(leased.leaseDuration) ?? 0;
      const lease = new Lease(leased.runId, leased.leaseToken, leaseMs, sentAtMs, clock);
      const claim = { leased, lease, workflow, receivedAtMs };
      // The lease may have been running for a while before this process heard of it.
      if (lease.mayBegin) this.#begin(claim, receivedAtMs - sentAtMs > leaseMs / 3);
      else late.push(claim);
    }
    if (late.length > 0) void this.#late.confirm(late);
  }

  /** The server says what has happened to runs; see AwaitNotices. */
  onNotices({ cancelRequested, lost, arrived, paused }: Omit<AwaitNoticesResponse, 'drain' | '$typeName'>): void {
    if (cancelRequested.length + lost.length + arrived.length + paused.length === 0) return;
    const cancelled = new Set(cancelRequested.map(leaseKey));
    const ended = new Set(lost.map(leaseKey));
    const awaited = new Set(arrived.map(leaseKey));
    // A pause whose notice is faster than the claim is heard of by a step that is refused, or with the next heartbeat.
    const stopped = new Set(paused.map(leaseKey));
    const unknown = new Set([...cancelled, ...ended, ...awaited]);
    for (const execution of [...this.#executions]) {
      const key = leaseKey(execution.lease);
      unknown.delete(key);
      if (awaited.has(key)) execution.arrived();
      if (stopped.has(key)) execution.pause();
      if (ended.has(key)) execution.loseLease('terminated');
      else if (cancelled.has(key)) execution.cancel();
    }
    for (const key of this.#late.onNotices({ cancelled, ended, awaited })) unknown.delete(key);
    if (unknown.size > 0) this.#early.remember(unknown, { cancelled, ended, awaited });
  }

  /** Waits until all runs have ended, for at most `graceMs`; then gives back those that have not. */
  async end(graceMs: number): Promise<void> {
    const { clock } = this.#options;
    const untilMs = clock.nowMs() + graceMs;
    while (this.size > 0 && clock.nowMs() < untilMs) {
      const ended = new AbortController();
      this.#onEnd = () => ended.abort();
      await pause(clock, untilMs - clock.nowMs(), ended.signal);
    }
    await this.releaseAll('The worker is shutting down.');
  }

  async releaseAll(reason: string): Promise<void> {
    for (const { leased } of this.#late.giveUp()) this.#release(leased, reason);
    await Promise.all([...this.#executions].map((execution) => execution.release(reason)));
  }

  #gone({ leased, lease: { runId, leaseToken } }: Claim): void {
    this.#options.log.debug({ event: 'claim_arrived_late', runId, leaseToken });
    this.#options.warm.take(runId)?.forget();
    this.#freeSlot(leased);
  }

  #release({ runId, leaseToken }: LeasedRun, reason: string, delayMs = 0): void {
    const { transport, namespace, log } = this.#options;
    transport
      .releaseRun({ namespace, runId, leaseToken, reason, delay: durationOf(delayMs) })
      .catch((error: unknown) => log.debug({ event: 'release_failed', runId, err: error }));
  }

  #begin(claim: Claim, renewNow: boolean): void {
    const { leased, lease, receivedAtMs } = claim;
    const { keeper } = this.#options.registered();
    const warm = this.#options.warm.take(leased.runId);
    const isWarm = warm?.resume(leased, lease, receivedAtMs) ?? false;
    if (!isWarm) warm?.forget();
    const execution = warm !== undefined && isWarm ? warm : this.#newExecution(claim, keeper);
    this.#executions.add(execution);
    keeper.add(execution, renewNow);
    if (!isWarm) execution.start();
    void execution.ended.then((ended) => {
      keeper.remove(execution);
      this.#executions.delete(execution);
      if (execution.isSuspended) this.#options.warm.put(execution);
      this.#freeSlot(leased);
      this.#report(leased, ended);
    });
  }

  #newExecution({ leased, lease, workflow, receivedAtMs }: Claim, keeper: LeaseKeeper): RunExecution {
    const { namespace, taskQueue, transport, runService, unawaitedCalls, codec, log, clock, registered } =
      this.#options;
    return new RunExecution({
      leased,
      lease,
      claimedAtMs: receivedAtMs,
      workflow,
      namespace,
      taskQueue,
      transport,
      runService,
      isKept: this.#options.warm.isEnabled,
      unawaitedCalls,
      lastSteps: this.#lastSteps,
      codec,
      maxPayloadBytes: registered().maxPayloadBytes,
      log,
      nextFault: () => this.#faults.next(leased.runId),
      onNonDeterminism: this.#options.onNonDeterminism,
      clock,
      flushHeartbeats: (run) => keeper.flush(run),
    });
  }

  #report(leased: LeasedRun, { how, error, stepId }: Ended): void {
    const { log } = this.#options;
    const { runId, workflowId, workflowType } = leased;
    if (how !== 'released' && how !== 'lost' && how !== 'held') this.#faults.forget(runId);
    log.debug({ event: 'execution_ended', runId, how });
    if (how !== 'failed' && how !== 'retrying') return;
    const { name, message } = describe(error);
    const event = how === 'failed' ? 'run_failed' : 'run_attempt_failed';
    log.warn(
      { event, workflowType, workflowId, runId, ...(stepId === undefined ? {} : { step: stepId }), error: name },
      message,
    );
  }

  #freeSlot({ workflowType }: LeasedRun): void {
    this.#options.ledger.end(workflowType);
    this.#onEnd();
    this.#options.onRoom();
  }
}

/** The author's own error: anything may have been thrown, and its properties may throw when they are read. */
function describe(error: unknown): { readonly name: string; readonly message: string } {
  try {
    return error instanceof Error
      ? { name: String(error.name), message: String(error.message) }
      : { name: typeof error, message: String(error) };
  } catch {
    return { name: 'unknown', message: 'The error cannot be read.' };
  }
}
