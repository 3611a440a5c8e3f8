/**
 * Keeps the details that running bodies report, so that a later attempt can continue from there. Fenced like every write; a detail
 * for an attempt that is no longer open is ignored, because the renewal already answers for the lease.
 */
import type { RecordStepHeartbeat, RecordStepHeartbeatOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceParameters, inRounds, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

const RECORD_STEP_HEARTBEATS = defineStatement(
  'record_step_heartbeats',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::bytea[], $7::text[])
      with ordinality as t(run_id, namespace, lease_token, step_id, attempt_number, detail, detail_encoding, ord)
  ),
  judged as (
    select c.*, coalesce(${FENCE_VERDICT}, 'record') as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  recorded as (
    update perdure.step_runs s
    set heartbeat = j.detail, heartbeat_encoding = j.detail_encoding
    from judged j
    where j.verdict = 'record' and s.run_id = j.run_id and s.step_id = j.step_id
      and s.attempt_number = j.attempt_number and s.status = 'RUNNING' and s.lease_token = j.lease_token
    returning s.run_id, s.step_id
  )
  select j.ord::int as ord, case when r.run_id is null then 'ignored' else 'recorded' end as verdict
  from judged j
  left join recorded r on r.run_id = j.run_id and r.step_id = j.step_id
  order by j.ord`,
);

/** @returns one outcome per command, in their order */
export function recordStepHeartbeats(
  db: Database,
  commands: readonly RecordStepHeartbeat[],
): Promise<RecordStepHeartbeatOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<VerdictRow>(RECORD_STEP_HEARTBEATS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        plainArray(round, (command) => command.attemptNumber),
        byteaArray(round, (command) => command.detail.data),
        textArray(round, (command) => command.detail.encoding),
      ]);
      return rows.map((row) => ({ kind: row.verdict === 'recorded' ? 'recorded' : 'ignored' }));
    },
  );
}
