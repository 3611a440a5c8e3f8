import type { Logger } from 'pino';
import { type Clock, pause } from '../../clock.js';
import type { CallOptions } from '../../rpc/connection.js';
import { RpcError } from '../../rpc/rpc-error.js';
import type { WorkerTransport } from '../../rpc/worker-transport.js';
import type { Lease } from './lease.js';
import { type LeasedMethod, type RequestOf, type ResponseOf, YIELDING } from './leased-method.js';

/** Thrown to end whatever an execution was doing once it has ended; nobody outside sees it. */
export class ExecutionEnded extends Error {
  override readonly name = 'ExecutionEnded';
}

export interface LeasedCallsOptions {
  readonly transport: WorkerTransport;
  readonly namespace: string;
  readonly lease: Lease;
  readonly log: Logger;
  readonly clock: Clock;
  /** Calls wait until everything is recorded that the code has been given. */
  readonly unrecorded: { readonly isClear: boolean; cleared(): Promise<void> };
  readonly onLost: (how: 'expired' | 'refused') => void;
  /** The server fails again and again; the run should be given back. */
  readonly onFault: (error: RpcError) => void;
  /** A call that was sent without a promise was refused, and its handler did not expect that. */
  readonly onRefusal: (error: unknown) => void;
}

const MAX_FAULTS = 5;
const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 2_000;
const CALL_TIMEOUT_MS = 15_000;

/**
 * Calls about one leased run. All of them may be repeated, so a call that does not get through is repeated for as long as the
 * lease can be trusted: an outage of the server costs time, not work.
 */
export class LeasedCalls {
  readonly #options: LeasedCallsOptions;
  #ended = false;
  #yielding = 0;
  /** While the run may be suspended nothing else is sent about it. */
  #gate: Promise<unknown> | undefined;

  constructor(options: LeasedCallsOptions) {
    this.#options = options;
  }

  get leaseToken(): number {
    return this.#options.lease.leaseToken;
  }

  /**
   * A call is in flight that may have ended the lease already, as intended: a lost lease then proves nothing, and the
   * answer to the call tells what became of the run.
   */
  get isYielding(): boolean {
    return this.#yielding > 0;
  }

  /** No further call is sent; those in flight fail with {@link ExecutionEnded}. */
  end(): void {
    this.#ended = true;
  }

  /** Holds back further calls until `work` is done. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = work();
    const gate = done.then(
      () => undefined,
      () => undefined,
    );
    this.#gate = gate;
    try {
      return await done;
    } finally {
      if (this.#gate === gate) this.#gate = undefined;
    }
  }

  /**
   * @throws {ExecutionEnded} when the execution has ended, by this call or otherwise
   * @throws {RpcError} when the server refuses the call for another reason than the lease
   */
  async call<K extends LeasedMethod>(
    method: K,
    request: RequestOf<K>,
    { gated = true, isResult = false }: SendOptions = {},
  ): Promise<ResponseOf<K>> {
    if (gated && this.#gate !== undefined) await this.#gate;
    if (gated && !isResult && !this.#options.unrecorded.isClear) await this.#options.unrecorded.cleared();
    if (!YIELDING.has(method)) return this.#repeat(method, request);
    this.#yielding++;
    try {
      return await this.#repeat(method, request);
    } finally {
      this.#yielding--;
    }
  }

  async #repeat<K extends LeasedMethod>(method: K, request: RequestOf<K>): Promise<ResponseOf<K>> {
    for (let repeats = newRepeats(); ; ) {
      try {
        const response = await this.#sendOnce(method, request);
        if (this.#ended) throw new ExecutionEnded();
        return response;
      } catch (error) {
        await this.#beforeRepeat(method, error, repeats);
      }
    }
  }

  /**
   * Like {@link call}, without a promise of its own.
   *
   * @param handler not called once the execution has ended; what it throws is a fault
   */
  send<K extends LeasedMethod>(
    method: K,
    request: RequestOf<K>,
    handler: CallHandler<ResponseOf<K>>,
    options: Pick<SendOptions, 'isResult'> = {},
  ): void {
    if (this.#gate !== undefined || (!options.isResult && !this.#options.unrecorded.isClear))
      this.#hand(this.call(method, request, options), handler);
    else {
      this.#sendOnce(method, request).then(
        (response) => this.#handResponse(response, handler),
        (error: unknown) => {
          if (this.#ended) return;
          const next = this.#beforeRepeat(method, error, newRepeats()).then(() => this.call(method, request, options));
          this.#hand(next, handler);
        },
      );
    }
  }

  #hand<T>(call: Promise<T>, handler: CallHandler<T>): void {
    call.then(
      (response) => this.#handResponse(response, handler),
      (error: unknown) => {
        if (this.#ended || error instanceof ExecutionEnded) return;
        try {
          handler.onError(error);
        } catch (refusal) {
          this.#options.onRefusal(refusal);
        }
      },
    );
  }

  #handResponse<T>(response: T, handler: CallHandler<T>): void {
    if (this.#ended) return;
    try {
      handler.onResponse(response);
    } catch (error) {
      this.#options.onRefusal(error);
    }
  }

  #sendOnce<K extends LeasedMethod>(method: K, request: RequestOf<K>): Promise<ResponseOf<K>> {
    const { transport, namespace, lease } = this.#options;
    if (this.#ended) return Promise.reject(new ExecutionEnded());
    const { remainingMs } = lease;
    if (remainingMs <= 0) {
      this.#options.onLost('expired');
      return Promise.reject(new ExecutionEnded());
    }
    const send = transport[method] as (request: object, options: CallOptions) => Promise<ResponseOf<K>>;
    return send(
      { ...request, namespace, runId: lease.runId, leaseToken: lease.leaseToken },
      { timeoutMs: Math.min(CALL_TIMEOUT_MS, remainingMs + 1_000) },
    );
  }

  /** Waits out the backoff after a failure, or rethrows it when a repeat cannot help. */
  async #beforeRepeat(method: LeasedMethod, error: unknown, repeats: Repeats): Promise<void> {
    const { lease, log, clock } = this.#options;
    if (this.#ended || error instanceof ExecutionEnded) throw new ExecutionEnded();
    if (!(error instanceof RpcError)) throw error;
    if (error.reason === 'LEASE_LOST' || error.reason === 'RUN_NOT_FOUND') {
      this.#options.onLost('refused');
      throw new ExecutionEnded();
    }
    const isFault = error.status === 'INTERNAL' || error.status === 'UNKNOWN';
    if (!error.isTransient && !isFault) throw error;
    if (isFault && ++repeats.faults >= MAX_FAULTS) {
      this.#options.onFault(error);
      throw new ExecutionEnded();
    }
    log.debug({ event: 'call_retried', method, runId: lease.runId, status: error.status, message: error.message });
    await pause(clock, Math.max(error.retryAfterMs ?? 0, repeats.backoffMs * (0.5 + Math.random() / 2)));
    repeats.backoffMs = Math.min(repeats.backoffMs * 2, BACKOFF_MAX_MS);
  }
}

export interface SendOptions {
  /** False: sent at once, whatever else holds calls back. */
  readonly gated?: boolean;
  /** It records what came of a body, so it does not wait for what the code has been given. */
  readonly isResult?: boolean;
}

/** Receives the outcome of a call that was sent without a promise. */
export interface CallHandler<Response> {
  onResponse(response: Response): void;
  /** @param error an {@link RpcError}; throw what is not expected */
  onError(error: unknown): void;
}

interface Repeats {
  faults: number;
  backoffMs: number;
}

const newRepeats = (): Repeats => ({ faults: 0, backoffMs: BACKOFF_MIN_MS });
