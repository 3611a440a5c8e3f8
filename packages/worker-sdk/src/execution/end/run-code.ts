import type { WorkflowContext } from '../../context.js';
import { validInput, type Workflow } from '../../workflow.js';

/** How the workflow's function ended. */
export type CodeOutcome =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: unknown };

/** Executes the author's function on an input, checked by its schema. Never throws. */
export async function runCode(workflow: Workflow, ctx: WorkflowContext, input: unknown): Promise<CodeOutcome> {
  try {
    const valid = await validInput(workflow, input);
    return { ok: true, value: await workflow.handler(ctx, valid as never) };
  } catch (error) {
    return { ok: false, error };
  }
}
