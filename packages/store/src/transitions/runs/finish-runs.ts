/**
 * Ends runs for the worker that holds them: COMPLETED, FAILED or CANCELLED.
 *
 * A terminal status never changes again, so the race of complete against cancel, terminate and timeout is decided by who
 * locks the row first; the fence turns all others away. CANCELLED needs a cancel that was asked for. A repeat of the same
 * end under the same lease answers like the first time.
 *
 * The usual end is COMPLETED with nothing open. Such commands are one plain UPDATE, which answers with how many rows it
 * changed; only when it changed fewer than there are commands are they judged one by one, and those that were changed are
 * then found as finished already. It takes the worker's word that nothing is open, because looking would read the whole
 * history: what a worker leaves open so stays open in the history of its run, and no sweep acts on it.
 */
import type { FinishRun, FinishRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, jsonArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

/** The fence is in the row's own condition, which is looked at again after waiting for a lock. */
const COMPLETE_RUNS = defineStatement(
  'complete_runs',
  `with finished as (
    update perdure.workflow_runs r
    set status = 'COMPLETED', output = c.output, output_encoding = c.output_encoding, failure = null,
      leased_by = null, lease_expires_at = null, finished_at = perdure.clock(), updated_at = perdure.clock()
    from unnest($1::uuid[], $2::text[], $3::int[], $4::bytea[], $5::text[])
      as c(run_id, namespace, lease_token, output, output_encoding)
    where r.run_id = c.run_id and r.namespace = c.namespace and r.lease_token = c.lease_token and r.status = 'RUNNING'
    returning 1
  )
  select count(*)::int as written from finished`,
);

const FINISH_RUNS = defineStatement(
  'finish_runs',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::bytea[], $6::text[], $7::jsonb[], $8::boolean[])
      with ordinality as t(run_id, namespace, lease_token, end_status, output, output_encoding, failure, has_open_steps, ord)
  ),
  judged as (
    select c.*,
      case
        when l.namespace = c.namespace and l.lease_token = c.lease_token and l.status = c.end_status then 'already_finished'
        else coalesce(${FENCE_VERDICT}, case
          when c.end_status = 'CANCELLED' and l.cancel_requested_at is null then 'cancel_not_requested'
          else 'finish'
        end)
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  finished as (
    update perdure.workflow_runs r
    set status = j.end_status, output = j.output, output_encoding = j.output_encoding, failure = j.failure,
      leased_by = null, lease_expires_at = null, finished_at = perdure.clock(), updated_at = perdure.clock()
    from judged j
    where j.verdict = 'finish' and r.run_id = j.run_id
    returning r.run_id
  )
  select ord::int as ord, case when verdict = 'finish' then 'finished' else verdict end as verdict,
    case when verdict = 'finish' and has_open_steps then perdure.cancel_open_steps(run_id) end as closed
  from judged order by ord`,
);

/** @returns one outcome per command, in their order */
export async function finishRuns(db: Database, commands: readonly FinishRun[]): Promise<FinishRunOutcome[]> {
  const usual = commands.filter(isUsual);
  const done = usual.length > 0 && (await completeRuns(db, usual));
  if (done && usual.length === commands.length) return commands.map(() => FINISHED);
  const others = done ? commands.filter((command) => !isUsual(command)) : commands;
  const judged = await judgeAndFinish(db, others);
  if (others === commands) return judged;
  let next = 0;
  return commands.map((command) => (isUsual(command) ? FINISHED : (judged[next++] as FinishRunOutcome)));
}

const FINISHED: FinishRunOutcome = { kind: 'finished' };

type UsualEnd = Extract<FinishRun, { end: 'COMPLETED' }>;

function isUsual(command: FinishRun): command is UsualEnd {
  return command.end === 'COMPLETED' && !command.hasOpenSteps;
}

/** @returns false when not all were written: some may be, and some may not */
async function completeRuns(db: Database, commands: readonly UsualEnd[]): Promise<boolean> {
  // In the order in which every other statement locks runs.
  const sorted = [...commands].sort((a, b) => (a.runId < b.runId ? -1 : 1));
  const [row] = await db.query<{ written: number }>(COMPLETE_RUNS, [
    ...fenceParameters(sorted),
    byteaArray(sorted, (command) => command.output?.data),
    textArray(sorted, (command) => command.output?.encoding),
  ]);
  return row?.written === commands.length;
}

function judgeAndFinish(db: Database, commands: readonly FinishRun[]): Promise<FinishRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<VerdictRow>(FINISH_RUNS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.end),
        byteaArray(round, (command) => (command.end === 'COMPLETED' ? command.output?.data : null)),
        textArray(round, (command) => (command.end === 'COMPLETED' ? command.output?.encoding : null)),
        jsonArray(round, (command) => (command.end === 'FAILED' ? command.failure : null)),
        plainArray(round, (command) => command.end !== 'COMPLETED' || command.hasOpenSteps),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: VerdictRow): FinishRunOutcome {
  switch (row.verdict) {
    case 'finished':
    case 'already_finished':
    case 'cancel_not_requested':
      return { kind: row.verdict };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('finish_runs', row.verdict);
  }
}
