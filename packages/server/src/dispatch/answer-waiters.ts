import { type Clock, every, monotonicClock } from '@perdure/clock';
import { ChurningMap } from '@perdure/collections';
import { answeredAmong, type Database, type UpdateAnswer } from '@perdure/store';
import type { Logger } from 'pino';

/** Called when the update is answered. Without `answer` the caller must read it; the call may also mean that the server is stopping. */
type OnAnswer = (answer: UpdateAnswer | undefined) => void;

interface Awaited {
  readonly runId: string;
  readonly requestId: string;
  readonly callbacks: OnAnswer[];
}

/** Callers that wait for the answers to updates. They subscribe first and read then, so no answer is missed between the two. */
export class AnswerWaiters {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #awaited = new ChurningMap<string, Awaited>();
  readonly #stopFallback: () => void;
  #looking = false;
  #stopped = false;

  /** @param fallbackMs how often to look for answers that nobody told of */
  constructor(db: Database, log: Logger, fallbackMs: number, clock: Clock = monotonicClock) {
    this.#db = db;
    this.#log = log;
    this.#stopFallback = every(clock, fallbackMs, () => void this.look());
  }

  /** @param onAnswer called at most once, also when the server stops */
  subscribe(update: { readonly runId: string; readonly requestId: string }, onAnswer: OnAnswer): { cancel(): void } {
    if (this.#stopped) {
      onAnswer(undefined);
      return { cancel: () => undefined };
    }
    const key = keyOf(update);
    const awaited = this.#awaited.get(key);
    if (awaited === undefined) this.#awaited.set(key, { ...update, callbacks: [onAnswer] });
    else awaited.callbacks.push(onAnswer);
    return { cancel: () => this.#cancel(key, onAnswer) };
  }

  #cancel(key: string, onAnswer: OnAnswer): void {
    const callbacks = this.#awaited.get(key)?.callbacks;
    const index = callbacks?.indexOf(onAnswer) ?? -1;
    if (callbacks === undefined || index < 0) return;
    callbacks.splice(index, 1);
    if (callbacks.length === 0) this.#awaited.delete(key);
  }

  /** @param answer undefined when the caller must read it */
  onAnswered(update: { readonly runId: string; readonly requestId: string }, answer?: UpdateAnswer): void {
    const key = keyOf(update);
    const awaited = this.#awaited.get(key);
    if (awaited === undefined) return;
    this.#awaited.delete(key);
    for (const onAnswer of awaited.callbacks) onAnswer(answer);
  }

  /** Finds out which of the awaited updates are answered, in one statement. */
  async look(): Promise<void> {
    if (this.#looking || this.#awaited.size === 0) return;
    this.#looking = true;
    try {
      for (const update of await answeredAmong(this.#db, [...this.#awaited.values()])) this.onAnswered(update);
    } catch (error) {
      this.#log.debug({ event: 'answer_read_failed', err: error });
    } finally {
      this.#looking = false;
    }
  }

  /** Releases all waiters. */
  stop(): void {
    this.#stopped = true;
    this.#stopFallback();
    for (const update of [...this.#awaited.values()]) this.onAnswered(update);
  }
}

/** A run id has no line break. */
const keyOf = ({ runId, requestId }: { readonly runId: string; readonly requestId: string }) =>
  `${runId}\n${requestId}`;
