import { type Clock, every, monotonicClock } from '@perdure/clock';
import type { WorkerNotice, WorkerRef } from '@perdure/store';
import type { Call } from '../call/handlers.js';
import { shuttingDown } from '../call/rpc-error.js';

/** A worker that has not waited here for this long is assumed to be at another server, in ms. */
const GONE_MS = 10_000;
/** Most notices kept for a worker between two calls; heartbeats carry the excess. */
const MAX_KEPT = 1_000;

interface Box {
  kept: WorkerNotice[];
  deliver: ((notices: readonly WorkerNotice[]) => void) | undefined;
  leftAtMs: number;
}

/** Notices for the workers that wait for them here. A lost notice only adds latency. */
export class Notices {
  readonly #boxes = new Map<string, Box>();
  readonly #clock: Clock;
  readonly #stopSweeper: () => void;
  #stopped = false;

  constructor(clock: Clock = monotonicClock) {
    this.#clock = clock;
    this.#stopSweeper = every(clock, GONE_MS, () => this.#sweep());
  }

  /** Workers that wait here now. */
  get listeners(): number {
    let listeners = 0;
    for (const { deliver } of this.#boxes.values()) if (deliver !== undefined) listeners++;
    return listeners;
  }

  /**
   * @returns when there are notices, the wait has passed, the caller has left, or another call of the worker takes over
   * @throws {RpcError} SHUTTING_DOWN
   */
  await(worker: WorkerRef, waitMs: number, call: Call): Promise<readonly WorkerNotice[]> {
    if (this.#stopped) return Promise.reject(shuttingDown());
    if (call.aborted) return Promise.resolve([]);
    const key = keyOf(worker);
    const box = this.#boxes.get(key) ?? { kept: [], deliver: undefined, leftAtMs: 0 };
    this.#boxes.set(key, box);
    box.deliver?.([]);
    box.leftAtMs = this.#clock.nowMs();
    if (box.kept.length > 0) return Promise.resolve(box.kept.splice(0));
    return new Promise((resolve) => {
      const end = (notices: readonly WorkerNotice[]) => {
        stopTimer();
        if (box.deliver === end) {
          box.deliver = undefined;
          box.leftAtMs = this.#clock.nowMs();
        }
        resolve(notices);
      };
      const stopTimer = this.#clock.after(waitMs, () => end([]));
      box.deliver = end;
      call.onAbort(() => end([]));
    });
  }

  /** @returns false when the worker does not wait here now: it may be between two calls, or at another server */
  push(notice: WorkerNotice): boolean {
    const box = this.#boxes.get(keyOf(notice));
    if (box === undefined) return false;
    if (box.kept.length < MAX_KEPT) box.kept.push(notice);
    // Notices of one batch of commands are delivered together.
    if (box.kept.length === 1) setImmediate(() => this.#flush(box));
    return box.deliver !== undefined;
  }

  /** Lets everyone go. */
  stop(): void {
    this.#stopped = true;
    this.#stopSweeper();
    for (const { deliver } of this.#boxes.values()) deliver?.([]);
    this.#boxes.clear();
  }

  #flush(box: Box): void {
    if (box.deliver !== undefined && box.kept.length > 0) box.deliver(box.kept.splice(0));
  }

  #sweep(): void {
    const goneSinceMs = this.#clock.nowMs() - GONE_MS;
    for (const [key, { deliver, leftAtMs }] of this.#boxes) {
      if (deliver === undefined && leftAtMs < goneSinceMs) this.#boxes.delete(key);
    }
  }
}

/** The namespace is part of the key, so a worker gets notices of its own namespace only. */
const keyOf = (worker: WorkerRef): string => `${worker.namespace}\n${worker.workerId}`;
