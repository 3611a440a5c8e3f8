import { type Clock, monotonicClock } from '@perdure/clock';
import { ChurningMap } from '@perdure/collections';
import { DataError } from '@perdure/store';
import { overloaded, type RpcError } from '../call/rpc-error.js';

export interface CoalescerOptions<Command, Outcome> {
  /** The RPC's name, for messages. */
  readonly name: string;
  /** One batch: an outcome per command, in their order. */
  readonly run: (commands: readonly Command[]) => Promise<readonly Outcome[]>;
  /** Commands with equal keys keep their order and never run in two batches at once. */
  readonly keyOf: (command: Command) => string;
  /** Bytes of the values that a command carries; default 0 for all. */
  readonly bytesOf?: (command: Command) => number;
  /** Called with an exception that a caller's callback threw. Must not throw. */
  readonly onFault: (error: unknown) => void;
  /** Most commands in a batch; default 500. */
  readonly maxBatch?: number;
  /** Most bytes in a batch, unless one command alone has more; default 8 MiB. */
  readonly maxBatchBytes?: number;
  /** Most batches in flight; default 2. */
  readonly maxInFlight?: number;
  /** Fewer commands than this do not start a batch beside one in flight; default 32. */
  readonly minSecondBatch?: number;
  /** Most commands that wait for a batch; the excess is refused as OVERLOADED. */
  readonly maxQueued: number;
  /** Most bytes waiting and in flight; the excess is refused as OVERLOADED. Default 64 MiB. */
  readonly maxQueuedBytes?: number;
  readonly clock?: Clock;
}

/** A batch in flight for longer is presumed blocked; new commands no longer wait for it. In ms. */
const HANGING_MS = 50;
const MIB = 1024 * 1024;

/** An admitted command and its callbacks. Exactly one of the two is called, once. */
export interface Admitted<Command, Outcome> {
  readonly command: Command;
  readonly bytes: number;
  readonly onOutcome: (outcome: Outcome) => void;
  readonly onError: (error: unknown) => void;
}

interface Entry<Command, Outcome> extends Admitted<Command, Outcome> {
  readonly key: string;
}

/**
 * Group commit: collects the commands of all callers while earlier batches are in flight, and writes them with one statement.
 * Without load a command waits only for the end of the present event-loop turn; there are no timers.
 *
 * A command is refused when it arrives or never: an admitted command is carried out. Batches and the queue are bounded by
 * commands and by bytes; a large command that does not fit a batch lets smaller ones pass and is the first of the next batch.
 *
 * A command that the database refuses for its values fails alone: its batch is split until the command is alone.
 */
export class Coalescer<Command, Outcome> {
  /** The error of a refused command. Created once, because refusing must be cheaper than carrying out. */
  readonly refusal: RpcError;
  readonly #options: Required<CoalescerOptions<Command, Outcome>>;
  readonly #keysInFlight = new ChurningMap<string, number>();
  #queue: Entry<Command, Outcome>[] = [];
  /** Admitted commands that are in no batch yet. */
  #waiting = 0;
  /** Bytes of all admitted commands that have no outcome yet. */
  #bytes = 0;
  #inFlight = 0;
  #beganAtMs = 0;
  #scheduled = false;

