import type { WorkflowContext } from '../../context.js';
import { validInput, type Workflow } from '../../workflow.js';
import type { Continuable, Continuation } from '../context/continuation.js';

/** How the workflow's function ended. `continuation`: it does not return, because the run continues as another one. */
export type CodeOutcome =
  | { readonly ok: true; readonly value: unknown; readonly continuation?: Continuation }
  | { readonly ok: false; readonly error: unknown };

/** Executes the author's function on an input, checked by its schema. Never throws. */
export function runCode(workflow: Workflow, ctx: Continuable, input: unknown): Promise<CodeOutcome> {
  return new Promise((resolve) => {
    ctx.onContinue = (continuation) => resolve({ ok: true, value: undefined, continuation });
    void execute(workflow, ctx, input).then(resolve);
  });
}

async function execute(workflow: Workflow, ctx: WorkflowContext, input: unknown): Promise<CodeOutcome> {
  try {
    const valid = await validInput(workflow, input);
    return { ok: true, value: await workflow.handler(ctx, valid as never) };
  } catch (error) {
    return { ok: false, error };
  }
}
