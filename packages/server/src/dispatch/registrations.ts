import { type Clock, monotonicClock } from '@perdure/clock';
import { type Database, getRegistration, type Worker, type WorkerRef } from '@perdure/store';

/** How long a cached registration is trusted, in ms. Claims check the status themselves. */
const TRUSTED_MS = 5_000;
const MAX_ENTRIES = 10_000;

/** A cache of the registrations of workers that poll here, so that not every poll reads one. */
export class Registrations {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #known = new Map<string, { readonly worker: Promise<Worker | null>; readonly untilMs: number }>();

  constructor(db: Database, clock: Clock = monotonicClock) {
    this.#db = db;
    this.#clock = clock;
  }

  /** @returns the worker, or null when no worker with this id is registered in the namespace */
  get(ref: WorkerRef): Promise<Worker | null> {
    const key = `${ref.namespace}\n${ref.workerId}`;
    const now = this.#clock.nowMs();
    const known = this.#known.get(key);
    if (known !== undefined && known.untilMs > now) return known.worker;
    const worker = getRegistration(this.#db, ref);
    if (this.#known.size >= MAX_ENTRIES) this.#known.clear();
    this.#known.set(key, { worker, untilMs: now + TRUSTED_MS });
    const forgetUnlessFound = () => this.#known.delete(key);
    worker.then((found) => found?.status === 'ONLINE' || forgetUnlessFound(), forgetUnlessFound);
    return worker;
  }

  /** To be called after a change of the worker. */
  forget(ref: WorkerRef): void {
    this.#known.delete(`${ref.namespace}\n${ref.workerId}`);
  }
}
