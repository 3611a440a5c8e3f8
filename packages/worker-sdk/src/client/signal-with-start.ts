import { encodeValue } from '../codec/payload.js';
import { type Signal, signalOf, validPayload } from '../signal.js';
import type { Workflow } from '../workflow.js';
import type { ClientContext } from './await-result.js';
import { inputRefusal } from './payload-limit.js';
import { retryUntilAnswered } from './retry-until-answered.js';
import { SENDER } from './sender.js';
import { checkStartOptions, type StartOptions } from './start-options.js';
import { inputOf, nameOf, startRequest } from './start-request.js';

/** Options of a signal that starts its run when none is open. */
export interface SignalWithStartOptions extends StartOptions {
  /** The open run of this id is signalled, or one is started with it. */
  readonly workflowId: string;
  readonly reusePolicy?: 'allow' | 'allow-if-failed' | 'reject';
}

export interface SignalWithStart {
  readonly workflow: Pick<Workflow, 'name' | 'options'> | string;
  readonly input: unknown;
  readonly signal: Signal | string;
  readonly payload: unknown;
  readonly options: SignalWithStartOptions;
}

/** Signals the open run of a workflow id, or starts it. It is repeated until a server has answered, with one request id. */
export async function signalWithStart(
  context: ClientContext,
  { workflow, input, signal: given, payload: value, options }: SignalWithStart,
): Promise<{ readonly runId: string; readonly workflowId: string; readonly created: boolean }> {
  const signal = signalOf(given);
  checkStartOptions('start', options);
  const start = await startRequest(context, workflow, input, options);
  const what = `The payload of signal '${signal.name}'`;
  const payload = encodeValue(context.codec, await validPayload(signal, value), what);
  await context.limit.check(payload, what, {});
  const request = {
    start,
    signalName: signal.name,
    sender: SENDER,
    ...(payload === undefined ? {} : { signalPayload: payload }),
  };
  try {
    return await retryUntilAnswered(context.outage, (callOptions) =>
      context.service.signalWithStart(request, callOptions),
    );
  } catch (error) {
    throw inputRefusal(error, inputOf(nameOf(workflow)), start.input?.data?.byteLength ?? 0);
  }
}
