/** Lists, shows, pauses, resumes and aborts bulk operations. */
import type { BulkOperation } from '@perdure/proto';
import type { Command } from 'commander';
import { bulkJson, bulkListView, bulkText, summaryText } from '../output/bulk-view.js';
import { hint, printList, printOne } from '../output/print.js';
import { type Session, withSession } from '../session.js';
import { countArgument } from './arguments.js';
import { getBulk, watchBulk } from './bulk-watch.js';
import { repeatedly, watchable } from './repeat.js';
import { sender } from './run-messages.js';

interface ListOptions {
  readonly limit: number;
  readonly watch?: boolean;
}

export function addBulkControl(bulk: Command): void {
  watchable(bulk.command('list'))
    .description('list bulk operations, newest first')
    .option('-n, --limit <n>', 'list at most n operations; 0 for all', countArgument, 50)
    .action((options: ListOptions, command: Command) =>
      withSession(command, (session) => repeatedly(options, () => showBulks(session, options.limit))),
    );

  watchable(bulk.command('describe <operation>'))
    .description('show a bulk operation: its progress, what was refused, and what people did to it')
    .action((operationId: string, options: { watch?: boolean }, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => showBulk(session, await getBulk(session, operationId), bulkText)),
      ),
    );

  bulk
    .command('watch <operation>')
    .description('show the progress of a bulk operation until it has ended; exit code 5 when runs were refused')
    .action((operationId: string, _: object, command: Command) =>
      withSession(command, (session) => watchBulk(session, operationId)),
    );

  addControl(bulk, 'pause', 'stop a bulk operation; it changes no run until it is resumed', (session, request) =>
    session.workflows.pauseBulkOperation(request),
  );
  addControl(bulk, 'resume', 'let a paused bulk operation continue', (session, request) =>
    session.workflows.resumeBulkOperation(request),
  );
  addControl(bulk, 'abort', 'end a bulk operation; what it did stays', (session, request) =>
    session.workflows.abortBulkOperation(request),
  );
}

interface ControlRequest {
  readonly namespace: string;
  readonly operationId: string;
  readonly reason: string;
  readonly actor: string;
}

function addControl(
  bulk: Command,
  name: string,
  description: string,
  call: (session: Session, request: ControlRequest) => Promise<{ readonly operation?: BulkOperation }>,
): void {
  bulk
    .command(`${name} <operation>`)
    .description(description)
    .option('-r, --reason <text>', 'recorded with the operation', '')
    .action((operationId: string, { reason }: { reason: string }, command: Command) =>
      withSession(command, async (session) => {
        const { namespace } = session;
        const { operation } = await call(session, { namespace, operationId, reason, actor: sender() });
        showBulk(session, operation as BulkOperation, (shown) => `${operationId} ${summaryText(shown)}`);
      }),
    );
}

function showBulk(session: Session, operation: BulkOperation, text: (operation: BulkOperation) => string): void {
  printOne(session.output, { id: operation.operationId, json: bulkJson(operation), text: text(operation) });
}

async function showBulks(session: Session, max: number): Promise<void> {
  const limit = max === 0 ? Number.POSITIVE_INFINITY : max;
  const operations: BulkOperation[] = [];
  let pageToken = '';
  do {
    const pageSize = Math.min(1_000, limit - operations.length);
    const page = await session.workflows.listBulkOperations({ namespace: session.namespace, pageSize, pageToken });
    operations.push(...page.operations);
    pageToken = page.nextPageToken;
  } while (pageToken !== '' && operations.length < limit);
  printList(session.output, operations, bulkListView);
  if (pageToken !== '') hint(`The newest ${operations.length}; there are more. All: --limit 0.`);
}
