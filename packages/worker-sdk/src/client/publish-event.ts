import { dateOf } from '@perdure/proto';
import { v7 as newRequestId } from 'uuid';
import { encodeValue } from '../codec/payload.js';
import { type EventDefinition, eventOf, validPayload } from '../event.js';
import { refuseUnknownKeys } from '../options.js';
import { checkId } from '../text.js';
import type { ClientContext } from './await-result.js';
import { retryUntilAnswered } from './retry-until-answered.js';

/** Options of a published event. */
export interface PublishOptions {
  /** What it happened to, 1 to 255 bytes: waits for this key and waits for any key receive it. Default: none; only waits for any key do. */
  readonly key?: string;
  /**
   * 1 to 255 bytes; while the event is kept, a repeat with the same name and id publishes nothing. Default: a fresh one, so that repeats
   * after an outage publish nothing twice.
   */
  readonly requestId?: string;
}

/** What follows the event: its payload and options; nothing when it carries nothing. */
export type PublishArguments<Published> = undefined extends Published
  ? readonly [payload?: Published, options?: PublishOptions]
  : readonly [payload: Published, options?: PublishOptions];

/** What became of a published event. */
export interface PublishedEvent {
  readonly eventId: string;
  readonly publishedAt: Date;
  /** It had been published before, with the same request id. */
  readonly alreadyPublished: boolean;
}

/** Publishes one event. It is repeated until a server has answered, with one request id. */
export async function publishEvent(
  { service, namespace, codec, outage, limit }: ClientContext,
  given: EventDefinition | string,
  [value, options = {}]: readonly [payload?: unknown, options?: PublishOptions],
): Promise<PublishedEvent> {
  const event = eventOf(given);
  const what = `The payload of event '${event.name}'`;
  refuseUnknownKeys('An event', options, ['key', 'requestId']);
  if (options.key !== undefined) checkId(`The key of event '${event.name}'`, options.key);
  const payload = encodeValue(codec, await validPayload(event, value), what);
  await limit.check(payload, what, {});
  const request = {
    namespace,
    name: event.name,
    key: options.key ?? '',
    requestId: options.requestId ?? newRequestId(),
    ...(payload === undefined ? {} : { payload }),
  };
  const answer = await retryUntilAnswered(outage, (callOptions) => service.publishEvent(request, callOptions));
  const { eventId, publishedAt, alreadyPublished } = answer;
  return { eventId, publishedAt: publishedAt === undefined ? new Date(0) : dateOf(publishedAt), alreadyPublished };
}
