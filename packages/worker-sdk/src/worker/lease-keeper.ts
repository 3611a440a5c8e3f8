import { ChurningSet } from '@perdure/collections';
import type { Logger } from 'pino';
import type { HeldRun } from '../execution/execution-options.js';
import type { HeartbeatDetail } from '../execution/heartbeats.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';

export interface LeaseKeeperOptions {
  readonly transport: WorkerTransport;
  readonly namespace: string;
  readonly workerId: string;
  /** The server wants to hear from the worker that often, in ms. */
  readonly heartbeatIntervalMs: number;
  readonly log: Logger;
  readonly onDrain: () => void;
  readonly onNotRegistered: () => void;
}

/** While runs are held, heartbeats also bring cancels, so they are not much later than this, in ms. */
const BUSY_INTERVAL_MS = 2_000;
const RETRY_MS = 250;
const LEASES_PER_CALL = 1_000;
const DETAIL_BYTES_PER_CALL = 1024 * 1024;

interface Batch {
  readonly execution: HeldRun;
  readonly details: readonly HeartbeatDetail[];
}

/**
 * Keeps the leases of all runs that the worker holds alive, and drops a run whose lease can no longer be trusted: after a
 * stall of the process the first thing that happens is this check.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #executions = new ChurningSet<HeldRun>();
  #timer: NodeJS.Timeout | undefined;
  #nextBeatAtMs = 0;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #beating = false;
  #stopped = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
    this.#nextBeatAtMs = performance.now() + options.heartbeatIntervalMs;
    this.#arm();
  }

  /** @param renewNow the lease may have been running for a while already */
  add(execution: HeldRun, renewNow: boolean): void {
    this.#executions.add(execution);
    this.#nextBeatAtMs = Math.min(this.#nextBeatAtMs, performance.now() + (renewNow ? 0 : this.#intervalMs));
    // Only what is due earlier than the timer moves it: runs come by the thousand.
    const beatAtMs = this.#beating ? Number.POSITIVE_INFINITY : this.#nextBeatAtMs;
    if (Math.min(beatAtMs, execution.lease.trustedUntilMs) < this.#timerAtMs) this.#arm();
  }

  remove(execution: HeldRun): void {
    this.#executions.delete(execution);
  }

  /** Sends the details of one run now. */
  async flush(execution: HeldRun): Promise<void> {
    const details = execution.takeHeartbeats();
    try {
      await this.#send([{ execution, details }]);
    } catch (error) {
      execution.heartbeats.putBack(details);
      if (!(error instanceof RpcError)) throw error;
      // The detail is a help for the next attempt; that the attempt failed must be recorded all the same.
      this.#options.log.warn({ event: 'heartbeat_failed', status: error.status, message: error.message });
    }
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  get #intervalMs(): number {
    const { heartbeatIntervalMs } = this.#options;
    return this.#executions.size > 0 ? Math.min(heartbeatIntervalMs, BUSY_INTERVAL_MS) : heartbeatIntervalMs;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    let inMs = this.#beating ? Number.POSITIVE_INFINITY : this.#nextBeatAtMs - performance.now();
    const now = performance.now();
    for (const { lease } of this.#executions) inMs = Math.min(inMs, lease.trustedUntilMs - now);
    this.#timerAtMs = now + inMs;
    if (inMs !== Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.#tick(), Math.max(0, inMs));
  }

  #tick(): void {
    for (const execution of [...this.#executions]) {
      if (execution.lease.remainingMs <= 0) {
        this.#executions.delete(execution);
        execution.drop();
      }
    }
    if (!this.#beating && performance.now() >= this.#nextBeatAtMs) void this.#beat();
    this.#arm();
  }

  async #beat(): Promise<void> {
    this.#beating = true;
    const batches = this.#batches();
    try {
      await Promise.all(batches.map((batch) => this.#send(batch)));
      this.#nextBeatAtMs = performance.now() + this.#intervalMs;
    } catch (error) {
      for (const { execution, details } of batches.flat())
        if (details.length > 0) execution.heartbeats.putBack(details);
      this.#nextBeatAtMs = performance.now() + RETRY_MS * (0.5 + Math.random());
      this.#failed(error);
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

  /** All leases, in calls of a bearable size; one call without leases when there are none. */
  #batches(): Batch[][] {
    const batches: Batch[][] = [[]];
    let bytes = 0;
    for (const execution of this.#executions) {
      const details = execution.takeHeartbeats();
      const size = details.reduce((sum, { detail }) => sum + (detail.data?.byteLength ?? 0), 0);
      let batch = batches.at(-1) as Batch[];
      if (batch.length >= LEASES_PER_CALL || (batch.length > 0 && bytes + size > DETAIL_BYTES_PER_CALL)) {
        batch = [];
        batches.push(batch);
        bytes = 0;
      }
      batch.push({ execution, details });
      bytes += size;
    }
    return batches;
  }

  async #send(batch: readonly Batch[]): Promise<void> {
    const { transport, namespace, workerId, heartbeatIntervalMs } = this.#options;
    const sentAtMs = performance.now();
    const answer = await transport.recordHeartbeat(
      {
        namespace,
        workerId,
        leases: batch.map(({ execution: { lease }, details }) => ({
          runId: lease.runId,
          leaseToken: lease.leaseToken,
          steps: [...details],
        })),
      },
      { timeoutMs: Math.max(300, Math.min(heartbeatIntervalMs, 5_000)) },
    );
    answer.leases.forEach((state, index) => {
      const execution = batch[index]?.execution;
      if (execution === undefined || !this.#executions.has(execution)) return;
      if (state.renewed) {
        execution.lease.renewed(sentAtMs);
        if (state.cancelRequested) execution.cancel();
      } else {
        this.#executions.delete(execution);
        execution.drop();
      }
    });
    if (answer.drain) this.#options.onDrain();
  }
}
