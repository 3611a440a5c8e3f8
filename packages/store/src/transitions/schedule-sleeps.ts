/**
 * Starts durable timers. A timer is a step of kind SLEEP whose one attempt is open until it fires.
 *
 * A repeat - also by a later lease that replays the code - answers with the first one's time; the timer is never moved.
 */
import type { ScheduleSleep, ScheduleSleepOutcome } from '../commands.js';
import type { Database } from '../database/database.js';
import { plainArray, textArray, timestampArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { StepKind } from '../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from './batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from './fence.js';
import { latestAttempt } from './recorded.js';

const SCHEDULE_SLEEPS = defineStatement(
  'schedule_sleeps',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::float8[], $7::timestamptz[], $8::boolean[])
      with ordinality as t(run_id, namespace, lease_token, step_id, seq, duration_ms, until, uncancellable, ord)
  ),
  judged as (
    select c.*, l.locked_by, s.kind as recorded_kind, s.seq as recorded_seq, s.fires_at as recorded_fires_at,
      coalesce(${FENCE_VERDICT}, case
        when s.kind <> 'SLEEP' or s.seq <> c.seq then 'step_mismatch'
        when s.run_id is not null then 'already_scheduled'
        when l.cancel_requested_at is not null and not c.uncancellable then 'cancel_requested'
        else 'schedule'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    ${latestAttempt('s')}
  ),
  scheduled as (
    insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, try_number, max_tries,
      lease_token, worker_id, started_at, fires_at)
    select j.run_id, j.step_id, 1, j.seq, 'SLEEP', 'RUNNING', true, 1, 1, j.lease_token, j.locked_by, perdure.clock(),
      coalesce(j.until, perdure.clock() + j.duration_ms * interval '1 ms')
    from judged j
    where j.verdict = 'schedule'
    on conflict do nothing
    returning run_id, step_id, fires_at
  )
  select j.ord::int as ord,
    case when j.verdict = 'schedule' then case when d.run_id is null then 'raced' else 'scheduled' end else j.verdict end as verdict,
    coalesce(d.fires_at, j.recorded_fires_at) as fires_at, j.recorded_kind, j.recorded_seq,
    greatest(0, extract(epoch from coalesce(d.fires_at, j.recorded_fires_at) - perdure.clock()) * 1000)::float8 as remaining_ms
  from judged j
  left join scheduled d on d.run_id = j.run_id and d.step_id = j.step_id
  order by j.ord`,
);

interface Row extends VerdictRow {
  readonly fires_at: Date;
  readonly remaining_ms: number;
  readonly recorded_kind: StepKind;
  readonly recorded_seq: number;
}

/** @returns one outcome per command, in their order */
export function scheduleSleeps(db: Database, commands: readonly ScheduleSleep[]): Promise<ScheduleSleepOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<Row>(SCHEDULE_SLEEPS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        plainArray(round, (command) => command.seq),
        plainArray(round, (command) => command.durationMs),
        timestampArray(round, (command) => command.until),
        plainArray(round, (command) => command.uncancellable),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): ScheduleSleepOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
      return 'raced';
    case 'scheduled':
    case 'already_scheduled':
      return { kind: row.verdict, firesAt: row.fires_at, remainingMs: row.remaining_ms };
    case 'cancel_requested':
      return { kind: 'cancel_requested' };
    case 'step_mismatch':
      return { kind: 'step_mismatch', recordedKind: row.recorded_kind, recordedSeq: row.recorded_seq };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('schedule_sleeps', row.verdict);
  }
}
