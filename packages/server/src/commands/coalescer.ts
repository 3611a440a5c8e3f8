import { ChurningMap } from '@perdure/collections';
import { DataError } from '@perdure/store';
import { overloaded } from '../rpc/rpc-error.js';

export interface CoalescerOptions<Command, Outcome> {
  /** For messages. */
  readonly name: string;
  /** One batch: an outcome per command, in their order. */
  readonly run: (commands: readonly Command[]) => Promise<readonly Outcome[]>;
  /** Commands with equal keys keep their order and never run in two batches at once. */
  readonly keyOf: (command: Command) => string;
  /** Commands in a batch at the most. */
  readonly maxBatch?: number;
  /** Batches under way at the most. */
  readonly maxInFlight?: number;
  /** With fewer commands than that waiting, a batch under way is waited for; default 32. */
  readonly worthABatch?: number;
  /** Commands waiting at the most; more are refused as OVERLOADED. */
  readonly maxQueued: number;
}

/** A batch that takes longer waits for a lock or a connection; new commands do not wait with it. In ms. */
const HANGING_MS = 50;

interface Entry<Command, Outcome> {
  readonly command: Command;
  readonly key: string;
  readonly onOutcome: (outcome: Outcome) => void;
  readonly onError: (error: unknown) => void;
}

/**
 * Group commit: gathers the commands of all callers for as long as earlier batches are under way, and writes them with one
 * statement. Without load a command waits for nothing but the end of the present event-loop turn; there are no timers.
 *
 * A command that the database refuses for its values fails alone: its batch is split until it stands by itself.
 */
export class Coalescer<Command, Outcome> {
  readonly #options: Required<CoalescerOptions<Command, Outcome>>;
  readonly #keysInFlight = new ChurningMap<string, number>();
  #queue: Entry<Command, Outcome>[] = [];
  #inFlight = 0;
  #beganAtMs = 0;
  #scheduled = false;

  constructor(options: CoalescerOptions<Command, Outcome>) {
    this.#options = { maxBatch: 500, maxInFlight: 2, worthABatch: 32, ...options };
  }

  /** Commands that wait for a batch. */
  get queued(): number {
    return this.#queue.length;
  }

  /**
   * @returns the command's outcome, once committed
   * @throws {RpcError} OVERLOADED when too many commands wait; nothing was done
   */
  submit(command: Command): Promise<Outcome> {
    return new Promise((resolve, reject) => this.enqueue(command, resolve, reject));
  }

  /** {@link submit} without a promise of its own; one of the two is called, once. */
  enqueue(command: Command, onOutcome: (outcome: Outcome) => void, onError: (error: unknown) => void): void {
    if (this.#queue.length >= this.#options.maxQueued) {
      onError(overloaded(`${this.#options.maxQueued} ${this.#options.name} commands wait already`));
      return;
    }
    this.#queue.push({ command, key: this.#options.keyOf(command), onOutcome, onError });
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= this.#options.maxInFlight) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#queue.length > 0 && this.#inFlight < this.#options.maxInFlight) {
      // A further batch beside one that is under way has to be worth its statement, unless that one hangs.
      const hangs = performance.now() - this.#beganAtMs > HANGING_MS;
      if (this.#inFlight > 0 && this.#queue.length < this.#options.worthABatch && !hangs) return;
      const batch = this.#takeBatch();
      if (batch.length === 0) return;
      this.#inFlight++;
      this.#beganAtMs = performance.now();
      void this.#runBatch(batch);
    }
  }

  /** Takes what may run now and leaves the rest in order: a key in flight, or left behind, holds back what follows it. */
  #takeBatch(): Entry<Command, Outcome>[] {
    const batch: Entry<Command, Outcome>[] = [];
    const left: Entry<Command, Outcome>[] = [];
    const held = new Set<string>();
    for (const entry of this.#queue) {
      if (batch.length >= this.#options.maxBatch || this.#keysInFlight.has(entry.key) || held.has(entry.key)) {
        held.add(entry.key);
        left.push(entry);
      } else batch.push(entry);
    }
    this.#queue = left;
    for (const { key } of batch) this.#keysInFlight.set(key, (this.#keysInFlight.get(key) ?? 0) + 1);
    return batch;
  }

  async #runBatch(batch: readonly Entry<Command, Outcome>[]): Promise<void> {
    try {
      await this.#settle(batch);
    } finally {
      for (const { key } of batch) {
        const count = (this.#keysInFlight.get(key) ?? 1) - 1;
        if (count === 0) this.#keysInFlight.delete(key);
        else this.#keysInFlight.set(key, count);
      }
      this.#inFlight--;
      this.#pump();
    }
  }

  async #settle(batch: readonly Entry<Command, Outcome>[]): Promise<void> {
    try {
      const outcomes = await this.#options.run(batch.map((entry) => entry.command));
      batch.forEach((entry, index) => {
        entry.onOutcome(outcomes[index] as Outcome);
      });
    } catch (error) {
      if (error instanceof DataError && batch.length > 1) {
        const middle = batch.length >> 1;
        await this.#settle(batch.slice(0, middle));
        await this.#settle(batch.slice(middle));
      } else {
        for (const entry of batch) entry.onError(error);
      }
    }
  }
}
