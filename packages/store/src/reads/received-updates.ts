/**
 * The updates that steps have received, which are not in the rows of the steps: names, senders and answers. Read after the steps, and
 * only for steps of kind UPDATE. While a lease is held, nobody but its holder changes which step has received an update.
 */
import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { MemoEntry, ReceivedUpdate, StepKind, UpdateAnswerKind } from '../model.js';

const RECEIVED_UPDATES = defineStatement(
  'received_updates',
  `select c.ord::int as ord, u.name, u.request_id, u.sender, u.answer
  from unnest($1::uuid[], $2::text[]) with ordinality as c(run_id, step_id, ord)
  cross join lateral (
    select * from perdure.run_updates x where x.run_id = c.run_id and x.step_id = c.step_id limit 1
  ) u`,
);

interface Row {
  readonly ord: number;
  readonly name: string;
  readonly request_id: string;
  readonly sender: string;
  readonly answer: UpdateAnswerKind | null;
}

type Step = Pick<MemoEntry, 'runId' | 'stepId'>;

/** @returns for each step the update that it has received, or undefined, in their order */
export async function readReceivedUpdates(
  db: Reader,
  steps: readonly Step[],
): Promise<readonly (ReceivedUpdate | undefined)[]> {
  const found = new Array<ReceivedUpdate | undefined>(steps.length).fill(undefined);
  if (steps.length === 0) return found;
  const rows = await db.query<Row>(RECEIVED_UPDATES, [
    plainArray(steps, (step) => step.runId),
    textArray(steps, (step) => step.stepId),
  ]);
  for (const { ord, name, request_id: requestId, sender, answer } of rows) {
    found[ord - 1] = { name, requestId, sender, answer };
  }
  return found;
}

/** Adds what the steps of kind UPDATE have received, to the entries of many runs with one read. */
export async function withReceivedUpdates<Entry extends Step & { readonly kind: StepKind }>(
  db: Reader,
  lists: readonly (readonly Entry[])[],
): Promise<readonly (readonly (Entry & { readonly update?: ReceivedUpdate })[])[]> {
  const steps = lists.flatMap((entries) => entries.filter(({ kind }) => kind === 'UPDATE'));
  if (steps.length === 0) return lists;
  const updates = await readReceivedUpdates(db, steps);
  const updateOf = new Map(steps.map((step, index) => [step, updates[index]]));
  return lists.map((entries) =>
    entries.map((entry) => {
      const update = updateOf.get(entry);
      return update === undefined ? entry : { ...entry, update };
    }),
  );
}
