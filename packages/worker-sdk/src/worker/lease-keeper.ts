import { ChurningSet } from '@perdure/collections';
import type { RecordHeartbeatResponse_LeaseState } from '@perdure/proto';
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import type { HeldRun } from '../execution/held-run.js';
import type { Lease } from '../execution/lease/lease.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';
import { HeartbeatDetails } from './heartbeat-details.js';

export interface LeaseKeeperOptions {
  readonly transport: WorkerTransport;
  readonly clock: Clock;
  readonly namespace: string;
  readonly workerId: string;
  /** Longest interval between heartbeats, as the server demands, in ms. */
  readonly heartbeatIntervalMs: number;
  readonly log: Logger;
  readonly onDrain: () => void;
  readonly onNotRegistered: () => void;
}

/** Longest interval while runs are held, in ms: heartbeats also bring cancel requests. */
const BUSY_INTERVAL_MS = 2_000;
const RETRY_MS = 250;
const LEASES_PER_CALL = 1_000;

/**
 * Keeps the leases of all runs that the worker holds alive, and ends the execution of a run whose lease can no longer be trusted;
 * after a stall of the process this check comes first.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #details: HeartbeatDetails;
  readonly #runs = new ChurningSet<HeldRun>();
  #cancelTimer: () => void = () => undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #nextBeatAtMs: number;
  #beating = false;
  #stopped = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
    this.#details = new HeartbeatDetails(options);
    this.#nextBeatAtMs = options.clock.nowMs() + options.heartbeatIntervalMs;
    this.#arm();
  }

  /** @param renewNow the lease may have been running for a while */
  add(run: HeldRun, renewNow: boolean): void {
    this.#runs.add(run);
    const beatAtMs = this.#options.clock.nowMs() + (renewNow ? 0 : this.#intervalMs);
    this.#nextBeatAtMs = Math.min(this.#nextBeatAtMs, beatAtMs);
    // Only what is due earlier than the timer moves it: runs come by the thousand.
    const nextAtMs = this.#beating ? Number.POSITIVE_INFINITY : this.#nextBeatAtMs;
    if (Math.min(nextAtMs, run.lease.trustedUntilMs) < this.#timerAtMs) this.#arm();
  }

  remove(run: HeldRun): void {
    this.#runs.delete(run);
  }

  /**
   * Renews leases of runs that are not kept yet, at most 1,000.
   *
   * @returns what became of each, in their order
   * @throws {RpcError}
   */
  async confirm(leases: readonly Lease[]): Promise<readonly RecordHeartbeatResponse_LeaseState[]> {
    const { transport, clock, namespace, workerId, onDrain } = this.#options;
    const sentAtMs = clock.nowMs();
    const answer = await transport.recordHeartbeat(
      { namespace, workerId, leases: leases.map(({ runId, leaseToken }) => ({ runId, leaseToken })) },
      { timeoutMs: this.#timeoutMs },
    );
    answer.leases.forEach(({ renewed }, index) => {
      if (renewed) leases[index]?.renewed(sentAtMs);
    });
    if (answer.drain) onDrain();
    return answer.leases;
  }

  /** Sends the details of one run now. Never rejects. */
  flush(run: HeldRun): Promise<void> {
    return this.#details.flush(run);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
  }

  get #intervalMs(): number {
    const { heartbeatIntervalMs } = this.#options;
    return this.#runs.size > 0 ? Math.min(heartbeatIntervalMs, BUSY_INTERVAL_MS) : heartbeatIntervalMs;
  }

  get #timeoutMs(): number {
    return Math.max(300, Math.min(this.#options.heartbeatIntervalMs, 5_000));
  }

  #arm(): void {
    this.#cancelTimer();
    if (this.#stopped) return;
    const { clock } = this.#options;
    let atMs = this.#beating ? Number.POSITIVE_INFINITY : this.#nextBeatAtMs;
    for (const { lease } of this.#runs) atMs = Math.min(atMs, lease.trustedUntilMs);
    this.#timerAtMs = atMs;
    this.#cancelTimer = clock.after(atMs - clock.nowMs(), () => this.#tick());
  }

  #tick(): void {
    for (const run of [...this.#runs]) {
      if (run.lease.remainingMs > 0) continue;
      this.#runs.delete(run);
      run.loseLease('expired');
    }
    if (!this.#beating && this.#options.clock.nowMs() >= this.#nextBeatAtMs) void this.#beat();
    this.#arm();
  }

  async #beat(): Promise<void> {
    const { clock } = this.#options;
    this.#beating = true;
    try {
      await Promise.all(this.#batches().map((runs) => this.#renew(runs)));
      this.#nextBeatAtMs = clock.nowMs() + this.#intervalMs;
      if (!this.#stopped) void this.#details.send(this.#runs);
    } catch (error) {
      this.#nextBeatAtMs = clock.nowMs() + RETRY_MS * (0.5 + Math.random());
      if (!this.#stopped) this.#failed(error);
    } finally {
      this.#beating = false;
      this.#arm();
    }
  }

  #failed(error: unknown): void {
    const { log, onNotRegistered } = this.#options;
    if (error instanceof RpcError && error.reason === 'WORKER_NOT_REGISTERED') onNotRegistered();
    else if (error instanceof RpcError) {
      log.warn({ event: 'heartbeat_failed', status: error.status, message: error.message });
    } else log.error({ event: 'heartbeat_failed', err: error });
  }

  /** All runs, in calls of a bounded size; one call without leases when there are none. */
  #batches(): HeldRun[][] {
    const runs = [...this.#runs];
    const batches = [runs.splice(0, LEASES_PER_CALL)];
    while (runs.length > 0) batches.push(runs.splice(0, LEASES_PER_CALL));
    return batches;
  }

  async #renew(runs: readonly HeldRun[]): Promise<void> {
    const leases = runs.map(({ lease }) => lease);
    const states = await this.confirm(leases);
    states.forEach(({ renewed, cancelRequested, hasArrivals, paused }, index) => {
      const run = runs[index];
      // A run that was suspended and resumed meanwhile has another lease, of which nothing was asked.
      if (run === undefined || run.lease !== leases[index] || !this.#runs.has(run)) return;
      if (renewed) {
        if (hasArrivals) run.arrived();
        if (cancelRequested) run.cancel();
        if (paused) run.pause();
      } else if (!run.calls.isYielding) {
        this.#runs.delete(run);
        run.loseLease('refused');
      }
    });
  }
}
