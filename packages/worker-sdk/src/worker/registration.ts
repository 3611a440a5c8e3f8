import type { Logger } from 'pino';
import { type Clock, pause } from '../clock.js';
import { RpcError } from '../rpc/rpc-error.js';
import { durationMessage, msOf } from '../rpc/time.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';
import { LeaseKeeper } from './lease-keeper.js';
import type { ResolvedWorkerOptions } from './worker-options.js';

export interface RegistrationOptions {
  readonly transport: WorkerTransport;
  readonly clock: Clock;
  readonly workerId: string;
  readonly worker: ResolvedWorkerOptions;
  /** Where the server is looked for. */
  readonly address: string;
  readonly log: Logger;
  readonly onDrain: () => void;
  /** A registration that the server asked for failed for good. */
  readonly onRefused: (error: unknown) => void;
}

const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 3_000;
/** People are told after so long that no server answers. */
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

  /** @throws {Error} before the first registration, when there is nothing yet that could be asked for */
  get registered(): { readonly keeper: LeaseKeeper; readonly maxPayloadBytes: number } {
    if (this.#keeper === undefined) throw new Error('The worker has not been registered.');
    return { keeper: this.#keeper, maxPayloadBytes: this.#maxPayloadBytes };
  }

  /**
   * Registers, once at a time. An unreachable server is tried again until it answers or {@link stop} is called.
   *
   * @throws {RpcError} when the server refuses
   */
  register(): Promise<void> {
    this.#underWay ??= this.#register().finally(() => {
      this.#underWay = undefined;
    });
    return this.#underWay;
  }

  /** Registers again; what becomes of it is told by `onRefused`. */
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
    let told = false;
    let lastError = 'There was no answer at all.';
    const cancelTelling = clock.after(UNANSWERED_MS, () => {
      told = true;
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
              leaseDuration: durationMessage(worker.leaseMs),
            },
            { signal },
          );
          this.#maxPayloadBytes = answer.maxPayloadBytes;
          this.#keeper ??= this.#newKeeper(msOf(answer.heartbeatInterval));
          if (told) log.info({ event: 'server_available', address });
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
      cancelTelling();
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
