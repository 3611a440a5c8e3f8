/**
 * Ends runs at once, even leased ones; their worker learns it from LEASE_LOST. Open attempts and timers become CANCELLED. A second
 * termination changes nothing; a run that ended in another way is refused.
 *
 * Race closed: an attempt or timer that begins while this waits for the run's lock is not in this statement's snapshot.
 * `cancel_open_steps` reads with its own snapshot after the lock is taken, so it finds that one too.
 */
import type { TerminateRun, TerminateRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { jsonArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { RunStatus } from '../../model.js';
import { holderOf, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { type RelativesRow, relativesOf } from '../parts/relatives.js';

const TERMINATE_RUNS = defineStatement(
  'terminate_runs',
  `with locked as materialized (
    select r.run_id, r.namespace, r.status, r.leased_by, r.lease_token
    from perdure.workflow_runs r
    where r.run_id = any($1::uuid[])
    order by r.run_id
    for no key update
  ),
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::jsonb[]) with ordinality as t(run_id, namespace, failure, ord)
  ),
  judged as (
    select c.*, l.status, l.leased_by, l.lease_token,
      case
        when l.run_id is null or l.namespace <> c.namespace then 'run_not_found'
        when l.status = 'TERMINATED' then 'already_terminated'
        when l.status in ('COMPLETED', 'FAILED', 'CANCELLED', 'CONTINUED') then 'wrong_state'
        else 'terminated'
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  changed as (
    update perdure.workflow_runs r
    set status = 'TERMINATED', failure = j.failure, finished_at = perdure.clock(), updated_at = perdure.clock(),
      leased_by = null, lease_expires_at = null, available_at = null, wake_at = null, waits = null
    from judged j
    where j.verdict = 'terminated' and r.run_id = j.run_id
    returning r.run_id, r.parent_run_id is not null as has_parent, r.has_children
  ),
  untold as (
    insert into perdure.child_ends (child_id, ended_at) select run_id, perdure.clock() from changed where has_parent
    on conflict do nothing
  )
  select j.ord::int as ord, j.verdict, j.status, j.leased_by, j.lease_token, c.has_parent, c.has_children,
    case when j.verdict = 'terminated' then perdure.cancel_open_steps(j.run_id) end as closed
  from judged j left join changed c on c.run_id = j.run_id order by j.ord`,
);

interface Row extends VerdictRow, RelativesRow {
  readonly status: RunStatus;
  readonly leased_by: string | null;
  readonly lease_token: number;
}

/** @returns one outcome per command, in their order */
export function terminateRuns(db: Database, commands: readonly TerminateRun[]): Promise<TerminateRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(TERMINATE_RUNS, [
        plainArray(round, (command) => command.runId),
        textArray(round, (command) => command.namespace),
        jsonArray(round, (command) => ({
          type: 'WorkflowTerminatedError',
          reason: 'TERMINATED',
          message: command.reason === '' ? 'The run was terminated.' : `The run was terminated: ${command.reason}`,
        })),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): TerminateRunOutcome {
  switch (row.verdict) {
    case 'run_not_found':
    case 'already_terminated':
      return { kind: row.verdict };
    case 'terminated':
      return { kind: 'terminated', holder: holderOf(row), ...relativesOf(row) };
    case 'wrong_state':
      return { kind: 'wrong_state', status: row.status };
    default:
      return unknownVerdict('terminate_runs', row.verdict);
  }
}
