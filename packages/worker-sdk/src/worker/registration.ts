import { durationOf, msOf } from '@perdure/proto';
import type { Logger } from 'pino';
import { type Clock, pause } from '../clock.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';
import { LeaseKeeper } from './lease-keeper.js';
import type { ResolvedWorkerOptions } from './worker-options.js';

export interface RegistrationOptions {
  readonly transport: WorkerTransport;
  readonly clock: Clock;
  readonly workerId: string;
  readonly worker: ResolvedWorkerOptions;
  /** The server's address, for the log. */
  readonly address: string;
  readonly log: Logger;
  readonly onDrain: () => void;
  /** The server refused a repeated registration. */
  readonly onRefused: (error: unknown) => void;
}

const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 3_000;
/** A warning is logged when no server has answered for this many ms. */
const UNANSWERED_MS = 1_000;

/** The worker's registration with the server, and the heartbeats that go with it. */
export class Registration {
  readonly #options: RegistrationOptions;
  readonly #abort = new AbortController();
  #underWay: Promise<void> | undefined;
  #keeper: LeaseKeeper | undefined;
  #maxPayloadBytes = 0;

  constructor(options: RegistrationOptions) {
    this.#options = options;
  }

  /** @throws {Error} before the first registration, when nothing is known yet */
  get registered(): { readonly keeper: LeaseKeeper; readonly maxPayloadBytes: number } {
    if (this.#keeper === undefined) throw new Error('The worker has not been registered.');
    return { keeper: this.#keeper, maxPayloadBytes: this.#maxPayloadBytes };
  }

  /**
   * Registers, once at a time. Retries while no server answers, until {@link stop} is called.
   *
   * @throws {RpcError} when the server refuses
   */
  register(): Promise<void> {
    this.#underWay ??= this.#register().finally(() => {
      this.#underWay = undefined;
    });
    return this.#underWay;
  }

  /** Registers again; a refusal is passed to `onRefused`. */
  async renew(): Promise<void> {
    await this.register().catch((error: unknown) => this.#options.onRefused(error));
  }

  /** Ends attempts to register. */
  stop(): void {
    this.#abort.abort();
  }

  /** Ends the heartbeats as well. */
  end(): void {
    this.stop();
    this.#keeper?.stop();
  }

  async #register(): Promise<void> {
    const { transport, clock, workerId, worker, log, address } = this.#options;
    const { signal } = this.#abort;
    let isReported = false;
    let lastError = 'There was no answer.';
    const cancelReport = clock.after(UNANSWERED_MS, () => {
      isReported = true;
      log.warn(
        { event: 'server_unavailable', address, lastError },
        `No Perdure server answers at ${address}. The worker keeps trying. Start a server there, or name another address with the option 'address' or PERDURE_ADDRESS.`,
      );
    });
    try {
      for (let backoffMs = BACKOFF_MIN_MS; !signal.aborted; backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)) {
        try {
          const answer = await transport.registerWorker(
            {
              namespace: worker.namespace,
              workerId,
              taskQueue: worker.taskQueue,
              workflowTypes: [...worker.workflows.keys()],
              build: worker.build,
              identity: worker.identity,
              slots: worker.concurrency,
              leaseDuration: durationOf(worker.leaseMs),
            },
            { signal },
          );
          this.#maxPayloadBytes = answer.maxPayloadBytes;
          this.#keeper ??= this.#newKeeper(msOf(answer.heartbeatInterval) ?? 0);
          if (isReported) log.info({ event: 'server_available', address });
          return;
        } catch (error) {
          if (signal.aborted) return;
          if (!(error instanceof RpcError) || !error.isTransient) throw error;
          lastError = error.message;
          log.debug({ event: 'registration_retried', status: error.status, message: error.message });
          await pause(clock, backoffMs * (0.5 + Math.random() / 2), signal);
        }
      }
    } finally {
      cancelReport();
    }
  }

  #newKeeper(heartbeatIntervalMs: number): LeaseKeeper {
    const { transport, clock, workerId, worker, log, onDrain } = this.#options;
    return new LeaseKeeper({
      transport,
      clock,
      namespace: worker.namespace,
      workerId,
      heartbeatIntervalMs,
      log,
      onDrain,
      onNotRegistered: () => void this.renew(),
    });
  }
}
