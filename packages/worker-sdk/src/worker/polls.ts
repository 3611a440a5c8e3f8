import { ChurningSet } from '@perdure/collections';
import { durationOf, type LeasedRun } from '@perdure/proto';
import type { Logger } from 'pino';
import { type Clock, pause } from '../clock.js';
import { longCall } from '../rpc/long-call.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';
import type { PollTicket, SlotLedger } from './slot-ledger.js';

export interface PollsOptions {
  readonly transport: WorkerTransport;
  readonly clock: Clock;
  readonly ledger: SlotLedger;
  readonly namespace: string;
  readonly workerId: string;
  readonly taskQueue: string;
  /** The types that the worker registered for. */
  readonly workflowTypes: readonly string[];
  readonly log: Logger;
  /** @param sentAtMs when the poll was sent, by the clock: none of the leases had begun then */
  readonly onRuns: (runs: readonly LeasedRun[], sentAtMs: number) => void;
  /** The server does not know the worker. Resolves when a poll makes sense again. */
  readonly onNotRegistered: () => Promise<void>;
  readonly onDrain: () => void;
  /** A poll failed; another one follows after a while, unless the polls are stopped. */
  readonly onFailure: () => void;
}

const POLL_WAIT_MS = 20_000;
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 2_000;

/** Each has its own signal: the listeners of a shared one would keep the answers of all polls in memory. */
interface PollUnderWay {
  readonly abort: AbortController;
  readonly ended: Promise<void>;
}

/** Keeps long polls open for as many runs as there is room for. */
export class Polls {
  readonly #options: PollsOptions;
  readonly #underWay = new ChurningSet<PollUnderWay>();
  readonly #stopped = new AbortController();
  /** Start of the current series of failed polls, by the clock. */
  #failingSinceMs: number | undefined;

  constructor(options: PollsOptions) {
    this.#options = options;
  }

  /** Opens as many polls as there is room for; call it whenever there may be more room. */
  fill(): void {
    while (!this.#stopped.signal.aborted) {
      const ticket = this.#options.ledger.openPoll();
      if (ticket === undefined) return;
      const abort = new AbortController();
      const poll = { abort, ended: this.#poll(ticket, abort.signal) };
      this.#underWay.add(poll);
      void poll.ended.finally(() => {
        this.#underWay.delete(poll);
        this.fill();
      });
    }
  }

  /** Opens no further polls. */
  stop(): void {
    this.#stopped.abort();
  }

  /** Waits for open polls to return, for at most `graceMs`; then aborts them. */
  async end(graceMs: number): Promise<void> {
    this.stop();
    const polls = [...this.#underWay];
    const allEnded = new AbortController();
    void Promise.all(polls.map(({ ended }) => ended)).then(() => allEnded.abort());
    await pause(this.#options.clock, graceMs, allEnded.signal);
    for (const { abort } of polls) abort.abort();
  }

  /** One poll; after a failure it ends only when another one makes sense. */
  async #poll(ticket: PollTicket, signal: AbortSignal): Promise<void> {
    const { transport, clock, ledger, namespace, workerId, taskQueue, workflowTypes, onRuns } = this.#options;
    try {
      const sentAtMs = clock.nowMs();
      const { runs } = await transport.pollActivity(
        {
          namespace,
          workerId,
          taskQueue,
          workflowTypes: ticket.types.length === workflowTypes.length ? [] : [...ticket.types],
          wait: durationOf(POLL_WAIT_MS),
          maxRuns: ticket.slots,
        },
        longCall(POLL_WAIT_MS, signal),
      );
      this.#failingSinceMs = undefined;
      if (runs.length > 0) onRuns(runs, sentAtMs);
    } catch (error) {
      if (!this.#stopped.signal.aborted) await this.#failed(error);
    } finally {
      ledger.closePoll(ticket);
    }
  }

  /** The next poll always waits: polls that fail immediately would otherwise starve the process. */
  async #failed(error: unknown): Promise<void> {
    const { clock, log, onNotRegistered, onDrain, onFailure } = this.#options;
    const nowMs = clock.nowMs();
    this.#failingSinceMs ??= nowMs;
    const backoffMs = pollBackoffMs(nowMs - this.#failingSinceMs, error);
    onFailure();
    if (this.#stopped.signal.aborted) return;
    if (!(error instanceof RpcError)) log.error({ event: 'poll_failed', err: error });
    else if (error.reason === 'WORKER_NOT_REGISTERED') await onNotRegistered();
    else if (error.reason === 'WORKER_DRAINING') onDrain();
    else if (error.isTransient) log.debug({ event: 'poll_failed', message: error.message });
    else log.error({ event: 'poll_failed', status: error.status, message: error.message });
    await pause(clock, backoffMs * (1 + Math.random()), this.#stopped.signal);
  }
}

/** Grows while polls keep failing; never less than the server's retry delay. */
export function pollBackoffMs(failingForMs: number, error: unknown): number {
  const retryAfterMs = error instanceof RpcError ? (error.retryAfterMs ?? 0) : 0;
  return Math.max(retryAfterMs, Math.min(Math.max(failingForMs, BACKOFF_MIN_MS), BACKOFF_MAX_MS));
}
