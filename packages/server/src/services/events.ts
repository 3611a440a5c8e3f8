import type { WorkflowService } from '@perdure/proto';
import { listEvents, type PublishEvent, type PublishEventOutcome } from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decode } from '../rpc/decode/decode.js';
import { decodeListEvents, decodePublishEvent, eventCursorFields, eventScope } from '../rpc/decode/event-requests.js';
import { encodePageToken } from '../rpc/decode/page-token.js';
import { eventMessage } from '../rpc/encode/events.js';
import { timestampOf } from '../rpc/encode/time.js';
import { namespaceNotFound } from '../rpc/outcomes.js';
import { answering } from './answering.js';
import { checkNamespace } from './check-namespace.js';

/** RPCs that publish and list events. */
export function events(context: ServerContext): Pick<Handlers<typeof WorkflowService>, 'publishEvent' | 'listEvents'> {
  const { commands, reads, config } = context;
  return {
    publishEvent: answering(
      context,
      (check, request: Parameters<typeof decodePublishEvent>[1]) =>
        decodePublishEvent(check, request, config.eventRetentionMs),
      commands.publishEvent,
      eventPublished,
    ),

    async listEvents(request, call) {
      const { filter, limit, after, payloads } = decode(context, (check) => decodeListEvents(check, request));
      const from = reads.for(call);
      const page = await listEvents(from, filter, { limit, after, payloads });
      if (page.events.length === 0) await checkNamespace(from, filter.namespace);
      return {
        events: page.events.map(eventMessage),
        nextPageToken: page.next === null ? '' : encodePageToken(eventScope(filter), eventCursorFields(page.next)),
      };
    },
  };
}

function eventPublished({ namespace }: PublishEvent, outcome: PublishEventOutcome) {
  if (outcome.kind === 'namespace_not_found') throw namespaceNotFound(namespace);
  const { eventId, isSpread } = outcome;
  return {
    eventId,
    isSpread,
    publishedAt: timestampOf(outcome.publishedAt),
    alreadyPublished: outcome.kind === 'already_published',
    received: outcome.kind === 'published' ? outcome.received : 0,
  };
}
