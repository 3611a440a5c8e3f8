/** Reads the state that the code of a run has set last. */
import type { Reader } from '../database/database.js';
import { payloadOf } from '../database/payload-columns.js';
import { defineStatement } from '../database/statement.js';
import type { Payload } from '../model.js';

const READ_RUN_STATE = defineStatement(
  'read_run_state',
  `select s.payload, s.payload_encoding, s.updated_at
  from perdure.workflow_runs r
  left join perdure.run_states s on s.run_id = r.run_id
  where r.run_id = $1::uuid and r.namespace = $2`,
);

export interface RunState {
  readonly value: Payload | null;
  /** Null: the code has set none. */
  readonly updatedAt: Date | null;
}

/** @returns null when there is no such run */
export async function readRunState(
  db: Reader,
  { namespace, runId }: { readonly namespace: string; readonly runId: string },
): Promise<RunState | null> {
  const [row] = await db.query<{
    payload: Uint8Array | null;
    payload_encoding: string | null;
    updated_at: Date | null;
  }>(READ_RUN_STATE, [runId, namespace]);
  return row === undefined ? null : { value: payloadOf(row.payload, row.payload_encoding), updatedAt: row.updated_at };
}
