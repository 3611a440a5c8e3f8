import { type Workflow, workflow } from 'perdure';
import { expenseDecided } from './expense-workflow.js';

/** Waits until an expense is decided, whether that was before or is still to come. */
export const payoutWorkflow: Workflow<string, string> = workflow('pay-out', async (ctx, expenseId: string) => {
  const outcome = await ctx.waitForEvent(expenseDecided, { key: expenseId, since: '1 day' });
  if (outcome.kind !== 'approved') return `${expenseId}: nothing to pay, it was ${outcome.kind}`;
  await ctx.step('transfer', () => undefined);
  return `${expenseId}: paid, approved by ${outcome.by}`;
});
