/**
 * Records the place in the order of results at which a run's code learns of its cancel request.
 *
 * The first place stays: a later lease gets it with its claim and shows the request to the code at that place. From then on the run
 * may be suspended again, for clean-up that waits; before, a suspension is refused so that no cancel is missed.
 *
 * Races closed: a replaced lease (fence); the place and the fence are judged on the locked row.
 */
import type { ObserveCancel, ObserveCancelOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

const OBSERVE_CANCELS = defineStatement(
  'observe_cancels',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::int[])
      with ordinality as t(run_id, namespace, lease_token, event_seq, ord)
  ),
  judged as (
    select c.*,
      coalesce(${FENCE_VERDICT}, case
        when l.cancel_requested_at is null then 'cancel_not_requested'
        when l.cancel_observed then 'already_observed'
        else 'observed'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  observed as (
    update perdure.workflow_runs r
    set cancel_lease_token = j.lease_token, cancel_event_seq = j.event_seq, updated_at = perdure.clock()
    from judged j
    where j.verdict = 'observed' and r.run_id = j.run_id
    returning 1
  )
  select ord::int as ord, verdict from judged order by ord`,
);

/** @returns one outcome per command, in their order */
export function observeCancels(db: Database, commands: readonly ObserveCancel[]): Promise<ObserveCancelOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<VerdictRow>(OBSERVE_CANCELS, [
        ...fenceParameters(round),
        plainArray(round, (command) => command.eventSeq),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: VerdictRow): ObserveCancelOutcome {
  switch (row.verdict) {
    case 'observed':
    case 'already_observed':
    case 'cancel_not_requested':
      return { kind: row.verdict };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('observe_cancels', row.verdict);
  }
}
