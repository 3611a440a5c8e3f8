import type { WorkflowContext } from '../../context.js';
import { InvalidInputError } from '../../errors/errors.js';
import { checkInput, type Workflow } from '../../workflow.js';

/** What the workflow's function came to. */
export type CodeOutcome =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: unknown };

/** Executes the author's function on an input that its schema accepts. Never throws. */
export async function runCode(workflow: Workflow, ctx: WorkflowContext, input: unknown): Promise<CodeOutcome> {
  try {
    const checked = await checkInput(workflow, input);
    if ('problem' in checked) {
      throw new InvalidInputError(`The input does not fit workflow '${workflow.name}': ${checked.problem}`);
    }
    return { ok: true, value: await workflow.handler(ctx, checked.value as never) };
  } catch (error) {
    return { ok: false, error };
  }
}
