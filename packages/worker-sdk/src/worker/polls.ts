import { setTimeout as delay } from 'node:timers/promises';
import { ChurningSet } from '@perdure/collections';
import type { LeasedRun } from '@perdure/proto';
import type { Logger } from 'pino';
import { longCall } from '../rpc/long-call.js';
import { RpcError } from '../rpc/rpc-error.js';
import { durationMessage } from '../rpc/time.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';
import type { PollTicket, SlotLedger } from './slot-ledger.js';

export interface PollsOptions {
  readonly transport: WorkerTransport;
  readonly ledger: SlotLedger;
  readonly namespace: string;
  readonly workerId: string;
  readonly taskQueue: string;
  /** The types that the worker registered for. */
  readonly workflowTypes: readonly string[];
  readonly log: Logger;
  /** @param waitedMs how long ago, at the most, the lease began when the answer came in */
  readonly onRun: (leased: LeasedRun, waitedMs: number) => void;
  /** The server does not know the worker. Resolves when a poll makes sense again. */
  readonly onNotRegistered: () => Promise<void>;
  readonly onDrain: () => void;
}

const POLL_WAIT_MS = 20_000;
const BACKOFF_MS = 100;

/** One each: a signal that all polls listened to would keep what they brought, listener by listener. */
interface PollUnderWay {
  readonly abort: AbortController;
  readonly ended: Promise<void>;
}

/** Keeps as many long polls open as there is room for runs. */
export class Polls {
  readonly #options: PollsOptions;
  readonly #underWay = new ChurningSet<PollUnderWay>();
  #stopped = false;

  constructor(options: PollsOptions) {
    this.#options = options;
  }

  /** Opens what is missing; to be called whenever there may be more room. */
  fill(): void {
    while (!this.#stopped) {
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

  /** Opens no further ones. */
  stop(): void {
    this.#stopped = true;
  }

  /** Lets those under way come back by themselves, and gives up what has not come back after a while. */
  async end(patienceMs: number): Promise<void> {
    this.stop();
    const polls = [...this.#underWay];
    await Promise.race([Promise.all(polls.map(({ ended }) => ended)), delay(patienceMs, undefined, { ref: false })]);
    for (const { abort } of polls) abort.abort();
  }

  /** One poll; after a failure it ends only when another one makes sense. */
  async #poll(ticket: PollTicket, signal: AbortSignal): Promise<void> {
    const { transport, ledger, namespace, workerId, taskQueue, workflowTypes, onRun } = this.#options;
    try {
      const sentAtMs = performance.now();
      const { runs } = await transport.pollActivity(
        {
          namespace,
          workerId,
          taskQueue,
          workflowTypes: ticket.types.length === workflowTypes.length ? [] : [...ticket.types],
          wait: durationMessage(POLL_WAIT_MS),
          maxRuns: ticket.slots,
        },
        longCall(POLL_WAIT_MS, signal),
      );
      const waitedMs = performance.now() - sentAtMs;
      for (const run of runs) onRun(run, waitedMs);
    } catch (error) {
      if (!this.#stopped) await this.#failed(error);
    } finally {
      ledger.closePoll(ticket);
    }
  }

  async #failed(error: unknown): Promise<void> {
    const { log, onNotRegistered, onDrain } = this.#options;
    if (!(error instanceof RpcError)) log.error({ event: 'poll_failed', err: error });
    else if (error.reason === 'WORKER_NOT_REGISTERED') await onNotRegistered();
    else if (error.reason === 'WORKER_DRAINING') onDrain();
    else {
      if (error.isTransient) log.debug({ event: 'poll_failed', message: error.message });
      else log.error({ event: 'poll_failed', status: error.status, message: error.message });
      await delay(Math.max(error.retryAfterMs ?? 0, BACKOFF_MS) * (1 + Math.random()), undefined, { ref: false });
    }
  }
}
