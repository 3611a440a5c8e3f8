import { durationOf } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { NonDeterminismError } from '../../errors/errors.js';
import { failureOf } from '../../errors/failure.js';
import { RpcError } from '../../rpc/rpc-error.js';
import type { WorkerTransport } from '../../rpc/worker-transport.js';
import type { Lease } from '../lease/lease.js';
import type { ExecutionEnd } from '../lease/lease-tenure.js';
import { ExecutionEnded, type LeasedCalls } from '../lease/leased-calls.js';
import type { RunFacts } from './run-facts.js';

const MAX_REASON_LENGTH = 250;

export interface FaultHost {
  readonly codec: Codec;
  readonly facts: RunFacts;
  readonly calls: LeasedCalls;
  readonly lease: Lease;
  readonly hasEnded: boolean;
  /** @returns false when the end of the run is being recorded already */
  beginFinish(): boolean;
  end(how: ExecutionEnd, error?: unknown): void;
}

/** Handles errors that are not the author's. */
export class Faults {
  readonly #host: FaultHost;
  readonly #transport: WorkerTransport;
  readonly #delayMs: () => number;

  /** @param delayMs counts a fault, and says how long the run must stay away before it may be claimed again */
  constructor(host: FaultHost, transport: WorkerTransport, delayMs: () => number) {
    this.#host = host;
    this.#transport = transport;
    this.#delayMs = delayMs;
  }

  /** Runs work of the SDK's own; an error once the execution has ended is ignored. */
  async guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.onError(error);
    }
  }

  /** Work of the SDK's own has failed. */
  onError(error: unknown): void {
    if (error instanceof ExecutionEnded || this.#host.hasEnded) return;
    if (error instanceof RpcError && error.reason === 'STEP_MISMATCH') this.failNonDeterministic(error.message);
    else this.release('A call was refused', error);
  }

  /** A bug in Perdure, the server or the deployment: the run is released, for another worker or a later build. */
  release(what: string, error: unknown): void {
    const host = this.#host;
    if (host.hasEnded) return;
    host.facts.log.error({ event: 'execution_fault', what, err: error });
    const { namespace } = host.facts.run;
    const { runId, leaseToken } = host.lease;
    const message = error instanceof Error ? error.message : String(error);
    const reason = `${what}: ${message}`.replace(/[^\P{Cc}\n\t]/gu, ' ').slice(0, MAX_REASON_LENGTH);
    host.end('released');
    this.#transport
      .releaseRun({ namespace, runId, leaseToken, reason, delay: durationOf(this.#delayMs()) })
      .catch((cause: unknown) => host.facts.log.warn({ event: 'release_failed', err: cause }));
  }

  /** Ends the run as NON_DETERMINISM, past any catch of the author's code. */
  failNonDeterministic(message: string): void {
    const host = this.#host;
    void this.guard(async () => {
      if (!host.beginFinish()) return;
      host.facts.log.error({ event: 'non_determinism', message });
      const error = new NonDeterminismError(message);
      await host.calls.call('failWorkflow', { failure: failureOf(host.codec, error) });
      host.end('failed', error);
    });
  }
}
