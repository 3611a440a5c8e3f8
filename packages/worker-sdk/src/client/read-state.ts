import { decodeValue } from '../codec/payload.js';
import type { ClientContext } from './await-result.js';
import { retryUntilAnswered } from './retry-until-answered.js';

/** Reads the state that the code of a run has set last; undefined when it has set none. */
export async function readState(
  { service, namespace, codec, outage }: ClientContext,
  run: { readonly runId: string } | { readonly workflowId: string },
): Promise<unknown> {
  const { state } = await retryUntilAnswered(outage, (options) => service.getRunState({ namespace, ...run }, options));
  return decodeValue(codec, state);
}
