/**
 * Starts durable timers. A timer is a step of kind SLEEP whose one attempt is open until it fires.
 *
 * A repeat, also by a later lease that replays the code, is answered with the time of the first call; a timer is never moved. Only
 * a timer that a run-level retry has cut is scheduled again, as the step's next attempt.
 */
import type { ScheduleSleep, ScheduleSleepOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray, timestampArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { StepKind } from '../../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { latestAttempt, replaceLatest } from '../parts/recorded.js';

const SCHEDULE_SLEEPS = defineStatement(
  'schedule_sleeps',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::float8[], $7::timestamptz[], $8::boolean[], $9::int[])
      with ordinality as t(run_id, namespace, lease_token, step_id, seq, duration_ms, until, uncancellable, attempt_number, ord)
  ),
  judged as (
    select c.*, l.leased_by, p.kind as recorded_kind, p.seq as recorded_seq, p.fires_at as recorded_fires_at,
      p.attempt_number as previous, coalesce(p.status, 'none') as recorded_status,
      coalesce(${FENCE_VERDICT}, case
        when not p.is_cut and (p.kind <> 'SLEEP' or p.seq <> c.seq) then 'step_mismatch'
        when not p.is_cut then 'already_scheduled'
        when l.paused_at is not null then 'paused'
        when l.cancel_requested_at is not null and not c.uncancellable then 'cancel_requested'
        when c.attempt_number <> coalesce(p.attempt_number, 0) + 1 then 'wrong_attempt'
        else 'schedule'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    ${latestAttempt('p')}
  ),
  ${replaceLatest('schedule')},
  scheduled as (
    insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
      lease_token, worker_id, started_at, fires_at)
    select j.run_id, j.step_id, j.attempt_number, j.seq, 'SLEEP', 'RUNNING', true, 1, 1, j.lease_token, j.leased_by, perdure.clock(),
      coalesce(j.until, perdure.clock() + j.duration_ms * interval '1 ms')
    from judged j
    -- Reading the count makes the insert wait for the update: both touch the same unique index.
    where j.verdict = 'schedule' and (select count(*) from replaced) >= 0
    on conflict do nothing
    returning run_id, step_id, fires_at
  )
  select j.ord::int as ord,
    case when j.verdict = 'schedule' then case when d.run_id is null then 'raced' else 'scheduled' end else j.verdict end as verdict,
    coalesce(d.fires_at, j.recorded_fires_at) as fires_at, j.recorded_kind, j.recorded_seq, j.recorded_status,
    case when d.run_id is null then coalesce(j.previous, 0) else j.attempt_number end as attempt_number,
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
  readonly recorded_status: string;
  readonly attempt_number: number;
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
        plainArray(round, (command) => command.attemptNumber),
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
      return {
        kind: row.verdict,
        firesAt: row.fires_at,
        remainingMs: row.remaining_ms,
        attemptNumber: row.attempt_number,
      };
    case 'wrong_attempt':
      return { kind: 'wrong_attempt', latestAttempt: row.attempt_number, latestStatus: row.recorded_status };
    case 'cancel_requested':
    case 'paused':
      return { kind: row.verdict };
    case 'step_mismatch':
      return { kind: 'step_mismatch', recordedKind: row.recorded_kind, recordedSeq: row.recorded_seq };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('schedule_sleeps', row.verdict);
  }
}
