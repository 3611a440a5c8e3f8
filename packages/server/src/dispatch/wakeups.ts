import {
  type Database,
  decodeAnswered,
  decodeEnded,
  decodeNotices,
  decodeWakeup,
  ENDED_CHANNEL,
  type Listener,
  type QueueRef,
  type RunEnd,
  type UpdateAnswer,
  WAKEUP_CHANNEL,
  type WorkerNotice,
} from '@perdure/store';
import type { Logger } from 'pino';
import type { AnswerWaiters } from './answer-waiters.js';
import type { Dispatcher } from './dispatcher.js';
import type { EndWaiters } from './end-waiters.js';
import type { RunKeeper } from './kept-runs.js';
import type { Notices } from './notices.js';
import type { Notifier } from './notifier.js';

/** A reaper sweeps at least this often without a notification, in ms (its `max-sleep`, with a margin). */
const DUE_WITHIN_MS = 5_000;

export interface WakeupsOptions {
  readonly db: Database;
  readonly log: Logger;
  readonly serverId: string;
  readonly dispatcher: Dispatcher;
  readonly endWaiters: EndWaiters;
  readonly answerWaiters: AnswerWaiters;
  readonly notices: Notices;
  /** Undefined: polling only. */
  readonly notifier: Notifier | undefined;
}

/** Announces committed changes to waiting callers: in this process at once, in other processes by notification. */
export class Wakeups {
  readonly #options: WakeupsOptions;
  readonly #listeners: Listener[];
  #peers = true;

  constructor(options: WakeupsOptions) {
    this.#options = options;
    this.#listeners = options.notifier === undefined ? [] : this.#listen();
  }

  /** Whether other servers are alive and must be notified. */
  setPeers(peers: boolean): void {
    this.#peers = peers;
  }

  /**
   * Runs have become claimable. Other servers are notified unless the polls that wait here take them all.
   *
   * @param workflowType of the runs; undefined when not known
   */
  runnable(queue: QueueRef, runs: number, workflowType?: string): void {
    const waiting = this.#options.dispatcher.wake(queue, workflowType, runs);
    if (this.#peers && waiting < runs) this.#options.notifier?.runnable(queue);
  }

  /** A run is about to be started here. */
  onStarting(run: { readonly namespace: string; readonly runId: string; readonly workflowId: string }): void {
    this.#options.endWaiters.onStarting(run);
  }

  /** The run was not started, or that is not known. */
  onNotStarted(runId: string): void {
    this.#options.endWaiters.onNotStarted(runId);
  }

  /** @param end how; undefined when that has to be looked up */
  onEnded(runId: string, end?: RunEnd): void {
    this.left(runId);
    this.#options.endWaiters.onEnded(runId, end);
    if (this.#peers) this.#options.notifier?.ended([runId]);
  }

  /** @param answer undefined when that has to be looked up */
  onAnswered(update: { readonly runId: string; readonly requestId: string }, answer?: UpdateAnswer): void {
    this.#options.answerWaiters.onAnswered(update, answer);
    if (this.#peers) this.#options.notifier?.answered(update);
  }

  /** A run is with no worker any more. */
  left(runId: string): void {
    this.#options.dispatcher.left(runId);
  }

  /** A run is suspended, and a worker keeps it in memory. */
  kept(runId: string, keeper: RunKeeper): void {
    this.#options.dispatcher.kept(runId, keeper);
  }

  /** Tells a worker, wherever it waits. */
  notice(notice: WorkerNotice): void {
    const waitsHere = this.#options.notices.push(notice);
    if (!waitsHere && this.#peers) this.#options.notifier?.notice(notice);
  }

  /** A run is due after this many ms. */
  wakesIn(ms: number): void {
    if (ms <= DUE_WITHIN_MS) this.#options.notifier?.due({ wakeInMs: ms });
  }

  /** A deadline passes after this many ms. */
  expiresIn(ms: number): void {
    if (ms <= DUE_WITHIN_MS) this.#options.notifier?.due({ expiryInMs: ms });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#listeners.map((listener) => listener.stop()));
  }

  #listen(): Listener[] {
    const { db, log, serverId, dispatcher, endWaiters, answerWaiters, notices } = this.#options;
    const onInterrupted = (error: Error) => log.warn({ event: 'listen_interrupted', message: error.message });
    return [
      db.listen({
        channel: WAKEUP_CHANNEL,
        onPayload: (payload) => {
          const note = decodeWakeup(payload) ?? decodeNotices(payload);
          if (note === undefined || note.from === serverId) return;
          if ('queues' in note) for (const queue of note.queues) dispatcher.wake(queue);
          else for (const notice of note.notices) notices.push(notice);
        },
        onListening: () => dispatcher.wakeAll(),
        onInterrupted,
      }),
      db.listen({
        channel: ENDED_CHANNEL,
        onPayload: (payload) => {
          const note = decodeEnded(payload) ?? decodeAnswered(payload);
          if (note === undefined || note.from === serverId) return;
          if ('runIds' in note) for (const runId of note.runIds) endWaiters.onEnded(runId);
          else for (const update of note.updates) answerWaiters.onAnswered(update);
        },
        onListening: () => {
          endWaiters.resync();
          void answerWaiters.look();
        },
        onInterrupted,
      }),
    ];
  }
}
