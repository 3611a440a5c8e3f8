/**
 * Sets the states of runs, for the workers that hold them: what readers outside see until the code sets another one.
 *
 * Races closed: a replaced lease (fence); a call that was delayed until after a later one, which its number tells. When the state is the
 * same as before, as after most replays, its bytes and its time stay.
 */
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { FenceOutcome, LeaseRef, Payload } from '../../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

export interface SetRunState extends LeaseRef {
  /** Null: the run has no state. */
  readonly state: Payload | null;
  /** Rises with each state of the lease. */
  readonly seq: number;
}
export type SetRunStateOutcome = FenceOutcome | { readonly kind: 'set' };

const SET_RUN_STATES = defineStatement(
  'set_run_states',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::bytea[], $5::text[], $6::int[])
      with ordinality as t(run_id, namespace, lease_token, payload, payload_encoding, seq, ord)
  ),
  judged as (
    select c.*, coalesce(${FENCE_VERDICT}, 'set') as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  stored as (
    insert into perdure.run_states as s (run_id, updated_at, place, payload, payload_encoding)
    select j.run_id, perdure.clock(), j.lease_token * 4294967296 + j.seq, j.payload, j.payload_encoding
    from judged j
    where j.verdict = 'set'
    on conflict (run_id) do update
    set place = excluded.place, payload_encoding = excluded.payload_encoding,
      payload = case when s.payload is distinct from excluded.payload then excluded.payload else s.payload end,
      updated_at = case when s.payload is distinct from excluded.payload or s.payload_encoding is distinct from excluded.payload_encoding
        then excluded.updated_at else s.updated_at end
    where s.place < excluded.place
    returning 1
  )
  select ord::int as ord, verdict from judged order by ord`,
);

/** @returns one outcome per command, in their order */
export function setRunStates(db: Database, commands: readonly SetRunState[]): Promise<SetRunStateOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<VerdictRow>(SET_RUN_STATES, [
        ...fenceParameters(round),
        byteaArray(round, (command) => command.state?.data),
        textArray(round, (command) => command.state?.encoding),
        plainArray(round, (command) => command.seq),
      ]);
      return rows.map(({ verdict }) =>
        verdict === 'set' ? { kind: 'set' } : (fenceOutcome(verdict) ?? unknownVerdict('set_run_states', verdict)),
      );
    },
  );
}
