import { onEndSignals } from '@perdure/logging';
import { WorkerService, WorkflowService } from '@perdure/proto';
import type { Logger } from 'pino';
import { v7 as newUuid } from 'uuid';
import { monotonicClock } from '../clock.js';
import { Connection } from '../rpc/connection.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';
import { Admission } from './admission.js';
import { NoticeListener } from './notice-listener.js';
import { Polls } from './polls.js';
import { Registration } from './registration.js';
import { SlotLedger } from './slot-ledger.js';
import { WarmCache } from './warm-cache.js';
import { type ResolvedWorkerOptions, resolveWorkerOptions, type WorkerOptions } from './worker-options.js';

/** At a shutdown, polls may take this long to return, in ms, before they are aborted. */
const POLL_END_MS = 2_000;

/**
 * Executes the runs of one task queue. Any number of workers may serve a queue. A worker holds no state that matters: kill
 * it at any moment, and another one continues its runs once their leases have expired.
 *
 * @example
 * const worker = new Worker({ taskQueue: 'orders', workflows: [checkout] });
 * await worker.run(); // until SIGTERM
 */
export class Worker {
  /** A UUIDv7, chosen by the constructor. */
  readonly workerId = newUuid();
  readonly #options: ResolvedWorkerOptions;
  /** Adds the worker's identity to each line. */
  readonly #log: Logger;
  readonly #connection: Connection;
  readonly #ownsConnection: boolean;
  readonly #transport: WorkerTransport;
  readonly #ledger: SlotLedger;
  readonly #warm: WarmCache;
  readonly #registration: Registration;
  readonly #admission: Admission;
  readonly #polls: Polls;
  readonly #listener: NoticeListener;
  readonly #stopped: Promise<void>;
  #settleStopped: { resolve(): void; reject(error: unknown): void } = {
    resolve: () => undefined,
    reject: () => undefined,
  };
  #state: 'new' | 'running' | 'draining' | 'stopped' = 'new';
  /** What ended the worker, when that was not a shutdown. */
  #failure: { readonly error: unknown } | undefined;

  /** @throws {TypeError} naming the option that is wrong */
  constructor(options: WorkerOptions) {
    this.#options = resolveWorkerOptions(options);
    const {
      namespace,
      taskQueue,
      workflows,
      concurrency,
      limits,
      warmRuns,
      codec,
      identity,
      unawaitedCalls,
      onNonDeterminism,
    } = this.#options;
    const log = this.#options.log.child({ worker: identity });
    this.#log = log;
    this.#ownsConnection = options.connection === undefined;
    this.#connection =
      options.connection ?? new Connection(options.address === undefined ? {} : { address: options.address });
    const transport = this.#connection.service(WorkerService);
    this.#transport = transport;
    const ledger = new SlotLedger(concurrency, [...workflows.keys()], limits);
    this.#ledger = ledger;
    const warm = new WarmCache(warmRuns);
    this.#warm = warm;
    this.#stopped = new Promise((resolve, reject) => {
      this.#settleStopped = { resolve, reject };
    });
    // A rejection that nobody awaits must not end the process.
    this.#stopped.catch(() => undefined);
    const runService = this.#connection.service(WorkflowService);
    const shared = { transport, runService, clock: monotonicClock, namespace, taskQueue, workerId: this.workerId, log };
    const onDrain = () => this.#drainRequested();
    this.#registration = new Registration({
      ...shared,
      worker: this.#options,
      address: this.#connection.address,
      onDrain,
      onRefused: (error) => this.#fail('registration_failed', error),
    });
    this.#admission = new Admission({
      ...shared,
      workflows,
      unawaitedCalls,
      onNonDeterminism,
      codec,
      ledger,
      warm,
      registered: () => this.#registration.registered,
      onRoom: () => this.#polls.fill(),
    });
    this.#polls = new Polls({
      ...shared,
      ledger,
      workflowTypes: [...workflows.keys()],
      onRuns: (runs, sentAtMs) => this.#admission.admit(runs, sentAtMs),
      onNotRegistered: () => this.#registration.renew(),
      onDrain,
      onFailure: () => this.#checkConnection(),
    });
    this.#listener = new NoticeListener({
      ...shared,
      onNotices: (notices) => {
        this.#admission.onNotices(notices);
        if (notices.drain) this.#drainRequested();
      },
    });
  }

  /** Runs that occupy a slot now; suspended ones do not. */
  get running(): number {
    return this.#ledger.running;
  }

  /**
   * Registers and begins to take runs.
   *
   * @returns once it is registered; while no server answers it retries, and logs a warning after 1 s
   * @throws {RpcError} when the server refuses the registration; the worker is then stopped
   * @throws {Error} when it was started before
   */
  async start(): Promise<void> {
    if (this.#state !== 'new') throw new Error('A worker can be started only once; make a new one.');
    this.#state = 'running';
    const { taskQueue, workflows } = this.#options;
    try {
      await this.#registration.register();
    } catch (error) {
      this.#failure = { error };
      this.#stop();
      throw error;
    }
    if (this.#state !== 'running') return;
    if (this.#options.handleSignals) this.#handleSignals();
    void this.#listener.listen();
    this.#log.info({ event: 'worker_started', workerId: this.workerId, taskQueue, workflows: [...workflows.keys()] });
    this.#polls.fill();
  }

  /**
   * Starts the worker unless it was started, and resolves when it has shut down.
   *
   * @throws what ended the worker when that was not a shutdown: a refused registration, a closed connection
   */
  async run(): Promise<void> {
    if (this.#state === 'new') await this.start();
    await this.#stopped;
  }

  /**
   * Takes no new runs, lets held ones continue for `shutdownGrace`, gives back those that have not ended by then, and
   * deregisters. Calling it again waits for the same shutdown.
   *
   * @param graceMs replaces `shutdownGrace`; 0 or more, Infinity included; 0 gives all runs back immediately
   * @throws {TypeError} when `graceMs` is negative or not a number
   */
  async shutdown(graceMs: number = this.#options.shutdownGraceMs): Promise<void> {
    if (typeof graceMs !== 'number' || !(graceMs >= 0)) {
      throw new TypeError(`The grace of a shutdown must be 0 ms or more; got ${graceMs}.`);
    }
    if (this.#state === 'draining' || this.#state === 'stopped') return this.#stopped.catch(() => undefined);
    const wasNew = this.#state === 'new';
    this.#state = 'draining';
    this.#polls.stop();
    this.#registration.stop();
    if (!wasNew) {
      this.#log.info({ event: 'worker_draining', workerId: this.workerId, running: this.running });
      // The server ends the polls, so that none is handed a run that nobody would receive.
      await this.#tell('drainWorker');
      await this.#polls.end(POLL_END_MS);
      await this.#admission.end(this.#connection.isClosed ? 0 : graceMs);
      await this.#tell('deregisterWorker');
    }
    this.#stop();
    this.#log.info({ event: 'worker_stopped', workerId: this.workerId });
  }

  #stop(): void {
    this.#registration.end();
    this.#listener.stop();
    this.#warm.clear();
    if (this.#ownsConnection) this.#connection.close();
    this.#state = 'stopped';
    if (this.#failure === undefined) this.#settleStopped.resolve();
    else this.#settleStopped.reject(this.#failure.error);
  }

  /** Shuts the worker down because of an error; `run` rejects with it. */
  #fail(event: 'registration_failed' | 'connection_closed', error: unknown): void {
    if (this.#state !== 'running') return;
    this.#failure = { error };
    this.#log.error({ event, err: error });
    void this.shutdown();
  }

  /** Tells the server. A failure is only logged: the reaper notices a silent worker. */
  async #tell(method: 'drainWorker' | 'deregisterWorker'): Promise<void> {
    if (this.#connection.isClosed) return;
    const { namespace } = this.#options;
    try {
      await this.#transport[method]({ namespace, workerId: this.workerId }, { timeoutMs: POLL_END_MS });
    } catch (error) {
      if (error instanceof RpcError) {
        const { status, message } = error;
        this.#log.warn({ event: 'shutdown_call_failed', what: method, status, message });
      } else this.#log.error({ event: 'shutdown_call_failed', what: method, err: error });
    }
  }

  #handleSignals(): void {
    const stopListening = onEndSignals({
      onFirst: (signal) => {
        this.#log.info({ event: 'signal_received', signal });
        void this.shutdown();
      },
      onAgain: (signal) => {
        this.#log.info({ event: 'signal_received', signal });
        void this.#admission.releaseAll('The worker received a second signal to end.');
      },
    });
    void this.#stopped.then(stopListening, stopListening);
  }

  #drainRequested(): void {
    if (this.#state !== 'running') return;
    this.#log.info({ event: 'drain_requested', workerId: this.workerId });
    void this.shutdown();
  }

  /** A shared connection may be closed elsewhere; then no call can succeed again. */
  #checkConnection(): void {
    if (!this.#connection.isClosed) return;
    const message =
      'The connection of the worker was closed while the worker was running. Shut the worker down first: await worker.shutdown(), then connection.close().';
    this.#fail('connection_closed', new Error(message));
  }
}
