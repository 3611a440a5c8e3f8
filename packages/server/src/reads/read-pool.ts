import { type Database, type Reader, StatementTimeoutError } from '@perdure/store';
import type { Call } from '../call/handlers.js';
import { invalidArgument, overloaded } from '../call/rpc-error.js';

export interface ReadPoolOptions {
  /** Connections for reads only, on which PostgreSQL ends long statements. */
  readonly db: Database;
  /** Most reads in PostgreSQL at once: as many as there are connections, so that none waits inside the driver. */
  readonly maxReads: number;
  /** Most reads that may wait; the excess is refused as OVERLOADED. */
  readonly maxQueued: number;
}

interface Waiting {
  readonly call: Pick<Call, 'aborted'>;
  readonly begin: () => void;
  readonly refuse: (error: Error) => void;
}

/**
 * Reads that never delay writes: separate connections with a bounded queue. Nothing is read for a caller that has left
 * meanwhile.
 */
export class ReadPool {
  readonly #options: ReadPoolOptions;
  readonly #waiting: Waiting[] = [];
  #reading = 0;

  constructor(options: ReadPoolOptions) {
    this.#options = options;
  }

  /** Reads that wait for a connection. */
  get queued(): number {
    return this.#waiting.length;
  }

  /** @returns a reader for one call */
  for(call: Pick<Call, 'aborted'>): Reader {
    return { query: (statement, parameters) => this.#read(call, () => this.#options.db.query(statement, parameters)) };
  }

  async #read<T>(call: Pick<Call, 'aborted'>, read: () => Promise<T>): Promise<T> {
    if (this.#reading < this.#options.maxReads) this.#reading++;
    else await this.#turn(call);
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof StatementTimeoutError)) throw error;
      throw invalidArgument([{ field: '(request)', description: 'takes too long to read; narrow the filter.' }]);
    } finally {
      this.#reading--;
      this.#next();
    }
  }

  #turn(call: Pick<Call, 'aborted'>): Promise<void> {
    if (this.#waiting.length >= this.#options.maxQueued) this.#forgetGone();
    if (this.#waiting.length >= this.#options.maxQueued) {
      throw overloaded(`${this.#options.maxQueued} reads are queued`);
    }
    return new Promise((begin, refuse) => this.#waiting.push({ call, begin, refuse }));
  }

  #next(): void {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      if (next.call.aborted) {
        next.refuse(gone());
        continue;
      }
      this.#reading++;
      next.begin();
      return;
    }
  }

  #forgetGone(): void {
    for (const waiting of this.#waiting.splice(0)) {
      if (waiting.call.aborted) waiting.refuse(gone());
      else this.#waiting.push(waiting);
    }
  }
}

/** The caller never sees it. */
const gone = () => overloaded('the caller left before its read began');
