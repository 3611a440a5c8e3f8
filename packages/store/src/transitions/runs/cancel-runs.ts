/**
 * Requests that runs are cancelled.
 *
 * A run that was never claimed has nothing to clean up and becomes CANCELLED here. For any other run the request is recorded: a
 * sleeping run becomes claimable at once, and its code sees the cancel when a worker continues it; the worker of a running one learns
 * of it from the answers to its calls. Once this is acknowledged no new step begins, because beginning a step locks the same row.
 * Of a paused run the request is recorded too, and takes effect when the run is resumed. A second request changes nothing; a run that ended in another way is refused.
 */
import type { CancelRun, CancelRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { RunStatus } from '../../model.js';
import { shownStatus } from '../../reads/run-pauses.js';
import { holderOf, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { type RelativesRow, relativesOf } from '../parts/relatives.js';

const CANCEL_RUNS = defineStatement(
  'cancel_runs',
  `with locked as materialized (
    select r.run_id, r.namespace, ${shownStatus('r')} as status, r.started_at, r.cancel_requested_at, r.task_queue, r.leased_by, r.lease_token
    from perdure.workflow_runs r
    where r.run_id = any($1::uuid[])
    order by r.run_id
    for no key update
  ),
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as t(run_id, namespace, reason, ord)
  ),
  judged as (
    select c.*, l.status, l.task_queue, l.leased_by, l.lease_token,
      case
        when l.run_id is null or l.namespace <> c.namespace then 'run_not_found'
        when l.status = 'CANCELLED' then 'already_requested'
        when l.status in ('COMPLETED', 'FAILED', 'TERMINATED', 'CONTINUED') then 'wrong_state'
        when l.cancel_requested_at is not null then 'already_requested'
        when l.started_at is null then 'cancelled'
        else 'requested'
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  changed as (
    update perdure.workflow_runs r
    set cancel_requested_at = perdure.clock(), cancel_reason = j.reason, updated_at = perdure.clock(),
      status = case when j.verdict = 'cancelled' then 'CANCELLED' when r.status = 'RUNNING' then 'RUNNING' else 'PENDING' end,
      finished_at = case when j.verdict = 'cancelled' then perdure.clock() end,
      available_at = case
        when j.verdict = 'cancelled' or r.status = 'RUNNING' then null
        else coalesce(r.available_at, perdure.clock()) end,
      wake_at = null, waits = null
    from judged j
    where j.verdict in ('cancelled', 'requested') and r.run_id = j.run_id
    returning r.run_id, ${shownStatus('r')} as status, r.parent_run_id is not null and r.finished_at is not null as has_parent,
      r.has_children is not null and r.finished_at is not null as has_children
  ),
  untold as (
    insert into perdure.child_ends (child_id, ended_at) select run_id, perdure.clock() from changed where has_parent
    on conflict do nothing
  )
  select j.ord::int as ord, j.verdict, coalesce(c.status, j.status) as status, coalesce(j.task_queue, '') as task_queue,
    j.leased_by, j.lease_token, c.has_parent, c.has_children
  from judged j
  left join changed c on c.run_id = j.run_id
  order by j.ord`,
);

interface Row extends VerdictRow, RelativesRow {
  readonly status: RunStatus;
  readonly task_queue: string;
  readonly leased_by: string | null;
  readonly lease_token: number;
}

/** @returns one outcome per command, in their order; `status` is the one the run has now */
export function cancelRuns(db: Database, commands: readonly CancelRun[]): Promise<CancelRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(CANCEL_RUNS, [
        plainArray(round, (command) => command.runId),
        textArray(round, (command) => command.namespace),
        textArray(round, (command) => command.reason),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): CancelRunOutcome {
  switch (row.verdict) {
    case 'run_not_found':
      return { kind: 'run_not_found' };
    case 'wrong_state':
      return { kind: 'wrong_state', status: row.status };
    case 'cancelled':
    case 'requested':
    case 'already_requested':
      return {
        kind: row.verdict,
        status: row.status,
        taskQueue: row.task_queue,
        holder: holderOf(row),
        ...relativesOf(row),
      };
    default:
      return unknownVerdict('cancel_runs', row.verdict);
  }
}
