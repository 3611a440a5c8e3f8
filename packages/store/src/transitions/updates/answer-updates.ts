/**
 * Records what the code of a run answers to updates, for the worker that holds the run.
 *
 * An update has one answer, the first: a worker that is lost after it has answered is followed by one that carries the update out
 * again over the memo, and may answer again. The statement changes only updates that are not answered; one that loses this race is
 * judged again. The fence refuses every answer after the end of the run, so an update that is not answered then never will be.
 */
import type { Database } from '../../database/database.js';
import { byteaArray, jsonArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { FenceOutcome, LeaseRef } from '../../model.js';
import type { UpdateAnswer } from '../../reads/find-answers.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

export interface AnswerUpdate extends LeaseRef {
  /** The step that received it. */
  readonly stepId: string;
  readonly answer: UpdateAnswer;
}
export type AnswerUpdateOutcome =
  | FenceOutcome
  /** The step has received no update. */
  | { readonly kind: 'update_not_found' }
  | { readonly kind: 'answered' | 'already_answered'; readonly requestId: string };

const ANSWER_UPDATES = defineStatement(
  'answer_updates',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::jsonb[])
      with ordinality as t(run_id, namespace, lease_token, step_id, answer, output, output_encoding, failure, ord)
  ),
  judged as (
    select c.*, u.seq, u.request_id,
      coalesce(${FENCE_VERDICT}, case
        when u.run_id is null then 'update_not_found'
        when u.answer is not null then 'already_answered'
        else 'answer'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    left join lateral (
      select * from perdure.run_updates x where x.run_id = c.run_id and x.step_id = c.step_id limit 1
    ) u on true
  ),
  answered as (
    update perdure.run_updates u
    set answer = j.answer, answered_at = perdure.clock(), output = j.output, output_encoding = j.output_encoding, failure = j.failure
    from judged j
    where j.verdict = 'answer' and u.run_id = j.run_id and u.seq = j.seq and u.answer is null
    returning u.run_id, u.seq
  )
  select j.ord::int as ord, j.request_id,
    case when j.verdict = 'answer' then case when a.seq is null then 'raced' else 'answered' end else j.verdict end as verdict
  from judged j
  left join answered a on a.run_id = j.run_id and a.seq = j.seq
  order by j.ord`,
);

interface Row extends VerdictRow {
  readonly request_id: string;
}

/** @returns one outcome per command, in their order */
export function answerUpdates(db: Database, commands: readonly AnswerUpdate[]): Promise<AnswerUpdateOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<Row>(ANSWER_UPDATES, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        textArray(round, (command) => command.answer.kind),
        byteaArray(round, ({ answer }) => (answer.kind === 'COMPLETED' ? answer.output?.data : null)),
        textArray(round, ({ answer }) => (answer.kind === 'COMPLETED' ? answer.output?.encoding : null)),
        jsonArray(round, ({ answer }) => (answer.kind === 'COMPLETED' ? null : answer.failure)),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): AnswerUpdateOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
      return 'raced';
    case 'update_not_found':
      return { kind: 'update_not_found' };
    case 'answered':
    case 'already_answered':
      return { kind: row.verdict, requestId: row.request_id };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('answer_updates', row.verdict);
  }
}
