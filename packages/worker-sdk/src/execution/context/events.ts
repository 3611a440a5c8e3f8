import { type AwaitStepRequest, durationOf, StepKind, timestampOf } from '@perdure/proto';
import { encodeValue } from '../../codec/payload.js';
import type { EventWaitOptions } from '../../context.js';
import { durationMs } from '../../duration.js';
import { type EventDefinition, eventOf, validPayload } from '../../event.js';
import { refuseUnknownKeys } from '../../options.js';
import { checkId } from '../../text.js';
import type { ContextHost } from './context-host.js';
import type { AwaitedStep } from './signals.js';

type Awaits = Extract<AwaitStepRequest['awaits'], { readonly case: 'event' }>['value'];

/** @throws {TypeError} naming what is wrong */
export function eventWait(given: EventDefinition | string, options: EventWaitOptions = {}): AwaitedStep {
  const event = eventOf(given);
  const what = `The wait for event '${event.name}'`;
  refuseUnknownKeys(what, options, ['key', 'timeout', 'since']);
  const { key, since, timeout } = options;
  if (key !== undefined) checkId(`The key of event '${event.name}'`, key);
  const timeoutMs = timeout === undefined ? undefined : durationMs(timeout, `The timeout of event '${event.name}'`);
  return {
    name: event.name,
    kind: StepKind.EVENT,
    awaits: { case: 'event', value: { name: event.name, key: key ?? '', since: sinceOf(what, since) } as Awaits },
    timeoutMs,
    acceptsJson: true,
    received: async (value) => (value === null && timeoutMs !== undefined ? null : validPayload(event, value)),
  };
}

/** @param requestId the same for every attempt, so that the event is published once */
export async function publishEvent(
  host: ContextHost,
  given: EventDefinition | string,
  value: unknown,
  options: { readonly key?: string } = {},
  requestId: string,
): Promise<void> {
  const event = eventOf(given);
  refuseUnknownKeys(`Event '${event.name}'`, options, ['key']);
  if (options.key !== undefined) checkId(`The key of event '${event.name}'`, options.key);
  const what = `The payload of event '${event.name}'`;
  const payload = encodeValue(host.codec, await validPayload(event, value), what);
  await host.runService.publishEvent({
    namespace: host.facts.run.namespace,
    name: event.name,
    key: options.key ?? '',
    requestId,
    ...(payload === undefined ? {} : { payload }),
  });
}

function sinceOf(what: string, since: EventWaitOptions['since']): Awaits['since'] {
  if (since === undefined) return { case: undefined };
  if (!(since instanceof Date)) {
    return { case: 'lookBack', value: durationOf(durationMs(since, `${what}: since, when it is not a Date,`)) };
  }
  if (Number.isNaN(since.getTime())) throw new TypeError(`${what} needs a valid Date as since; got ${String(since)}.`);
  return { case: 'publishedAfter', value: timestampOf(since) };
}
