/**
 * The code of runs has failed for good, or ended because of the cancel request: their compensations begin, for the workers that hold them.
 *
 * From then on every claim says so, and the decision stands whatever a later build of the code would decide. The timeouts of the run no longer
 * end it: half of the compensations is worse than late ones. A repeat changes nothing. The end of the run says what came of it.
 *
 * Races closed: a replaced lease, a terminate and a timeout (fence; all of them lock the run).
 */
import type { Database } from '../../database/database.js';
import { defineStatement } from '../../database/statement.js';
import type { FenceOutcome, LeaseRef } from '../../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

export type BeginCompensationOutcome = FenceOutcome | { readonly kind: 'compensating' };

const BEGIN_COMPENSATIONS = defineStatement(
  'begin_compensations',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[]) with ordinality as t(run_id, namespace, lease_token, ord)
  ),
  judged as (
    select c.*, coalesce(${FENCE_VERDICT}, 'compensating') as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  begun as (
    update perdure.workflow_runs r
    set compensation = 'COMPENSATING', run_deadline_at = null, execution_deadline_at = null, updated_at = perdure.clock()
    from judged j
    where j.verdict = 'compensating' and r.run_id = j.run_id and r.compensation is distinct from 'COMPENSATING'
    returning 1
  )
  select ord::int as ord, verdict from judged order by ord`,
);

/** @returns one outcome per command, in their order */
export function beginCompensations(db: Database, commands: readonly LeaseRef[]): Promise<BeginCompensationOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<VerdictRow>(BEGIN_COMPENSATIONS, fenceParameters(round));
      return rows.map(({ verdict }) =>
        verdict === 'compensating'
          ? { kind: 'compensating' }
          : (fenceOutcome(verdict) ?? unknownVerdict('begin_compensations', verdict)),
      );
    },
  );
}
