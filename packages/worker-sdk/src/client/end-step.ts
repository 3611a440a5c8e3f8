import { encodeValue } from '../codec/payload.js';
import { failureOf } from '../errors/failure.js';
import { type ActionOptions, actionFields, type RunOf } from './act-on-run.js';
import type { ClientContext } from './await-result.js';
import { retryUntilAnswered } from './retry-until-answered.js';

type EndStepRequest = Parameters<ClientContext['service']['endStep']>[0];

/** Gives a step of a run a result. */
export async function completeStep(
  context: ClientContext,
  run: RunOf,
  stepId: string,
  result: unknown,
  options: ActionOptions,
): Promise<void> {
  const what = `The result of step '${stepId}'`;
  const output = encodeValue(context.codec, result, what);
  await context.limit.check(output, what, {});
  const value = output === undefined ? {} : { output };
  await endStep(context, run, stepId, { case: 'completed', value }, options);
}

/** Gives a step of a run an error. */
export async function failStep(
  context: ClientContext,
  run: RunOf,
  stepId: string,
  error: unknown,
  options: ActionOptions,
): Promise<void> {
  await endStep(context, run, stepId, { case: 'failed', value: failureOf(context.codec, error) }, options);
}

/** Skips a step of a run. */
export async function skipStep(
  context: ClientContext,
  run: RunOf,
  stepId: string,
  options: ActionOptions,
): Promise<void> {
  await endStep(context, run, stepId, { case: 'skipped', value: true }, options);
}

async function endStep(
  { service, namespace, outage }: ClientContext,
  run: RunOf,
  stepId: string,
  outcome: NonNullable<EndStepRequest['outcome']>,
  options: ActionOptions,
): Promise<void> {
  const request = { namespace, ...run, ...actionFields('The end of a step', options), stepId, outcome };
  await retryUntilAnswered(outage, (callOptions) => service.endStep(request, callOptions));
}
