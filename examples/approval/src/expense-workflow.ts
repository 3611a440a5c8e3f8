import { event, type Workflow, workflow } from 'perdure';
import { z } from 'zod';
import type { Outbox } from './outbox.js';

export const Expense = z.object({
  expenseId: z.string().min(1),
  cents: z.int().positive(),
  manager: z.string(),
  director: z.string(),
  /** In ms: days in real life, a second in the demo. */
  remindAfter: z.int().positive(),
  escalateAfter: z.int().positive(),
  giveUpAfter: z.int().positive(),
});

/** What the webhook sends; it comes from outside, so it is checked. */
const Decision = z.object({ approved: z.boolean(), by: z.string() });

export type Outcome =
  | { readonly kind: 'approved' | 'refused'; readonly by: string }
  /** Nobody has decided in time. */
  | { readonly kind: 'expired' };

/** Published when an expense is decided; other workflows may wait for it by the expense's id. */
export const expenseDecided = event<Outcome>('expense.decided');

export const TASK_QUEUE = 'expenses';

/** Asks the manager, reminds, escalates to the director, and gives up in the end. The first decision counts, from either of them. */
export function expenseWorkflow(outbox: Outbox): Workflow<z.input<typeof Expense>, Outcome> {
  return workflow('approve-expense', { input: Expense }, async (ctx, expense): Promise<Outcome> => {
    const decision = ctx.promise('decision', { timeout: expense.giveUpAfter });
    // Its one result is awaited in several places.
    const decided = decision.result();
    const ask = (name: string, to: string) =>
      ctx.step(name, () => outbox.send({ to, subject: `${name}: ${expense.expenseId}`, promiseId: decision.id }));
    const within = (name: string, ms: number) =>
      Promise.race([decided.then(() => true), ctx.sleep(name, ms).then(() => false)]);

    await ask('please decide', expense.manager);
    if (!(await within('until the reminder', expense.remindAfter))) {
      await ask('reminder', expense.manager);
      if (!(await within('until the escalation', expense.escalateAfter)))
        await ask('escalated to you', expense.director);
    }

    const answer = await decided;
    const outcome = answer === null ? ({ kind: 'expired' } as const) : outcomeOf(Decision.parse(answer));
    await ctx.publish(expenseDecided, outcome, { key: expense.expenseId });
    return outcome;
  });
}

function outcomeOf({ approved, by }: z.infer<typeof Decision>): Outcome {
  return { kind: approved ? 'approved' : 'refused', by };
}
