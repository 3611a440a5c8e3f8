import { workflow } from 'perdure';

/** Workers that take this queue execute the workflow. */
export const TASK_QUEUE = 'greetings';

/** A step's result is recorded and the step is not executed again; a sleep survives every restart. */
export const greeting = workflow('greeting', async (ctx, input: { name: string }) => {
  const text = await ctx.step('compose', () => `Hello, ${input.name}!`, { retry: { maxAttempts: 5 } });
  await ctx.sleep('think', '1s');
  await ctx.step('deliver', (step) => {
    // step.idempotencyKey is the same for every attempt: hand it to whatever you call.
    console.log(`Delivered: ${text} (${step.idempotencyKey})`);
  });
  return text;
});
