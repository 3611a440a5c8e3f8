import { setTimeout as delay } from 'node:timers/promises';
import { ChurningSet } from '@perdure/collections';
import { type AwaitNoticesResponse, type LeasedRun, WorkerService } from '@perdure/proto';
import { v7 as newUuid } from 'uuid';
import { Lease } from '../execution/lease.js';
import { RunExecution } from '../execution/run-execution.js';
import { Connection } from '../rpc/connection.js';
import { RpcError } from '../rpc/rpc-error.js';
import { durationMessage, msOf } from '../rpc/time.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';
import { LeaseKeeper } from './lease-keeper.js';
import { NoticeListener } from './notice-listener.js';
import { Polls } from './polls.js';
import { SlotLedger } from './slot-ledger.js';
import { WarmCache } from './warm-cache.js';
import { type ResolvedWorkerOptions, resolveWorkerOptions, type WorkerOptions } from './worker-options.js';

const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 3_000;
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
  readonly #connection: Connection;
  readonly #ownsConnection: boolean;
  readonly #transport: WorkerTransport;
  readonly #ledger: SlotLedger;
  readonly #warm: WarmCache;
  readonly #executions = new ChurningSet<RunExecution>();
  readonly #polls: Polls;
  readonly #listener: NoticeListener;
  readonly #stopped: Promise<void>;
  #resolveStopped: () => void = () => undefined;
  #state: 'new' | 'running' | 'draining' | 'stopped' = 'new';
  #keeper: LeaseKeeper | undefined;
  #registering: Promise<void> | undefined;
  #maxPayloadBytes = 0;
  #onExecutionEnd: () => void = () => undefined;

  /** @throws {TypeError} naming the option that is wrong */
  constructor(options: WorkerOptions) {
    this.#options = resolveWorkerOptions(options);
    this.#ownsConnection = options.connection === undefined;
    this.#connection =
      options.connection ?? new Connection(options.address === undefined ? {} : { address: options.address });
    this.#transport = this.#connection.service(WorkerService);
    const { concurrency, limits, workflows, warmRuns } = this.#options;
    this.#warm = new WarmCache(warmRuns);
    this.#ledger = new SlotLedger(concurrency, [...workflows.keys()], limits);
    this.#stopped = new Promise((resolve) => {
      this.#resolveStopped = resolve;
    });
    const { namespace, taskQueue, log } = this.#options;
    const shared = { transport: this.#transport, namespace, workerId: this.workerId, log };
    this.#polls = new Polls({
      ...shared,
      ledger: this.#ledger,
      taskQueue,
      workflowTypes: [...workflows.keys()],
      onRun: (leased, waitedMs) => this.#execute(leased, waitedMs),
      onNotRegistered: () => this.#register().catch((error) => this.#lost(error)),
      onDrain: () => this.#drainAsked(),
    });
    this.#listener = new NoticeListener({ ...shared, onNews: (news) => this.#apply(news) });
  }

  /** Runs it holds now. */
  get running(): number {
    return this.#ledger.running;
  }

  /**
   * Registers and begins to take runs.
   *
   * @returns once it is registered; an unreachable server is tried again until it answers
   * @throws {RpcError} when the server refuses the registration
   */
  async start(): Promise<void> {
    if (this.#state !== 'new') throw new Error('A worker can be started once.');
    this.#state = 'running';
    const { log, taskQueue, workflows, handleSignals } = this.#options;
    await this.#register();
    if (this.#state !== 'running') return;
    if (handleSignals) this.#handleSignals();
    void this.#listener.listen();
    log.info({ event: 'worker_started', workerId: this.workerId, taskQueue, workflows: [...workflows.keys()] });
    this.#polls.fill();
  }

  /** Starts, if it has not been, and resolves when the worker has shut down. */
  async run(): Promise<void> {
    if (this.#state === 'new') await this.start();
    await this.#stopped;
  }

  /**
   * Takes nothing new, lets runs go on for `shutdownGrace`, gives back those that have not ended by then, and deregisters.
   *
   * @param graceMs instead of `shutdownGrace`; 0 gives all runs back at once
   */
  async shutdown(graceMs: number = this.#options.shutdownGraceMs): Promise<void> {
    if (this.#state === 'draining' || this.#state === 'stopped') return this.#stopped;
    const wasNew = this.#state === 'new';
    this.#state = 'draining';
    this.#polls.stop();
    const { log, namespace } = this.#options;
    if (!wasNew) {
      log.info({ event: 'worker_draining', workerId: this.workerId, running: this.running });
      // Ends the polls from the server's side, so that none is handed a run that nobody would receive.
      await this.#attempt('drainWorker', () =>
        this.#transport.drainWorker({ namespace, workerId: this.workerId }, { timeoutMs: POLL_END_MS }),
      );
      await this.#polls.end(POLL_END_MS);
      await this.#finishRuns(graceMs);
      await this.#attempt('deregisterWorker', () =>
        this.#transport.deregisterWorker({ namespace, workerId: this.workerId }, { timeoutMs: POLL_END_MS }),
      );
    }
    this.#keeper?.stop();
    this.#listener.stop();
    this.#warm.clear();
    if (this.#ownsConnection) this.#connection.close();
    this.#state = 'stopped';
    log.info({ event: 'worker_stopped', workerId: this.workerId });
    this.#resolveStopped();
  }

  async #finishRuns(graceMs: number): Promise<void> {
    const untilMs = performance.now() + graceMs;
    while (this.#executions.size > 0) {
      const remainingMs = untilMs - performance.now();
      if (remainingMs <= 0) break;
      const ended = new Promise<void>((resolve) => {
        this.#onExecutionEnd = resolve;
      });
      const abort = new AbortController();
      await Promise.race([ended, delay(remainingMs, undefined, { signal: abort.signal }).catch(() => undefined)]);
      abort.abort();
    }
    await Promise.all([...this.#executions].map((execution) => execution.release('The worker shuts down.')));
  }

  async #attempt(what: string, call: () => Promise<unknown>): Promise<void> {
    try {
      await call();
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      // The worker goes anyway; the reaper finds out by its silence.
      this.#options.log.warn({ event: 'shutdown_call_failed', what, status: error.status, message: error.message });
    }
  }

  #handleSignals(): void {
    let asked = false;
    const onSignal = (signal: NodeJS.Signals) => {
      this.#options.log.info({ event: 'signal_received', signal });
      if (asked)
        void Promise.all([...this.#executions].map((run) => run.release('The worker was told to go at once.')));
      asked = true;
      void this.shutdown();
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
    void this.#stopped.then(() => {
      process.off('SIGTERM', onSignal);
      process.off('SIGINT', onSignal);
    });
  }

  /** Registers, once at a time. */
  #register(): Promise<void> {
    this.#registering ??= this.#registerNow().finally(() => {
      this.#registering = undefined;
    });
    return this.#registering;
  }

  async #registerNow(): Promise<void> {
    const { namespace, taskQueue, workflows, version, identity, concurrency, leaseMs, log } = this.#options;
    for (let backoffMs = BACKOFF_MIN_MS; ; backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)) {
      try {
        const answer = await this.#transport.registerWorker({
          namespace,
          workerId: this.workerId,
          taskQueue,
          workflowTypes: [...workflows.keys()],
          version,
          identity,
          slots: concurrency,
          leaseDuration: durationMessage(leaseMs),
        });
        this.#maxPayloadBytes = answer.maxPayloadBytes;
        this.#keeper ??= new LeaseKeeper({
          transport: this.#transport,
          namespace,
          workerId: this.workerId,
          heartbeatIntervalMs: msOf(answer.heartbeatInterval),
          log,
          onDrain: () => this.#drainAsked(),
          onNotRegistered: () => void this.#register().catch((error) => this.#lost(error)),
        });
        return;
      } catch (error) {
        if (!(error instanceof RpcError) || !error.isTransient) throw error;
        log.warn({ event: 'server_unavailable', message: error.message });
        await delay(backoffMs * (0.5 + Math.random() / 2));
        if (this.#state !== 'running') return;
      }
    }
  }

  #lost(error: unknown): void {
    this.#options.log.error({ event: 'registration_failed', err: error });
    void this.shutdown();
  }

  #drainAsked(): void {
    if (this.#state !== 'running') return;
    this.#options.log.info({ event: 'drain_asked_for', workerId: this.workerId });
    void this.shutdown();
  }

  #apply({ cancelRequested, lost, drain }: AwaitNoticesResponse): void {
    const keyOf = (lease: { readonly runId: string; readonly leaseToken: number }) =>
      `${lease.runId}/${lease.leaseToken}`;
    const cancelled = new Set(cancelRequested.map(keyOf));
    const dropped = new Set(lost.map(keyOf));
    if (cancelled.size + dropped.size > 0) {
      for (const execution of [...this.#executions]) {
        if (dropped.has(keyOf(execution.lease))) execution.drop();
        else if (cancelled.has(keyOf(execution.lease))) execution.cancel();
      }
    }
    if (drain) this.#drainAsked();
  }

  #execute(leased: LeasedRun, waitedMs: number): void {
    const { workflows, namespace, taskQueue, codec, log } = this.#options;
    const keeper = this.#keeper as LeaseKeeper;
    const claimedAtMs = performance.now();
    const leaseMs = msOf(leased.leaseDuration);
    const workflow = workflows.get(leased.workflowType);
    if (workflow === undefined)
      throw new Error(`The server leased a run of '${leased.workflowType}', which was not asked for.`);
    const lease = new Lease(leased.runId, leased.leaseToken, leaseMs, claimedAtMs);
    const warm = this.#warm.take(leased.runId);
    const isWarm = warm?.resume(leased, lease, claimedAtMs) ?? false;
    if (!isWarm) warm?.evict();
    const execution =
      warm !== undefined && isWarm
        ? warm
        : new RunExecution({
            leased,
            lease,
            claimedAtMs,
            workflow,
            namespace,
            taskQueue,
            transport: this.#transport,
            codec,
            maxPayloadBytes: this.#maxPayloadBytes,
            log,
            flushHeartbeats: (run) => keeper.flush(run),
          });
    this.#executions.add(execution);
    this.#ledger.begin(leased.workflowType);
    // The answer may have lain around while this process stood still.
    keeper.add(execution, waitedMs > leaseMs / 3);
    if (!isWarm) execution.start();
    void execution.ended.then((how) => {
      keeper.remove(execution);
      this.#executions.delete(execution);
      this.#ledger.end(leased.workflowType);
      if (execution.isParked) this.#warm.put(execution);
      log.debug({ event: 'execution_ended', runId: leased.runId, how });
      this.#onExecutionEnd();
      this.#polls.fill();
    });
  }
}
