import type { Logger } from 'pino';
import { type HeartbeatDetail, sizeOf } from '../execution/body/heartbeats.js';
import type { HeldRun } from '../execution/held-run.js';
import type { Lease } from '../execution/lease/lease.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';

/** A run whose bodies report details. */
type ReportingRun = Pick<HeldRun, 'lease' | 'heartbeats' | 'takeHeartbeats'>;

export interface HeartbeatDetailsOptions {
  readonly transport: WorkerTransport;
  readonly namespace: string;
  readonly workerId: string;
  readonly log: Logger;
}

/** Well below what the server accepts in one call; a single detail may be larger. */
const CALL_BYTES = 1024 * 1024;
/** Timeout of a call, in ms. Longer than that of renewals: sending the same megabytes again would only take longer. */
const TIMEOUT_MS = 15_000;
/** Calls for one run in a row: a body that reports faster than its details can be sent must not delay those of other runs. */
const CALLS_PER_RUN = 64;

interface Part {
  readonly run: ReportingRun;
  readonly lease: Lease;
  readonly details: readonly HeartbeatDetail[];
}

/**
 * Sends what bodies report, in calls of their own: details may be large, late or refused, and none of that may happen to
 * the renewal of a lease.
 */
export class HeartbeatDetails {
  readonly #options: HeartbeatDetailsOptions;
  #sending = false;

  constructor(options: HeartbeatDetailsOptions) {
    this.#options = options;
  }

  /** Sends the details of all runs, unless a send is in flight. Never rejects: what fails is sent the next time. */
  async send(runs: Iterable<ReportingRun>): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    let call: Part[] = [];
    try {
      let bytes = 0;
      for (const run of [...runs]) {
        for (let calls = 0; calls < CALLS_PER_RUN; calls++) {
          const details = run.takeHeartbeats(CALL_BYTES - bytes);
          if (details.length === 0) break;
          call.push({ run, lease: run.lease, details });
          bytes += details.reduce((sum, detail) => sum + sizeOf(detail), 0);
          if (bytes < CALL_BYTES / 2) continue;
          const full = call;
          call = [];
          bytes = 0;
          await this.#call(full);
        }
      }
      if (call.length > 0) await this.#call(call);
    } finally {
      this.#sending = false;
    }
  }

  /** Sends the details of one run now. Never rejects: details are optional, and the attempt ends without them. */
  async flush(run: ReportingRun): Promise<void> {
    const { lease } = run;
    for (let calls = 0; calls < CALLS_PER_RUN; calls++) {
      const details = run.takeHeartbeats(CALL_BYTES);
      if (details.length === 0 || !(await this.#call([{ run, lease, details }]))) return;
    }
  }

  async #call(parts: readonly Part[]): Promise<boolean> {
    const { transport, namespace, workerId, log } = this.#options;
    const leases = parts.map(({ lease: { runId, leaseToken }, details }) => ({
      runId,
      leaseToken,
      steps: [...details],
    }));
    try {
      await transport.recordHeartbeat({ namespace, workerId, leases }, { timeoutMs: TIMEOUT_MS });
      return true;
    } catch (error) {
      const isRefused = error instanceof RpcError && error.status === 'INVALID_ARGUMENT';
      const runIds = parts.map(({ lease }) => lease.runId).slice(0, 20);
      log.warn({ event: 'heartbeat_details_failed', dropped: isRefused, runIds, err: error });
      // A repeat of what was refused would be refused again.
      if (!isRefused)
        for (const { run, lease, details } of parts) if (run.lease === lease) run.heartbeats.putBack(details);
      return false;
    }
  }
}
