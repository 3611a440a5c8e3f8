import { WorkerService } from '@perdure/proto';
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
import { handleSignals } from './signals.js';
import { SlotLedger } from './slot-ledger.js';
import { WarmCache } from './warm-cache.js';
import { type ResolvedWorkerOptions, resolveWorkerOptions, type WorkerOptions } from './worker-options.js';

/** Polls get this long to come back by themselves when the worker shuts down, in ms. */
const POLL_END_MS = 2_000;

/**
 * Executes workflows of one task queue. Any number of workers may serve a queue. A worker holds nothing that matters: kill
 * it at any moment, and another one goes on with its runs once their leases have expired.
 *
 * @example
 * const worker = new Worker({ taskQueue: 'orders', workflows: [checkout] });
 * await worker.run(); // until SIGTERM
 */
export class Worker {
  /** Chosen when the object is made. */
  readonly workerId = newUuid();
  readonly #options: ResolvedWorkerOptions;
  /** Its lines carry the worker's name. */
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
  /** What ended the worker, when nobody asked it to. */
  #failure: { readonly error: unknown } | undefined;

  /** @throws {TypeError} naming the option that is wrong */
  constructor(options: WorkerOptions) {
    this.#options = resolveWorkerOptions(options);
    const { namespace, taskQueue, workflows, concurrency, limits, warmRuns, codec, identity } = this.#options;
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
    // Whoever awaits it is told; nobody has to.
    this.#stopped.catch(() => undefined);
    const shared = { transport, clock: monotonicClock, namespace, taskQueue, workerId: this.workerId, log };
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
        this.#admission.notice(notices);
        if (notices.drain) this.#drainRequested();
      },
    });
  }

  /** Runs it holds now. */
  get running(): number {
    return this.#ledger.running;
  }

  /**
   * Registers and begins to take runs.
   *
   * @returns once it is registered; an unreachable server is tried again until it answers
   * @throws {RpcError} when the server refuses the registration; the worker is stopped then
   */
  async start(): Promise<void> {
    if (this.#state !== 'new') throw new Error('A worker can be started once.');
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
   * Starts, if it has not been, and resolves when the worker has shut down.
   *
   * @throws what ended the worker when that was not a shutdown: a refused registration, a connection that somebody closed
   */
  async run(): Promise<void> {
    if (this.#state === 'new') await this.start();
    await this.#stopped;
  }

  /**
   * Takes nothing new, lets runs go on for `shutdownGrace`, gives back those that have not ended by then, and deregisters.
   *
   * @param graceMs instead of `shutdownGrace`, 0 or more; 0 gives all runs back at once
   * @throws {TypeError} when `graceMs` is negative or no number
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
      // Ends the polls from the server's side, so that none is handed a run that nobody would receive.
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

  /** Ends the worker by itself; `run` rejects with the error. */
  #fail(event: 'registration_failed' | 'connection_closed', error: unknown): void {
    if (this.#state !== 'running') return;
    this.#failure = { error };
    this.#log.error({ event, err: error });
    void this.shutdown();
  }

  /** Tells the server that the worker goes. It goes anyway; the reaper finds out by its silence. */
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
    const end = handleSignals(this.#log, {
      onFirst: () => void this.shutdown(),
      onSecond: () => void this.#admission.releaseAll('The worker was told to go at once.'),
    });
    void this.#stopped.then(end, end);
  }

  #drainRequested(): void {
    if (this.#state !== 'running') return;
    this.#log.info({ event: 'drain_requested', workerId: this.workerId });
    void this.shutdown();
  }

  /** A shared connection may be closed by somebody else: without one, no call will ever get through again. */
  #checkConnection(): void {
    if (!this.#connection.isClosed) return;
    const message =
      'The connection of the worker was closed while the worker was running. Shut the worker down first: await worker.shutdown(), then connection.close().';
    this.#fail('connection_closed', new Error(message));
  }
}
