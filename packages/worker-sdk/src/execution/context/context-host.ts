import type { StepKind } from '@perdure/proto';
import type { RunService } from '../../rpc/worker-transport.js';
import type { StepRef } from '../order/program.js';
import type { RunState } from '../report/run-state.js';
import type { Updates } from '../report/updates.js';
import type { StepHost } from '../step/step-host.js';

/** What the author's `ctx` needs of an execution. */
export interface ContextHost extends StepHost {
  readonly replaying: boolean;
  /** The code's clock: the database's time of the latest result. */
  readonly now: Date;
  readonly runService: RunService;
  readonly state: RunState;
  readonly updates: Updates;
  /**
   * Assigns id and place to the next use of a name, and compares it with what is recorded.
   *
   * @returns undefined when the call must never settle: the execution is over, or the run fails
   * @throws {Error} when the workflow's function has ended
   */
  open(name: string, kind: StepKind): StepRef | undefined;
}
