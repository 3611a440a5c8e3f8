import { setTimeout as delay } from 'node:timers/promises';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Logger } from 'pino';
import type { CallOptions } from '../rpc/connection.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { WorkerTransport } from '../worker/worker-transport.js';
import type { Lease } from './lease.js';

/** Thrown to end whatever an execution was doing once it has ended; nobody outside sees it. */
export class ExecutionEnded extends Error {
  override readonly name = 'ExecutionEnded';
}

export interface LeasedCallsOptions {
  readonly transport: WorkerTransport;
  readonly namespace: string;
  readonly lease: Lease;
  readonly log: Logger;
  /** The lease is not ours any more. */
  readonly onLost: () => void;
  /** The server fails again and again; the run should be given back. */
  readonly onFault: (error: RpcError) => void;
}

type LeasedMethod =
  | 'getMemo'
  | 'beginStep'
  | 'completeStep'
  | 'failStep'
  | 'scheduleSleep'
  | 'suspendRun'
  | 'completeWorkflow'
  | 'failWorkflow'
  | 'confirmCancel'
  | 'releaseRun';
type Fence = 'namespace' | 'runId' | 'leaseToken' | '$typeName' | '$unknown';
type RequestOf<K extends LeasedMethod> = Omit<Parameters<WorkerTransport[K]>[0], Fence>;
type ResponseOf<K extends LeasedMethod> = Awaited<ReturnType<WorkerTransport[K]>>;

const MAX_FAULTS = 5;
const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 2_000;
const CALL_TIMEOUT_MS = 15_000;

/**
 * Calls about one leased run. All of them may be repeated, so what does not get through is tried again for as long as the
 * lease can be trusted: an outage of the server costs time, not work.
 */
export class LeasedCalls {
  readonly #options: LeasedCallsOptions;
  #ended = false;
  /** While the run may be suspended nothing else is sent about it. */
  #gate: Promise<unknown> = Promise.resolve();

  constructor(options: LeasedCallsOptions) {
    this.#options = options;
  }

  /** No call goes out any more; those under way end with {@link ExecutionEnded}. */
  end(): void {
    this.#ended = true;
  }

  /** Holds back further calls until `work` is done. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = work();
    this.#gate = done.catch(() => undefined);
    return done;
  }

  /**
   * @throws {ExecutionEnded} when the execution has ended, by this call or otherwise
   * @throws {RpcError} when the server refuses the call for another reason than the lease
   */
  async call<K extends LeasedMethod>(
    method: K,
    request: RequestOf<K>,
    { gated = true }: { readonly gated?: boolean } = {},
  ): Promise<ResponseOf<K>> {
    const { transport, namespace, lease, log } = this.#options;
    const send = transport[method] as (
      request: MessageInitShape<never> | object,
      options: CallOptions,
    ) => Promise<ResponseOf<K>>;
    if (gated) await this.#gate;
    let backoffMs = BACKOFF_MIN_MS;
    for (let faults = 0; ; ) {
      if (this.#ended) throw new ExecutionEnded();
      const { remainingMs } = lease;
      if (remainingMs <= 0) {
        this.#options.onLost();
        throw new ExecutionEnded();
      }
      try {
        const response = await send(
          { ...request, namespace, runId: lease.runId, leaseToken: lease.leaseToken },
          { timeoutMs: Math.min(CALL_TIMEOUT_MS, remainingMs + 1_000) },
        );
        if (this.#ended) throw new ExecutionEnded();
        return response;
      } catch (error) {
        if (this.#ended || !(error instanceof RpcError)) throw this.#ended ? new ExecutionEnded() : error;
        if (error.reason === 'LEASE_LOST' || error.reason === 'RUN_NOT_FOUND') {
          this.#options.onLost();
          throw new ExecutionEnded();
        }
        const isFault = error.status === 'INTERNAL' || error.status === 'UNKNOWN';
        if (!error.isTransient && !isFault) throw error;
        if (isFault && ++faults >= MAX_FAULTS) {
          this.#options.onFault(error);
          throw new ExecutionEnded();
        }
        log.debug({ event: 'call_retried', method, runId: lease.runId, status: error.status, message: error.message });
        await delay(Math.max(error.retryAfterMs ?? 0, backoffMs * (0.5 + Math.random() / 2)));
        backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS);
      }
    }
  }
}
