/**
 * Starts runs like others: same type, task queue, input and limits, from the start. The new run knows its origin, and the origin knows
 * who has restarted it. The SQL is the function `perdure.restart_run`. The origin may be open when the new run has another workflow id.
 *
 * Races closed: a start of the same workflow id (the unique index of open runs), deletion of the origin and a repeat of the call (the lock of
 * the origin). Each run is a statement of its own: it may wait for a start while it holds the lock of its origin only.
 */
import type { RestartRun, RestartRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { defineStatement } from '../../database/statement.js';
import { startIdentity } from '../../run-id.js';
import { unknownVerdict } from '../parts/batch.js';

const RESTART_RUN = defineStatement(
  'restart_run',
  // A failed run that was restarted is dealt with: the new run tells what comes of it.
  `with restarted as materialized (
    select * from perdure.restart_run($1::uuid, $2::text, $3::uuid, $4::text, $5::text, $6::text, $7::text)
  ),
  resolved as (
    update perdure.workflow_runs r set resolved_at = greatest(perdure.clock(), r.finished_at)
    from restarted t
    where t.verdict = 'restarted' and r.run_id = $1::uuid and r.status = 'FAILED'
  )
  select r.*, case when r.verdict = 'restarted' then perdure.renew_limits($1::uuid, r.new_run_id) end as limited from restarted r`,
);

interface Row {
  readonly verdict: string;
  readonly new_run_id: string | null;
  readonly workflow_id: string;
  readonly task_queue: string;
  readonly workflow_type: string;
  readonly expires_in_ms: number | null;
}

/** @returns one outcome per command, in their order */
export async function restartRuns(db: Database, commands: readonly RestartRun[]): Promise<RestartRunOutcome[]> {
  const outcomes: RestartRunOutcome[] = [];
  for (const command of commands) {
    let outcome: RestartRunOutcome | 'raced';
    do outcome = await restartRun(db, command);
    while (outcome === 'raced');
    outcomes.push(outcome);
  }
  return outcomes;
}

async function restartRun(db: Database, command: RestartRun): Promise<RestartRunOutcome | 'raced'> {
  const { runId, namespace, workflowId, actor, reason, requestId } = command;
  const { runId: newRunId } = startIdentity(namespace, '');
  const rows = await db.query<Row>(RESTART_RUN, [runId, namespace, newRunId, workflowId, actor, reason, requestId]);
  const row = rows[0] as Row;
  const id = row.new_run_id;
  switch (row.verdict) {
    case 'run_not_found':
      return { kind: 'run_not_found' };
    case 'workflow_id_taken':
      // The other run has ended meanwhile.
      return id === null ? 'raced' : { kind: 'workflow_id_taken', runId: id, workflowId: row.workflow_id };
    case 'already_restarted':
      return { kind: 'already_restarted', runId: id ?? '', workflowId: row.workflow_id };
    case 'restarted':
      return {
        kind: 'restarted',
        runId: id ?? '',
        workflowId: row.workflow_id,
        queue: { namespace, taskQueue: row.task_queue },
        workflowType: row.workflow_type,
        expiresInMs: row.expires_in_ms,
      };
    default:
      return unknownVerdict('restart_run', row.verdict);
  }
}