  constructor(options: CoalescerOptions<Command, Outcome>) {
    this.#options = {
      bytesOf: () => 0,
      maxBatch: 500,
      maxBatchBytes: 8 * MIB,
      maxInFlight: 2,
      minSecondBatch: 32,
      maxQueuedBytes: 64 * MIB,
      clock: monotonicClock,
      ...options,
    };
    const { name, maxQueued, maxQueuedBytes } = this.#options;
    const limits = `${maxQueued.toLocaleString('en')} commands or ${Math.round(maxQueuedBytes / MIB)} MiB`;
    this.refusal = overloaded(`its queue of ${name} commands is full (${limits})`);
  }

  /**
   * @returns the command's outcome, once committed
   * @throws {RpcError} OVERLOADED when too many commands are queued; nothing was changed
   */
  submit(command: Command): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const admitted = this.admit(command, resolve, reject);
      if (admitted === undefined) reject(this.refusal);
      else this.enqueue(admitted);
    });
  }

  /**
   * Admits all of the commands or none.
   *
   * @returns an outcome per command, each once committed
   * @throws {RpcError} OVERLOADED when there is no room for all of them; nothing was changed
   */
  submitAll(commands: readonly Command[]): Promise<Outcome>[] {
    const bytes = commands.reduce((sum, command) => sum + this.#options.bytesOf(command), 0);
    if (!this.#hasRoom(commands.length, bytes)) throw this.refusal;
    return commands.map(
      (command) =>
        new Promise((resolve, reject) => {
          this.enqueue(this.#take(command, this.#options.bytesOf(command), resolve, reject));
        }),
    );
  }

  /**
   * Reserves a place for a command; {@link enqueue} must follow.
   *
   * @returns undefined when there is no room: none of the callbacks is called
   */
  admit(
    command: Command,
    onOutcome: (outcome: Outcome) => void,
    onError: (error: unknown) => void,
  ): Admitted<Command, Outcome> | undefined {
    const bytes = this.#options.bytesOf(command);
    return this.#hasRoom(1, bytes) ? this.#take(command, bytes, onOutcome, onError) : undefined;
  }

  /** Queues an admitted command, behind those that were queued before. */
  enqueue(admitted: Admitted<Command, Outcome>): void {
    this.#queue.push(admitted as Entry<Command, Outcome>);
    this.#schedule();
  }

  /** An empty queue admits a command of any size, so that no command is refused forever. */
  #hasRoom(commands: number, bytes: number): boolean {
    const { maxQueued, maxQueuedBytes } = this.#options;
    return (
      (this.#waiting === 0 || this.#waiting + commands <= maxQueued) &&
      (this.#bytes === 0 || this.#bytes + bytes <= maxQueuedBytes)
    );
  }

  #take(
    command: Command,
    bytes: number,
    onOutcome: (outcome: Outcome) => void,
    onError: (error: unknown) => void,
  ): Entry<Command, Outcome> {
    this.#waiting++;
    this.#bytes += bytes;
    return { command, key: this.#options.keyOf(command), bytes, onOutcome, onError };
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
      const hangs = this.#options.clock.nowMs() - this.#beganAtMs > HANGING_MS;
      if (this.#inFlight > 0 && this.#queue.length < this.#options.minSecondBatch && !hangs) return;
      const batch = this.#takeBatch();
      if (batch.length === 0) return;
      this.#inFlight++;
      this.#beganAtMs = this.#options.clock.nowMs();
      void this.#runBatch(batch);
    }
  }

  /** Takes the commands that may run now and leaves the rest in order: a key in flight, or left behind, holds back its later commands. */
  #takeBatch(): Entry<Command, Outcome>[] {
    const { maxBatch, maxBatchBytes } = this.#options;
    const queue = this.#queue;
    const batch: Entry<Command, Outcome>[] = [];
    const left: Entry<Command, Outcome>[] = [];
    const held = new Set<string>();
    let bytes = 0;
    let next = 0;
    for (; next < queue.length && batch.length < maxBatch; next++) {
      const entry = queue[next] as Entry<Command, Outcome>;
      const fits = batch.length === 0 || bytes + entry.bytes <= maxBatchBytes;
      if (!fits || this.#keysInFlight.has(entry.key) || held.has(entry.key)) {
        held.add(entry.key);
        left.push(entry);
      } else {
        batch.push(entry);
        bytes += entry.bytes;
      }
    }
    for (; next < queue.length; next++) left.push(queue[next] as Entry<Command, Outcome>);
    this.#queue = left;
    this.#waiting -= batch.length;
    for (const { key } of batch) this.#keysInFlight.set(key, (this.#keysInFlight.get(key) ?? 0) + 1);
    return batch;
  }

  async #runBatch(batch: readonly Entry<Command, Outcome>[]): Promise<void> {
    await this.#settle(batch);
    for (const { key, bytes } of batch) {
      this.#bytes -= bytes;
      const count = (this.#keysInFlight.get(key) ?? 1) - 1;
      if (count === 0) this.#keysInFlight.delete(key);
      else this.#keysInFlight.set(key, count);
    }
    this.#inFlight--;
    this.#pump();
  }

  /** Never throws, and calls one callback of each entry once, even when a callback throws. */
  async #settle(batch: readonly Entry<Command, Outcome>[]): Promise<void> {
    let outcomes: readonly Outcome[];
    try {
      outcomes = await this.#options.run(batch.map((entry) => entry.command));
    } catch (error) {
      if (batch.length > 1 && mayConcernOne(error)) {
        const middle = batch.length >> 1;
        await this.#settle(batch.slice(0, middle));
        await this.#settle(batch.slice(middle));
      } else {
        for (const entry of batch) this.#notify(entry.onError, error);
      }
      return;
    }
    batch.forEach((entry, index) => {
      if (index < outcomes.length) this.#notify(entry.onOutcome, outcomes[index] as Outcome);
      else
        this.#notify(entry.onError, new Error(`A batch of ${this.#options.name} left a command without an outcome.`));
    });
  }

  #notify<Value>(callback: (value: Value) => void, value: Value): void {
    try {
      callback(value);
    } catch (error) {
      this.#options.onFault(error);
    }
  }
}

/** A value that PostgreSQL refuses, or a text too long for a string: one command is the cause, not the whole batch. */
function mayConcernOne(error: unknown): boolean {
  return error instanceof DataError || error instanceof RangeError;
}
