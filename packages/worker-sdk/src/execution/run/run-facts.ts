import { dateOf, type LeasedRun } from '@perdure/proto';
import type { Logger } from 'pino';
import type { RunInfo } from '../../context.js';

/** What is known of a run from its claim, and what follows from it alone. */
export class RunFacts {
  /** As the author's code sees it; frozen, since the run's ids go into idempotency keys. */
  readonly run: RunInfo;
  readonly #log: Logger;
  #child: Logger | undefined;
  #now: Date;

  constructor(
    leased: LeasedRun,
    { namespace, taskQueue, log }: { readonly namespace: string; readonly taskQueue: string; readonly log: Logger },
  ) {
    const createdAt = leased.createdAt === undefined ? new Date(0) : dateOf(leased.createdAt);
    const startedAt = leased.startedAt === undefined ? createdAt : dateOf(leased.startedAt);
    this.#log = log;
    this.#now = startedAt;
    this.run = Object.freeze({
      runId: leased.runId,
      workflowId: leased.workflowId,
      workflowType: leased.workflowType,
      namespace,
      taskQueue,
      build: leased.build,
      attempt: leased.attempt,
      createdAt,
      startedAt,
    });
  }

  /** Names the run in every line. Created on first use. */
  get log(): Logger {
    const { runId, workflowId, workflowType } = this.run;
    this.#child ??= this.#log.child({ runId, workflowId, workflowType });
    return this.#child;
  }

  /** The workflow's clock: the time of the latest result. */
  get now(): Date {
    return this.#now;
  }

  advanceClock(time: Date): void {
    if (time > this.#now) this.#now = time;
  }
}
