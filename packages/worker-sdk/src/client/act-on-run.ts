import { v7 as newRequestId } from 'uuid';
import { encodeValue } from '../codec/payload.js';
import { refuseUnknownKeys } from '../options.js';
import type { ClientContext } from './await-result.js';
import { retryUntilAnswered } from './retry-until-answered.js';
import { SENDER } from './sender.js';

/** One run: by its run id, or by its workflow id: then its open run, or its newest one when none is open. */
export type RunOf = { readonly runId: string } | { readonly workflowId: string };

/** Who acts on a run, and why. Recorded with the run. */
export interface ActionOptions {
  /** At most 1,024 bytes. */
  readonly reason?: string;
  /** Who it is, for people: at most 255 bytes. Default: host and process. */
  readonly actor?: string;
  /** 1 to 255 bytes; a repeat with the same id changes nothing. Default: a fresh one, so that repeats after an outage do nothing twice. */
  readonly requestId?: string;
}

const ACTION_KEYS: readonly (keyof ActionOptions)[] = ['reason', 'actor', 'requestId'];

/** @throws {TypeError} naming the option that is wrong */
export function actionFields(
  what: string,
  options: ActionOptions,
  others: readonly string[] = [],
): { readonly reason: string; readonly actor: string; readonly requestId: string } {
  refuseUnknownKeys(what, options, [...ACTION_KEYS, ...others]);
  return {
    reason: options.reason ?? '',
    actor: options.actor ?? SENDER,
    requestId: options.requestId ?? newRequestId(),
  };
}

/** Retries a run that has ended as FAILED, CANCELLED or TERMINATED. */
export async function retryRun(
  { service, namespace, outage }: ClientContext,
  run: RunOf,
  options: ActionOptions,
): Promise<void> {
  const request = { namespace, ...run, ...actionFields('A retry', options) };
  await retryUntilAnswered(outage, (callOptions) => service.retryRun(request, callOptions));
}

/**
 * Dismisses a FAILED run.
 *
 * @returns false when it was dismissed or restarted before
 */
export async function dismissRun(
  { service, namespace, outage }: ClientContext,
  run: RunOf,
  options: ActionOptions,
): Promise<boolean> {
  const request = { namespace, ...run, ...actionFields('A dismissal', options) };
  return (await retryUntilAnswered(outage, (callOptions) => service.dismissRun(request, callOptions))).dismissed;
}

/** Options of a restart. */
export interface RestartOptions extends ActionOptions {
  /** Of the new run, 1 to 255 bytes; default: that of the other run, which must have ended then. */
  readonly workflowId?: string;
}

/** Options of a fork. */
export interface ForkOptions extends ActionOptions {
  /** Of the new run, 1 to 255 bytes; default: that of the other run with `/fork-1`, `/fork-2` and so on after it. */
  readonly workflowId?: string;
  /** Of the new run; default: that of the other run. Its code must request the steps that are kept as the other run did. */
  readonly input?: unknown;
}

/** Starts another run from a step of one that exists. */
export async function forkRun(
  { service, namespace, codec, outage, limit }: ClientContext,
  run: RunOf,
  stepId: string,
  options: ForkOptions,
): Promise<{ readonly runId: string; readonly workflowId: string; readonly created: boolean }> {
  const action = actionFields('A fork', options, ['workflowId', 'input']);
  const request = { namespace, ...run, ...action, stepId, newWorkflowId: options.workflowId ?? '' };
  if (!('input' in options)) return retryUntilAnswered(outage, (callOptions) => service.forkRun(request, callOptions));
  const what = 'The input of the fork';
  const value = encodeValue(codec, options.input, what);
  await limit.check(value, what, {});
  const input = value === undefined ? {} : { value };
  return retryUntilAnswered(outage, (callOptions) => service.forkRun({ ...request, input }, callOptions));
}

/** Starts another run like one that exists. */
export async function restartRun(
  { service, namespace, outage }: ClientContext,
  run: RunOf,
  options: RestartOptions,
): Promise<{ readonly runId: string; readonly workflowId: string; readonly created: boolean }> {
  const action = actionFields('A restart', options, ['workflowId']);
  const request = { namespace, ...run, ...action, newWorkflowId: options.workflowId ?? '' };
  return retryUntilAnswered(outage, (callOptions) => service.restartRun(request, callOptions));
}
