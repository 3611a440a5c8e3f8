import { v7 as newRequestId } from 'uuid';
import { encodeValue } from '../codec/payload.js';
import { refuseUnknownKeys } from '../options.js';
import { type Signal, signalOf, validPayload } from '../signal.js';
import type { ClientContext } from './await-result.js';
import { retryUntilAnswered } from './retry-until-answered.js';
import { SENDER } from './sender.js';

/** Options of a signal. */
export interface SignalOptions {
  /** 1 to 255 bytes; a repeat with the same id sends nothing. Default: a fresh one, so that repeats after an outage send nothing twice. */
  readonly requestId?: string;
}

/** What follows the signal: its payload and options; nothing when it carries nothing. */
export type SignalArguments<Sent> = undefined extends Sent
  ? readonly [payload?: Sent, options?: SignalOptions]
  : readonly [payload: Sent, options?: SignalOptions];

/** Sends one signal. It is repeated until a server has answered, with one request id. */
export async function sendSignal(
  { service, namespace, codec, outage, limit }: ClientContext,
  run: { readonly runId: string } | { readonly workflowId: string },
  given: Signal | string,
  [value, options = {}]: readonly [payload?: unknown, options?: SignalOptions],
): Promise<void> {
  const signal = signalOf(given);
  const what = `The payload of signal '${signal.name}'`;
  refuseUnknownKeys('A signal', options, ['requestId']);
  const payload = encodeValue(codec, await validPayload(signal, value), what);
  await limit.check(payload, what, {});
  const request = {
    namespace,
    ...run,
    name: signal.name,
    sender: SENDER,
    requestId: options.requestId ?? newRequestId(),
    ...(payload === undefined ? {} : { payload }),
  };
  await retryUntilAnswered(outage, (callOptions) => service.signalRun(request, callOptions));
}
