/**
 * Gives runs back before they have ended; any worker may claim them at once or after a delay. Nothing is counted against the run:
 * workers do this when they stop or lack the code. Open attempts are closed and retried. The reason that the worker gives is kept,
 * for people who want to know why the run does not move.
 *
 * Lost leases stay counted, unless a step was completed since: a release by a deploy does not reset them.
 */
import type { ReleaseRun, ReleaseRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

const RELEASE_RUNS = defineStatement(
  'release_runs',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[])
      with ordinality as t(run_id, namespace, lease_token, delay_ms, reason, ord)
  ),
  judged as (
    select c.*, l.task_queue,
      case
        when l.namespace = c.namespace and l.lease_token = c.lease_token and l.yield_reason = 'RELEASE'
          and l.status in ('SLEEPING', 'PENDING') then 'already_released'
        else coalesce(${FENCE_VERDICT}, 'release')
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  released as (
    update perdure.workflow_runs r
    set status = case when j.delay_ms > 0 then 'SLEEPING' else 'PENDING' end,
      available_at = case when j.delay_ms > 0 then null else perdure.clock() end,
      wake_at = case when j.delay_ms > 0 then perdure.clock() + j.delay_ms * interval '1 ms' end,
      yield_reason = 'RELEASE', last_release_reason = nullif(j.reason, ''),
      lost_leases = case when r.lost_leases > 0 and exists (
        select 1 from perdure.step_runs s
        where s.run_id = r.run_id and s.lease_token = r.lease_token and s.status = 'COMPLETED' and s.attempt_key = 0
      ) then 0 else r.lost_leases end,
      leased_by = null, lease_expires_at = null, updated_at = perdure.clock()
    from judged j
    where j.verdict = 'release' and r.run_id = j.run_id
    returning r.run_id
  )
  select ord::int as ord, case when verdict = 'release' then 'released' else verdict end as verdict,
    coalesce(task_queue, '') as task_queue,
    case when verdict = 'release'
      then perdure.lose_open_steps(run_id, 'The worker that ran this attempt gave the run back.') end as closed
  from judged order by ord`,
);

interface Row extends VerdictRow {
  readonly task_queue: string;
}

/** @returns one outcome per command, in their order */
export function releaseRuns(db: Database, commands: readonly ReleaseRun[]): Promise<ReleaseRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(RELEASE_RUNS, [
        ...fenceParameters(round),
        plainArray(round, (command) => command.delayMs),
        textArray(round, (command) => command.reason),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): ReleaseRunOutcome {
  switch (row.verdict) {
    case 'released':
    case 'already_released':
      return { kind: row.verdict, taskQueue: row.task_queue };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('release_runs', row.verdict);
  }
}
