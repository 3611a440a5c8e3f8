import type { Run, RunRef } from '@perdure/store';
import type { ServerContext } from '../context.js';
import { refText } from '../rpc/decode/workflow-requests.js';
import { runNotFound } from '../rpc/outcomes.js';

/** @throws {RpcError} RUN_NOT_FOUND */
export async function runOf({ commands }: ServerContext, ref: RunRef): Promise<Run> {
  const run = await commands.findRun(ref);
  if (run === null) throw runNotFound(refText(ref));
  return run;
}

/**
 * A run id is not looked up: the command finds out whether the run exists.
 *
 * @throws {RpcError} RUN_NOT_FOUND for a workflow id
 */
export async function runIdOf(context: ServerContext, ref: RunRef): Promise<string> {
  return ref.runId ?? (await runOf(context, ref)).runId;
}
