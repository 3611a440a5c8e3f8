/**
 * Records the final outcome of steps without executing their bodies: steps that a cancel request ends, begun or not; steps whose
 * recorded failure (lost with the worker, or timed out) the retry policy makes final; and steps whose outcome a run-level retry has
 * taken back and whose body must not be executed again: the outcome is delivered again at a new place.
 *
 * An outcome must be recorded, with its place in the order of results, before it is delivered to the code: otherwise a replay could
 * deliver another outcome, or another order.
 *
 * A repeat under the same lease and with the same place is answered with the recorded time. An attempt whose body is running
 * under this lease is refused: CompleteStep or FailStep records its outcome.
 *
 * Races closed: a replaced lease (fence); another outcome of the same step (the update repeats the status; the loser is
 * judged again).
 */
import type { SettleStep, SettleStepOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { StepKind } from '../../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { IS_MISMATCH, latestAttempt, replaceLatest } from '../parts/recorded.js';
import { markCuts } from '../parts/relatives.js';

const SETTLE_STEPS = defineStatement(
  'settle_steps',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::int[], $8::text[], $9::int[])
      with ordinality as t(run_id, namespace, lease_token, step_id, seq, kind, attempt_number, status, event_seq, ord)
  ),
  judged as (
    select c.*, l.leased_by, p.kind as recorded_kind, p.seq as recorded_seq, p.status as recorded_status,
      p.attempt_number as previous, p.finished_at as recorded_finished_at,
      coalesce(${FENCE_VERDICT}, case
        when c.status = 'CANCELLED' and l.cancel_requested_at is null then 'cancel_not_requested'
        when ${IS_MISMATCH} then 'step_mismatch'
        when p.status = c.status and p.lease_token = c.lease_token and p.event_seq = c.event_seq then 'already_settled'
        when p.is_arrived and c.status in ('CANCELLED', 'FAILED') then 'arrived'
        when c.attempt_number <> coalesce(p.attempt_number, 0) then 'wrong_attempt'
        when (p.run_id is null or p.is_cut) and c.status = 'CANCELLED' then 'insert'
        when p.is_cut then case when p.status = c.status and p.kind = c.kind then 'adopt' else 'wrong_attempt' end
        when p.run_id is null or c.status = 'COMPLETED' then 'wrong_attempt'
        when p.status = 'FAILED' and p.next_retry_at is not null then 'settle'
        when p.status = 'RUNNING' and (p.kind = 'SLEEP' or p.awaits is not null) then
          case when c.status = 'CANCELLED' then 'settle' else 'wrong_attempt' end
        when p.status = 'RUNNING' and p.lease_token < c.lease_token then 'settle'
        else 'wrong_attempt'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    ${latestAttempt('p')}
  ),
  ${replaceLatest('insert')},
  inserted as (
    insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
      lease_token, worker_id, started_at, finished_at, fires_at, event_seq)
    select j.run_id, j.step_id, coalesce(j.previous, 0) + 1, j.seq, j.kind, 'CANCELLED', true, 1, 0, j.lease_token, j.leased_by,
      perdure.clock(), perdure.clock(), case when j.kind = 'SLEEP' then perdure.clock() end, j.event_seq
    from judged j
    -- Reading the count makes the insert wait for the update: both touch the same unique index.
    where j.verdict = 'insert' and (select count(*) from replaced) >= 0
    on conflict do nothing
    returning run_id, step_id, finished_at
  ),
  settled as (
    update perdure.step_runs s
    set status = j.status, is_cut = false, seq = j.seq, lease_token = j.lease_token, event_seq = j.event_seq,
      next_retry_at = null, deadline_at = null,
      finished_at = coalesce(s.finished_at, perdure.clock()),
      failure = coalesce(s.failure, case when j.status = 'FAILED' then '{"type":"WorkerLostError","reason":"WORKER_LOST",
        "message":"The worker that ran this attempt was lost."}'::jsonb end)
    from judged j
    where j.verdict in ('settle', 'adopt') and s.run_id = j.run_id and s.step_id = j.step_id and s.attempt_key = 0
      and s.attempt_number = j.attempt_number and s.status = j.recorded_status
    returning s.run_id, s.step_id, s.finished_at, s.kind
  ),
  ${markCuts("select s.run_id from settled s where s.kind = 'CHILD'")},
  written as (select * from inserted union all select run_id, step_id, finished_at from settled)
  select j.ord::int as ord,
    case when j.verdict in ('insert', 'settle', 'adopt')
      then case when w.run_id is null then 'raced' else 'settled' end else j.verdict end as verdict,
    coalesce(w.finished_at, j.recorded_finished_at) as finished_at, j.recorded_kind, j.recorded_seq,
    coalesce(j.previous, 0) as latest_attempt, coalesce(j.recorded_status, 'none') as latest_status
  from judged j
  left join written w on w.run_id = j.run_id and w.step_id = j.step_id
  order by j.ord`,
);

interface Row extends VerdictRow {
  readonly finished_at: Date;
  readonly recorded_kind: StepKind;
  readonly recorded_seq: number;
  readonly latest_attempt: number;
  readonly latest_status: string;
}

/** @returns one outcome per command, in their order */
export function settleSteps(db: Database, commands: readonly SettleStep[]): Promise<SettleStepOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<Row>(SETTLE_STEPS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        plainArray(round, (command) => command.seq),
        plainArray(round, (command) => command.stepKind),
        plainArray(round, (command) => command.attemptNumber),
        plainArray(round, (command) => command.status),
        plainArray(round, (command) => command.eventSeq),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): SettleStepOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
      return 'raced';
    case 'settled':
    case 'already_settled':
      return { kind: row.verdict, finishedAt: row.finished_at };
    case 'arrived':
    case 'cancel_not_requested':
      return { kind: row.verdict };
    case 'step_mismatch':
      return { kind: 'step_mismatch', recordedKind: row.recorded_kind, recordedSeq: row.recorded_seq };
    case 'wrong_attempt':
      return { kind: 'wrong_attempt', latestAttempt: row.latest_attempt, latestStatus: row.latest_status };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('settle_steps', row.verdict);
  }
}
