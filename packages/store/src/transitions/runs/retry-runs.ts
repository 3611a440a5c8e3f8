/**
 * Retries runs that have ended as FAILED, CANCELLED or TERMINATED: the same run continues, with its memo cut where it went wrong. Steps before
 * that keep their outcomes; what is cut stays in the history. The worker has sent the place with the end; see `perdure.retry_cut`
 * for runs that ended without their worker. The SQL is the function `perdure.retry_run`.
 *
 * A run that was compensated is refused: a retry would rely on what is undone. One that was compensated in part continues to be compensated: the
 * compensations that have failed are tried again, and nothing is cut.
 *
 * The cancel request is taken back, and a pause is over. Retries, lost leases and all timeouts count anew. Updates that no step had received are refused. A parent
 * has been told of the end before, and children are closed: a retried child is no longer awaited.
 *
 * Races closed: a start of the same workflow id (the unique index of open runs decides; starts with a reuse policy also wait for the
 * lock of the workflow id), deletion and a second retry (the lock of the run). Each run is a statement of its own: it may wait for
 * a start while it holds the lock of its run only.
 */
import type { RetryRun, RetryRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { defineStatement } from '../../database/statement.js';
import type { RunStatus } from '../../model.js';
import { closeChildren } from '../children/close-children.js';
import { tellParents } from '../children/tell-parents.js';
import { unknownVerdict } from '../parts/batch.js';

const RETRY_RUN = defineStatement(
  'retry_run',
  'select * from perdure.retry_run($1::uuid, $2::text, $3::text, $4::text, $5::text)',
);

interface Row {
  readonly verdict: string;
  readonly status: RunStatus;
  readonly task_queue: string;
  readonly workflow_type: string;
  readonly other_run_id: string | null;
  readonly expires_in_ms: number | null;
}

/** @returns one outcome per command, in their order */
export async function retryRuns(db: Database, commands: readonly RetryRun[]): Promise<RetryRunOutcome[]> {
  const outcomes: RetryRunOutcome[] = [];
  for (const command of commands) outcomes.push(await retryRun(db, command));
  return outcomes;
}

async function retryRun(db: Database, command: RetryRun): Promise<RetryRunOutcome> {
  const { runId, namespace, actor, reason, requestId } = command;
  for (;;) {
    const [row] = await db.query<Row>(RETRY_RUN, [runId, namespace, actor, reason, requestId]);
    const outcome = outcomeOf(command, row as Row);
    if (outcome === 'has_open_ends') {
      await tellParents(db, [runId]);
      await closeChildren(db, [runId]);
    } else if (outcome !== 'raced') return outcome;
  }
}

function outcomeOf({ namespace }: RetryRun, row: Row): RetryRunOutcome | 'has_open_ends' | 'raced' {
  switch (row.verdict) {
    case 'run_not_found':
      return { kind: 'run_not_found' };
    case 'wrong_state':
    case 'compensated':
    case 'already_retried':
      return { kind: row.verdict, status: row.status };
    case 'workflow_id_taken':
      // The other run has ended meanwhile.
      return row.other_run_id === null ? 'raced' : { kind: 'workflow_id_taken', runId: row.other_run_id };
    case 'has_open_ends':
      return 'has_open_ends';
    case 'retried':
      return {
        kind: 'retried',
        queue: { namespace, taskQueue: row.task_queue },
        workflowType: row.workflow_type,
        expiresInMs: row.expires_in_ms,
      };
    default:
      return unknownVerdict('retry_run', row.verdict);
  }
}
