/**
 * Records the last result of a run with its end, COMPLETED: for a body that has ended before its beginning was sent, and after
 * whose result the code has returned. One commit instead of two.
 *
 * The fast path is a batch of first attempts, in runs that are neither paused nor being cancelled, with nothing else open: one plain
 * UPDATE that fences in its WHERE, and an INSERT of the steps of the runs that it ended. A step that exists already violates a unique
 * key, which undoes the statement. Whenever the statement did not write everything, each command is judged, in two statements: the step as by
 * {@link recordSteps}, and then, unless it was refused, the end as by {@link endRuns}. What the fast path has written is then found as
 * ended. A crash between the two statements leaves a recorded result in an open run.
 *
 * Races closed: those of the two transitions. There is no end without its step: one statement writes both.
 */
import type { EndRunWithStep, EndRunWithStepOutcome, Relatives } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { isUniqueViolation } from '../../database/errors.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceParameters } from '../parts/batch.js';
import { recordSteps } from '../steps/record-steps.js';
import { endRuns } from './end-runs.js';

/** `o` is the row before the update, for the worker that holds the lease. */
const COMPLETE_RUNS_WITH_STEP = defineStatement(
  'complete_runs_with_step',
  `with ended as (
    update perdure.workflow_runs r
    set status = 'COMPLETED', output = c.run_output, output_encoding = c.run_output_encoding, failure = null,
      compensation = nullif(r.compensation, 'COMPENSATING'),
      leased_by = null, lease_expires_at = null, finished_at = perdure.clock(), updated_at = perdure.clock()
    from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::int[], $8::int[],
        $9::bytea[], $10::text[], $11::int[], $12::bytea[], $13::text[])
      as c(run_id, namespace, lease_token, step_id, seq, kind, counted_attempt, max_counted_attempts, output, output_encoding,
        event_seq, run_output, run_output_encoding)
    join perdure.workflow_runs o on o.run_id = c.run_id and o.lease_token = c.lease_token
    where r.run_id = c.run_id and r.namespace = c.namespace and r.lease_token = c.lease_token and r.status = 'RUNNING'
      and r.cancel_requested_at is null and r.paused_at is null
    returning c.*, o.leased_by as worker_id, r.parent_run_id is not null as has_parent, r.has_children
  ),
  recorded as (
    insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
      lease_token, worker_id, started_at, finished_at, output, output_encoding, event_seq)
    select run_id, step_id, 1, seq, kind, 'COMPLETED', true, counted_attempt, max_counted_attempts,
      lease_token, worker_id, perdure.clock(), perdure.clock(), output, output_encoding, event_seq
    from ended
  ),
  untold as (
    insert into perdure.child_ends (child_id, ended_at) select run_id, perdure.clock() from ended where has_parent
    on conflict do nothing
  )
  select count(*)::int as written,
    jsonb_object_agg(run_id, jsonb_build_object('hasParent', has_parent, 'hasChildren', coalesce(has_children, false)))
      filter (where has_parent or has_children) as relatives
  from ended`,
);

interface Written {
  readonly written: number;
  /** By run id; null when nobody is affected, as nearly always. */
  readonly relatives: Readonly<Record<string, Relatives>> | null;
}

/** @returns one outcome per command, in their order */
export async function endRunsWithStep(
  db: Database,
  commands: readonly EndRunWithStep[],
): Promise<EndRunWithStepOutcome[]> {
  const { written, relatives } = isFastPath(commands) ? await completeRuns(db, commands) : NOTHING;
  const endedOf = ({ end: { runId } }: EndRunWithStep): EndRunWithStepOutcome => {
    const found = relatives?.[runId];
    return found === undefined ? ENDED : { kind: 'ended', relatives: found };
  };
  if (written === commands.length) return commands.map(endedOf);
  const judged = await judge(db, commands);
  return commands.map((command, index) =>
    relatives?.[command.end.runId] === undefined ? (judged[index] as EndRunWithStepOutcome) : endedOf(command),
  );
}

async function judge(db: Database, commands: readonly EndRunWithStep[]): Promise<EndRunWithStepOutcome[]> {
  const recorded = await recordSteps(
    db,
    commands.map(({ step }) => step),
  );
  // A run that has ended with this step is no longer leased: whether it has, the end finds out.
  const mayEnd = recorded.map(
    ({ kind }) => kind === 'recorded' || kind === 'already_recorded' || kind === 'lease_lost',
  );
  const ended = await endRuns(
    db,
    commands.filter((_, index) => mayEnd[index]).map(({ end }) => end),
  );
  let next = 0;
  return recorded.map((outcome, index) => (mayEnd[index] ? ended[next++] : outcome) as EndRunWithStepOutcome);
}

const ENDED: EndRunWithStepOutcome = { kind: 'ended' };
const NOTHING: Written = { written: 0, relatives: null };

/** Two commands of one run, a repeat for example, are judged. */
function isFastPath(commands: readonly EndRunWithStep[]): boolean {
  return (
    commands.every(({ step, end }) => step.attemptNumber === 1 && !end.hasOpenSteps) &&
    new Set(commands.map(({ step }) => step.runId)).size === commands.length
  );
}

async function completeRuns(db: Database, commands: readonly EndRunWithStep[]): Promise<Written> {
  // In the order in which every other statement locks runs.
  const sorted = [...commands].sort((a, b) => (a.end.runId < b.end.runId ? -1 : 1));
  const steps = sorted.map(({ step }) => step);
  try {
    const [row] = await db.query<Written>(COMPLETE_RUNS_WITH_STEP, [
      ...fenceParameters(steps),
      textArray(steps, (step) => step.stepId),
      plainArray(steps, (step) => step.seq),
      plainArray(steps, (step) => step.stepKind),
      plainArray(steps, (step) => step.countedAttempt),
      plainArray(steps, (step) => step.maxCountedAttempts),
      byteaArray(steps, (step) => step.output?.data),
      textArray(steps, (step) => step.output?.encoding),
      plainArray(steps, (step) => step.eventSeq),
      byteaArray(sorted, ({ end }) => end.output?.data),
      textArray(sorted, ({ end }) => end.output?.encoding),
    ]);
    return row ?? NOTHING;
  } catch (error) {
    if (isUniqueViolation(error)) return NOTHING;
    throw error;
  }
}
