/**
 * Pauses runs: once this is acknowledged none of them is claimed, and no step of them begins.
 *
 * A pause is kept beside the status (decision 0026), so a waiting run is woken as always: timers fire, messages arrive, ends of children are
 * told, and the run that is PENDING then stays where no claim looks. A run that is leased stays leased until its worker gives it back: bodies
 * under way end and are recorded. A second pause changes nothing; an ended run is refused.
 *
 * Races closed: claims and writes of steps lock the same row and read the pause from the locked version, so each is before the pause
 * or refused.
 */
import type { RunHolder } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { RunStatus } from '../../model.js';
import { shownStatus } from '../../reads/run-pauses.js';
import { holderOf, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

export interface PauseRun {
  readonly namespace: string;
  readonly runId: string;
  readonly reason: string;
  /** Who, for people. */
  readonly by: string;
}
export type PauseRunOutcome =
  | { readonly kind: 'run_not_found' }
  | { readonly kind: 'run_closed'; readonly status: RunStatus }
  /** `status`: RUNNING until the worker `holder` gives it back, else PAUSED. */
  | {
      readonly kind: 'paused' | 'already_paused';
      readonly status: RunStatus;
      readonly holder: RunHolder | null;
    };

const PAUSE_RUNS = defineStatement(
  'pause_runs',
  `with locked as materialized (
    select r.run_id, r.namespace, r.status, r.paused_at, r.finished_at, r.leased_by, r.lease_token
    from perdure.workflow_runs r
    where r.run_id = any($1::uuid[])
    order by r.run_id
    for no key update
  ),
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) with ordinality as t(run_id, namespace, reason, paused_by, ord)
  ),
  judged as (
    select c.*, l.status, l.leased_by, l.lease_token,
      case
        when l.run_id is null or l.namespace <> c.namespace then 'run_not_found'
        when l.finished_at is not null then 'run_closed'
        when l.paused_at is not null then 'already_paused'
        else 'paused'
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  changed as (
    update perdure.workflow_runs r
    set paused_at = perdure.clock(), updated_at = perdure.clock()
    from judged j
    where j.verdict = 'paused' and r.run_id = j.run_id
    returning r.run_id, ${shownStatus('r')} as status
  )
  select j.ord::int as ord, j.verdict, j.leased_by, j.lease_token,
    coalesce(c.status, case when j.verdict = 'already_paused' and j.status <> 'RUNNING' then 'PAUSED' else j.status end) as status,
    case when j.verdict = 'paused' then perdure.begin_pause(j.run_id, j.paused_by, j.reason) end as begun
  from judged j left join changed c on c.run_id = j.run_id order by j.ord`,
);

interface Row extends VerdictRow {
  readonly status: RunStatus;
  readonly leased_by: string | null;
  readonly lease_token: number;
}

/** @returns one outcome per command, in their order */
export function pauseRuns(db: Database, commands: readonly PauseRun[]): Promise<PauseRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(PAUSE_RUNS, [
        plainArray(round, (command) => command.runId),
        textArray(round, (command) => command.namespace),
        textArray(round, (command) => command.reason),
        textArray(round, (command) => command.by),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): PauseRunOutcome {
  switch (row.verdict) {
    case 'run_not_found':
      return { kind: 'run_not_found' };
    case 'run_closed':
      return { kind: 'run_closed', status: row.status };
    case 'paused':
    case 'already_paused':
      return { kind: row.verdict, status: row.status, holder: holderOf(row) };
    default:
      return unknownVerdict('pause_runs', row.verdict);
  }
}
