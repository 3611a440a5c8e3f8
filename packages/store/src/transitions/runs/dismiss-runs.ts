/**
 * Dismisses FAILED runs: a person has dealt with them in another way, so they are dead letters no longer. They stay FAILED and may be retried.
 * It counts for this end only: a run that is retried and fails again is a dead letter again.
 *
 * A second dismissal changes nothing, nor does a repeat of the call.
 *
 * Race closed: a retry, and a failure after it. Whichever locks the row first is before the other; the time of the dismissal is never
 * before the end that it is about, although the statement may have begun before it.
 */
import type { DismissRun, DismissRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { RunStatus } from '../../model.js';
import { inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

const DISMISS_RUNS = defineStatement(
  'dismiss_runs',
  `with locked as materialized (
    select r.run_id, r.namespace, r.status, r.finished_at, r.resolved_at
    from perdure.workflow_runs r
    where r.run_id = any($1::uuid[])
    order by r.run_id
    for no key update
  ),
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
      with ordinality as t(run_id, namespace, actor, reason, request_id, ord)
  ),
  judged as materialized (
    select c.*, l.status,
      case
        when l.run_id is null or l.namespace <> c.namespace then 'run_not_found'
        when exists (select 1 from perdure.run_actions a where a.run_id = c.run_id and a.request_id = c.request_id)
          then 'already_dismissed'
        when l.status <> 'FAILED' then 'wrong_state'
        when l.resolved_at >= l.finished_at then 'already_dismissed'
        else 'dismissed'
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  changed as (
    update perdure.workflow_runs r
    set resolved_at = greatest(perdure.clock(), r.finished_at), updated_at = perdure.clock()
    from judged j
    where j.verdict = 'dismissed' and r.run_id = j.run_id
  )
  select ord::int as ord, verdict, status,
    case when verdict = 'dismissed' then perdure.note_action(run_id, 'DISMISS', actor, reason, request_id, null) end as noted
  from judged order by ord`,
);

interface Row extends VerdictRow {
  readonly status: RunStatus;
}

/** @returns one outcome per command, in their order */
export function dismissRuns(db: Database, commands: readonly DismissRun[]): Promise<DismissRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(DISMISS_RUNS, [
        plainArray(round, (command) => command.runId),
        textArray(round, (command) => command.namespace),
        textArray(round, (command) => command.actor),
        textArray(round, (command) => command.reason),
        textArray(round, (command) => command.requestId),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): DismissRunOutcome {
  switch (row.verdict) {
    case 'run_not_found':
    case 'dismissed':
    case 'already_dismissed':
      return { kind: row.verdict };
    case 'wrong_state':
      return { kind: 'wrong_state', status: row.status };
    default:
      return unknownVerdict('dismiss_runs', row.verdict);
  }
}
