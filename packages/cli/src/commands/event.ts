import type { Event } from '@perdure/proto';
import { devalueCodec } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import { v7 as newUuid } from 'uuid';
import { payloadJson, payloadLine } from '../output/payloads.js';
import { hint, type ListView, printList, printOne } from '../output/print.js';
import { count, safe } from '../output/text.js';
import { timeJson, timeText } from '../output/time.js';
import { withSession } from '../session.js';
import { countArgument, parseJson } from './arguments.js';

const eventView: ListView<Event> = {
  columns: [
    { title: 'EVENT', min: 12, value: (event) => safe(event.name) },
    { title: 'KEY', value: (event) => safe(event.key) },
    { title: 'PUBLISHED', value: (event) => timeText(event.publishedAt) },
    { title: 'PAYLOAD', min: 20, value: (event) => (event.payload === undefined ? '' : payloadLine(event.payload)) },
    { title: 'ID', wide: true, value: (event) => event.eventId },
    { title: 'REQUEST', wide: true, value: (event) => safe(event.requestId) },
    { title: 'KEPT UNTIL', wide: true, value: (event) => timeText(event.expiresAt) },
  ],
  id: (event) => event.eventId,
  json: (event) => ({
    eventId: event.eventId,
    name: event.name,
    key: event.key,
    requestId: event.requestId,
    publishedAt: timeJson(event.publishedAt),
    expiresAt: timeJson(event.expiresAt),
    ...(event.payload === undefined ? {} : { payload: payloadJson(event.payload) }),
  }),
  empty: 'No event is kept that fits.',
};

interface PublishOptions {
  readonly key?: string;
  readonly requestId?: string;
}

interface ListOptions {
  readonly name?: string;
  readonly key?: string;
  readonly limit: number;
  readonly cursor?: string;
}

export function addEventCommands(program: Command): void {
  const event = program.command('event').description('publish and list events');
  event
    .command('publish <name> [payload]')
    .description('publish an event to every run that waits for it; the payload is JSON')
    .option('-k, --key <key>', 'what it happened to: waits for this key and for any key receive it')
    .option('--request-id <id>', 'events with the same name and id are published once')
    .action((name: string, payload: string | undefined, options: PublishOptions, command: Command) =>
      withSession(command, async (session) => {
        const value = payload === undefined ? undefined : parseJson(payload, 'The payload');
        const published = await session.workflows.publishEvent({
          namespace: session.namespace,
          name,
          key: options.key ?? '',
          requestId: options.requestId ?? newUuid(),
          ...(payload === undefined ? {} : { payload: devalueCodec.encode(value) }),
        });
        const { eventId, alreadyPublished, received, isSpread } = published;
        const text = alreadyPublished
          ? `Event ${eventId} was published before with this request id; nothing was changed.`
          : `Published event ${eventId}. ${count(received, 'wait')} received it${isSpread ? '' : ' so far; others follow'}.`;
        const json = { eventId, publishedAt: timeJson(published.publishedAt), alreadyPublished, received, isSpread };
        printOne(session.output, { id: eventId, json, text });
      }),
    );
  event
    .command('list')
    .description('list the events that are kept, newest first')
    .option('--name <name>', 'name of the event')
    .option('-k, --key <key>', 'key; needs --name')
    .option('-n, --limit <n>', 'list at most n events', countArgument, 50)
    .option('--cursor <cursor>', 'continue after an earlier list with the same filters')
    .action((options: ListOptions, command: Command) =>
      withSession(command, async (session) => {
        const { events, nextPageToken } = await session.workflows.listEvents({
          namespace: session.namespace,
          name: options.name ?? '',
          key: options.key ?? '',
          pageSize: options.limit,
          pageToken: options.cursor ?? '',
          includePayloads: true,
        });
        printList(session.output, events, eventView);
        if (nextPageToken !== '') hint(`There are more events. Next page: --cursor ${nextPageToken}`);
      }),
    );
}
