/**
 * Forks runs: starts a run from a step of another one. The steps before it keep their outcomes and are not executed again; it and what follows are. The
 * fork knows its origin, and the origin knows who has forked it; nothing else of the origin changes, so it may be open. The SQL is the function
 * `perdure.fork_run`.
 *
 * Large payloads are not copied: the fork names the attempts that have them (decision 0030).
 *
 * Races closed: the worker of the origin and a cut of its memo (the lock of the origin), a start of the same workflow id (the unique index of open
 * runs), a repeat of the call (the lock of the origin), and the deletion of any run whose payloads are used (all of them are locked and changed, so a
 * deletion that has waited judges again). Each fork is a statement of its own: it may wait for a start while it holds these locks.
 */
import type { RunAction, WrongRunState } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { defineStatement } from '../../database/statement.js';
import type { Payload, QueueRef, RunStatus } from '../../model.js';
import { forkIdOf } from '../../run-id.js';
import { unknownVerdict } from '../parts/batch.js';

export interface ForkRun extends RunAction {
  /** The first step that is executed again. */
  readonly stepId: string;
  /** Of the fork; null: one is made. */
  readonly workflowId: string | null;
  /** Null: that of the origin. */
  readonly input: { readonly value: Payload | null } | null;
}
export type ForkRunOutcome =
  | { readonly kind: 'run_not_found' | 'step_not_found' }
  /** What the run has done is undone. */
  | WrongRunState
  /** An open run has the workflow id. */
  | { readonly kind: 'workflow_id_taken'; readonly runId: string; readonly workflowId: string }
  | {
      readonly kind: 'forked';
      readonly runId: string;
      readonly workflowId: string;
      readonly keptSteps: number;
      readonly queue: QueueRef;
      readonly workflowType: string;
      /** Null: the fork has no run timeout. */
      readonly expiresInMs: number | null;
    }
  /** By an earlier call with the same request id. */
  | {
      readonly kind: 'already_forked';
      readonly runId: string;
      readonly workflowId: string;
      readonly keptSteps: number;
    };

const FORK_RUN = defineStatement(
  'fork_run',
  `select * from perdure.fork_run($1::uuid, $2::text, $3::text, $4::uuid, $5::text, $6::boolean, $7::bytea, $8::text, $9::text, $10::text,
    $11::text)`,
);

interface Row {
  readonly verdict: string;
  readonly run_status: RunStatus;
  readonly new_run_id: string | null;
  readonly workflow_id: string;
  readonly kept_steps: number;
  readonly task_queue: string;
  readonly workflow_type: string;
  readonly expires_in_ms: number | null;
}

/** @returns one outcome per command, in their order */
export async function forkRuns(db: Database, commands: readonly ForkRun[]): Promise<ForkRunOutcome[]> {
  const outcomes: ForkRunOutcome[] = [];
  for (const command of commands) {
    let outcome: ForkRunOutcome | 'raced';
    do outcome = await forkRun(db, command);
    while (outcome === 'raced');
    outcomes.push(outcome);
  }
  return outcomes;
}

async function forkRun(db: Database, command: ForkRun): Promise<ForkRunOutcome | 'raced'> {
  const { runId, namespace, stepId, workflowId, input, actor, reason, requestId } = command;
  const [row] = await db.query<Row>(FORK_RUN, [
    runId,
    namespace,
    stepId,
    forkIdOf(runId),
    workflowId,
    input !== null,
    input?.value?.data ?? null,
    input?.value?.encoding ?? null,
    actor,
    reason,
    requestId,
  ]);
  return outcomeOf(command, row as Row);
}

function outcomeOf({ namespace }: ForkRun, row: Row): ForkRunOutcome | 'raced' {
  const { new_run_id: runId, workflow_id: workflowId, kept_steps: keptSteps } = row;
  switch (row.verdict) {
    case 'run_not_found':
    case 'step_not_found':
      return { kind: row.verdict };
    case 'wrong_state':
      return { kind: 'wrong_state', status: row.run_status };
    case 'workflow_id_taken':
      // The other run has ended meanwhile, or the run id was taken.
      return runId === null ? 'raced' : { kind: 'workflow_id_taken', runId, workflowId };
    case 'already_forked':
      return { kind: 'already_forked', runId: runId ?? '', workflowId, keptSteps };
    case 'forked':
      return {
        kind: 'forked',
        runId: runId ?? '',
        workflowId,
        keptSteps,
        queue: { namespace, taskQueue: row.task_queue },
        workflowType: row.workflow_type,
        expiresInMs: row.expires_in_ms,
      };
    default:
      return unknownVerdict('fork_run', row.verdict);
  }
}
