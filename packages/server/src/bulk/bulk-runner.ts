import { setTimeout as delay } from 'node:timers/promises';
import { advanceBulkOperation, BulkChunkError, bulkDueInMs, type Database, noteBulkTrouble } from '@perdure/store';
import type { Logger } from 'pino';
import type { Effect } from '../commands/after-commit.js';
import { bulkEffects } from './bulk-effects.js';

export interface BulkRunnerOptions {
  /** Where the runner looks whether there is anything to do. */
  readonly db: Database;
  /** Connections for chunks alone, so that commands never wait for them; opened with the first chunk. */
  readonly chunkDb: Database;
  readonly log: Logger;
  /** This server, for people. */
  readonly identity: string;
  readonly maxUnconsumedSignals: number;
  /** Notifies those who are concerned by what was done. */
  readonly apply: (effect: Effect) => void;
}

/** How often a server looks for operations that another one began, in ms. */
const LOOK_MS = 2_000;
const AFTER_FAILURE_MS = 1_000;

/**
 * Does chunks of bulk operations, as long as there are any. Every server of a database has one; which server does a chunk is decided in the database, so
 * a server that dies or stops leaves nothing undone.
 */
export class BulkRunner {
  readonly #options: BulkRunnerOptions;
  readonly #stopping = new AbortController();
  #wakeUp: () => void = () => undefined;
  #isKicked = false;
  #done: Promise<void> | undefined;

  constructor(options: BulkRunnerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#done ??= this.#run();
  }

  /** An operation has begun or was resumed at this server. */
  kick(): void {
    this.#isKicked = true;
    this.#wakeUp();
  }

  /** Waits for the chunk under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wakeUp();
    await this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      this.#isKicked = false;
      try {
        const dueInMs = await bulkDueInMs(this.#options.db);
        if (dueInMs === null || dueInMs > 0) await this.#pause(Math.min(dueInMs ?? LOOK_MS, LOOK_MS));
        // Another server has the chunk that is due: it takes some tens of ms.
        else if (!(await this.#advance())) await this.#pause(50);
      } catch (error) {
        await this.#onFailure(error);
      }
    }
  }

  /** @returns false when there was nothing to do */
  async #advance(): Promise<boolean> {
    const { chunkDb, identity, maxUnconsumedSignals, apply, log } = this.#options;
    const advanced = await advanceBulkOperation(chunkDb, { workedBy: identity, maxUnconsumedSignals });
    if (advanced === null) return false;
    for (const act of advanced.acts) for (const effect of bulkEffects(act)) apply(effect);
    const { operationId, acts, isEnd } = advanced;
    if (isEnd) log.info({ event: 'bulk_operation_completed', operationId });
    else log.debug({ event: 'bulk_chunk_done', operationId, runs: acts.length });
    return true;
  }

  async #onFailure(error: unknown): Promise<void> {
    const { chunkDb, log } = this.#options;
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof BulkChunkError) {
      log.error({ event: 'bulk_chunk_failed', operationId: error.operationId, err: error });
      await noteBulkTrouble(chunkDb, error.operationId, message).catch(() => undefined);
    } else log.debug({ event: 'bulk_look_failed', message });
    await this.#pause(AFTER_FAILURE_MS);
  }

  async #pause(ms: number): Promise<void> {
    if (this.#isKicked) return;
    const woken = new AbortController();
    this.#wakeUp = () => woken.abort();
    if (this.#stopping.signal.aborted) return;
    await delay(ms, undefined, { signal: woken.signal }).catch(() => undefined);
  }
}
