/**
 * Pauses runs that their worker cannot continue, and gives them back: the code no longer fits what is recorded, or a value cannot be decoded.
 * Nothing of the run is lost or decided: when the cause is removed, a resume lets it continue. Open attempts are closed and retried; as with
 * a release, nothing is counted against the run.
 *
 * A run that somebody has paused meanwhile stays paused by them, and gets the failure. A repeat under the same lease is answered like the
 * first call until the run is resumed.
 */
import type { Database } from '../../database/database.js';
import { jsonArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { Failure, FenceOutcome, LeaseRef } from '../../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

export interface HoldRun extends LeaseRef {
  readonly failure: Failure;
}
export type HoldRunOutcome = FenceOutcome | { readonly kind: 'held' | 'already_held' };

const HOLD_RUNS = defineStatement(
  'hold_runs',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::jsonb[])
      with ordinality as t(run_id, namespace, lease_token, failure, ord)
  ),
  judged as (
    select c.*,
      case
        when l.namespace = c.namespace and l.lease_token = c.lease_token and l.yield_reason = 'HOLD' and l.status = 'PENDING'
          and l.paused_at is not null then 'already_held'
        else coalesce(${FENCE_VERDICT}, 'hold')
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  held as (
    update perdure.workflow_runs r
    set status = 'PENDING', available_at = perdure.clock(), paused_at = coalesce(r.paused_at, perdure.clock()), yield_reason = 'HOLD',
      leased_by = null, lease_expires_at = null, updated_at = perdure.clock()
    from judged j
    where j.verdict = 'hold' and r.run_id = j.run_id
  )
  select ord::int as ord, case when verdict = 'hold' then 'held' else verdict end as verdict,
    case when verdict = 'hold' then perdure.note_hold(run_id, failure) end as noted,
    case when verdict = 'hold' then perdure.lose_open_steps(run_id, 'The worker that ran this attempt gave the run back.') end as closed
  from judged order by ord`,
);

/** @returns one outcome per command, in their order */
export function holdRuns(db: Database, commands: readonly HoldRun[]): Promise<HoldRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<VerdictRow>(HOLD_RUNS, [
        ...fenceParameters(round),
        jsonArray(round, (command) => command.failure),
      ]);
      return rows.map(({ verdict }) => {
        if (verdict === 'held' || verdict === 'already_held') return { kind: verdict };
        return fenceOutcome(verdict) ?? unknownVerdict('hold_runs', verdict);
      });
    },
  );
}
