import {
  type Database,
  decodeFinished,
  decodeNotices,
  decodeWakeup,
  FINISHED_CHANNEL,
  type Listener,
  type QueueRef,
  type RunEnd,
  WAKEUP_CHANNEL,
  type WorkerNotice,
} from '@perdure/store';
import type { Logger } from 'pino';
import type { Dispatcher } from './dispatcher.js';
import type { EndWaiters } from './end-waiters.js';
import type { Notices } from './notices.js';
import type { Notifier } from './notifier.js';

/** A reaper looks at least this often by itself, in ms (its `max-sleep`, with room); what is due later needs no hint. */
const HINT_WITHIN_MS = 5_000;

export interface WakeupsOptions {
  readonly db: Database;
  readonly log: Logger;
  readonly serverId: string;
  readonly dispatcher: Dispatcher;
  readonly endWaiters: EndWaiters;
  readonly notices: Notices;
  /** Undefined: polling alone. */
  readonly notifier: Notifier | undefined;
}

/** Carries news of committed changes to those who wait: in this process at once, in others by notification. */
export class Wakeups {
  readonly #options: WakeupsOptions;
  readonly #listeners: Listener[];
  #peers = true;

  constructor(options: WakeupsOptions) {
    this.#options = options;
    this.#listeners = options.notifier === undefined ? [] : this.#listen();
  }

  /** Other servers are alive, so that it makes sense to tell them. */
  setPeers(peers: boolean): void {
    this.#peers = peers;
  }

  /**
   * Runs have become claimable. Other servers are told unless the polls that wait here take them all.
   *
   * @param workflowType of the runs; undefined when not known
   */
  runnable(queue: QueueRef, runs: number, workflowType?: string): void {
    const waiting = this.#options.dispatcher.wake(queue, workflowType, runs);
    if (this.#peers && waiting < runs) this.#options.notifier?.runnable(queue);
  }

  /** A run is about to be started here. */
  starting(run: { readonly namespace: string; readonly runId: string; readonly workflowId: string }): void {
    this.#options.endWaiters.starting(run);
  }

  /** Nothing came of the start, or nothing is known of it. */
  notStarted(runId: string): void {
    this.#options.endWaiters.notStarted(runId);
  }

  /** @param end how; undefined when that has to be looked up */
  ended(runId: string, end?: RunEnd): void {
    this.left(runId);
    this.#options.endWaiters.ended(runId, end);
    if (this.#peers) this.#options.notifier?.ended([runId]);
  }

  /** A run is with no worker any more. */
  left(runId: string): void {
    this.#options.dispatcher.left(runId);
  }

  /** Tells a worker, wherever it waits. */
  notice(notice: WorkerNotice): void {
    const waitsHere = this.#options.notices.push(notice);
    if (!waitsHere && this.#peers) this.#options.notifier?.notice(notice);
  }

  /** A run wakes by itself after so many ms. */
  wakesIn(ms: number): void {
    if (ms <= HINT_WITHIN_MS) this.#options.notifier?.due({ wakeInMs: ms });
  }

  /** A deadline passes after so many ms. */
  expiresIn(ms: number): void {
    if (ms <= HINT_WITHIN_MS) this.#options.notifier?.due({ expiryInMs: ms });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#listeners.map((listener) => listener.stop()));
  }

  #listen(): Listener[] {
    const { db, log, serverId, dispatcher, endWaiters, notices } = this.#options;
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
        channel: FINISHED_CHANNEL,
        onPayload: (payload) => {
          const note = decodeFinished(payload);
          if (note === undefined || note.from === serverId) return;
          for (const runId of note.runIds) endWaiters.ended(runId);
        },
        onListening: () => endWaiters.doubt(),
        onInterrupted,
      }),
    ];
  }
}
