/**
 * Resumes paused runs: each is what it would be without the pause, claimable if it was woken meanwhile. A cancel that was requested
 * during the pause takes effect. Resuming a run that is not paused changes nothing; an ended run is refused.
 *
 * A worker that still holds a run whose pause it has heard of gives it back all the same; it is claimable then.
 */
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { QueueRef, RunStatus } from '../../model.js';
import { inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

export interface ResumeRun {
  readonly namespace: string;
  readonly runId: string;
  /** Who, for people. */
  readonly by: string;
}
export type ResumeRunOutcome =
  | { readonly kind: 'run_not_found' }
  | { readonly kind: 'run_closed'; readonly status: RunStatus }
  | { readonly kind: 'not_paused'; readonly status: RunStatus }
  /** `status`: what it has become. */
  | {
      readonly kind: 'resumed';
      readonly status: RunStatus;
      readonly queue: QueueRef;
      readonly workflowType: string;
    };

const RESUME_RUNS = defineStatement(
  'resume_runs',
  `with locked as materialized (
    select r.run_id, r.namespace, r.status, r.paused_at, r.finished_at, r.task_queue, r.workflow_type
    from perdure.workflow_runs r
    where r.run_id = any($1::uuid[])
    order by r.run_id
    for no key update
  ),
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as t(run_id, namespace, resumed_by, ord)
  ),
  judged as (
    select c.*, l.status, l.task_queue, l.workflow_type,
      case
        when l.run_id is null or l.namespace <> c.namespace then 'run_not_found'
        when l.finished_at is not null then 'run_closed'
        when l.paused_at is null then 'not_paused'
        else 'resumed'
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  changed as (
    update perdure.workflow_runs r
    set paused_at = null, updated_at = perdure.clock()
    from judged j
    where j.verdict = 'resumed' and r.run_id = j.run_id
  )
  select ord::int as ord, verdict, status, namespace, task_queue, workflow_type,
    case when verdict = 'resumed' then perdure.end_pause(run_id, resumed_by) end as ended
  from judged order by ord`,
);

interface Row extends VerdictRow {
  readonly status: RunStatus;
  readonly namespace: string;
  readonly task_queue: string;
  readonly workflow_type: string;
}

/** @returns one outcome per command, in their order */
export function resumeRuns(db: Database, commands: readonly ResumeRun[]): Promise<ResumeRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(RESUME_RUNS, [
        plainArray(round, (command) => command.runId),
        textArray(round, (command) => command.namespace),
        textArray(round, (command) => command.by),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): ResumeRunOutcome {
  switch (row.verdict) {
    case 'run_not_found':
      return { kind: 'run_not_found' };
    case 'run_closed':
    case 'not_paused':
      return { kind: row.verdict, status: row.status };
    case 'resumed':
      return {
        kind: 'resumed',
        status: row.status,
        queue: { namespace: row.namespace, taskQueue: row.task_queue },
        workflowType: row.workflow_type,
      };
    default:
      return unknownVerdict('resume_runs', row.verdict);
  }
}
