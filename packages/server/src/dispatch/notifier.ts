import { type Clock, monotonicClock } from '@perdure/clock';
import {
  type Database,
  DatabaseUnavailableError,
  ENDED_CHANNEL,
  encodeAnswered,
  encodeEnded,
  encodeNotices,
  encodeTimers,
  encodeWakeup,
  type QueueRef,
  TIMERS_CHANNEL,
  WAKEUP_CHANNEL,
  type WorkerNotice,
} from '@perdure/store';
import type { Logger } from 'pino';

/**
 * Notifies other processes, outside the transactions that change runs. Notifications that arrive while a statement is in flight
 * are sent by the next one, so at most one statement is in flight. A lost notification only adds latency.
 */
export class Notifier {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #from: string;
  readonly #clock: Clock;
  #queues = new Map<string, QueueRef>();
  #endedRunIds = new Set<string>();
  #answered: { readonly runId: string; readonly requestId: string }[] = [];
  #notices: WorkerNotice[] = [];
  #wakeAtMs = Number.POSITIVE_INFINITY;
  #expiryAtMs = Number.POSITIVE_INFINITY;
  #sending = false;

  constructor(db: Database, log: Logger, from: string, clock: Clock = monotonicClock) {
    this.#db = db;
    this.#log = log;
    this.#from = from;
    this.#clock = clock;
  }

  /** To servers: the queue has claimable runs. */
  runnable(queue: QueueRef): void {
    this.#queues.set(`${queue.namespace}\n${queue.taskQueue}`, queue);
    void this.#send();
  }

  /** To servers: a notice for a worker that waits at another server. */
  notice(notice: WorkerNotice): void {
    this.#notices.push(notice);
    void this.#send();
  }

  /** To servers: these runs have ended. */
  ended(runIds: readonly string[]): void {
    for (const runId of runIds) this.#endedRunIds.add(runId);
    void this.#send();
  }

  /** To servers: the update is answered. */
  answered(update: { readonly runId: string; readonly requestId: string }): void {
    this.#answered.push(update);
    void this.#send();
  }

  /** To reapers: a wake-up or deadline falls due this early. */
  due(note: { readonly wakeInMs?: number; readonly expiryInMs?: number }): void {
    const now = this.#clock.nowMs();
    if (note.wakeInMs !== undefined) this.#wakeAtMs = Math.min(this.#wakeAtMs, now + note.wakeInMs);
    if (note.expiryInMs !== undefined) this.#expiryAtMs = Math.min(this.#expiryAtMs, now + note.expiryInMs);
    void this.#send();
  }

  async #send(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    try {
      for (let batch = this.#take(); batch.length > 0; batch = this.#take()) {
        for (const [channel, payload] of batch) await this.#db.notify(channel, payload);
      }
    } catch (error) {
      const level = error instanceof DatabaseUnavailableError ? 'debug' : 'error';
      this.#log[level]({ event: 'notify_failed', err: error });
    } finally {
      this.#sending = false;
    }
  }

  #take(): [channel: string, payload: string][] {
    const batch: [string, string][] = [];
    if (this.#queues.size > 0) {
      const queues = [...this.#queues.values()];
      for (const payload of encodeWakeup({ from: this.#from, queues })) batch.push([WAKEUP_CHANNEL, payload]);
      this.#queues = new Map();
    }
    if (this.#notices.length > 0) {
      const notices = this.#notices.splice(0);
      for (const payload of encodeNotices({ from: this.#from, notices })) batch.push([WAKEUP_CHANNEL, payload]);
    }
    if (this.#endedRunIds.size > 0) {
      const runIds = [...this.#endedRunIds];
      for (const payload of encodeEnded({ from: this.#from, runIds })) batch.push([ENDED_CHANNEL, payload]);
      this.#endedRunIds = new Set();
    }
    if (this.#answered.length > 0) {
      const updates = this.#answered.splice(0);
      for (const payload of encodeAnswered({ from: this.#from, updates })) batch.push([ENDED_CHANNEL, payload]);
    }
    if (this.#wakeAtMs !== Number.POSITIVE_INFINITY || this.#expiryAtMs !== Number.POSITIVE_INFINITY) {
      const wakeInMs = this.#msUntil(this.#wakeAtMs);
      const expiryInMs = this.#msUntil(this.#expiryAtMs);
      batch.push([TIMERS_CHANNEL, encodeTimers({ wakeInMs, expiryInMs })]);
      this.#wakeAtMs = Number.POSITIVE_INFINITY;
      this.#expiryAtMs = Number.POSITIVE_INFINITY;
    }
    return batch;
  }

  #msUntil(atMs: number): number | null {
    return atMs === Number.POSITIVE_INFINITY ? null : Math.max(0, Math.ceil(atMs - this.#clock.nowMs()));
  }
}
