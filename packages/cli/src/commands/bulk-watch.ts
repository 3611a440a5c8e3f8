import { setTimeout as delay } from 'node:timers/promises';
import { type BulkOperation, BulkStatus } from '@perdure/proto';
import { CliError, EXIT } from '../exit-codes.js';
import { bulkJson, isEnded, looked, progressText, summaryText } from '../output/bulk-view.js';
import { hint, printOne } from '../output/print.js';
import { safe } from '../output/text.js';
import type { Session } from '../session.js';

const ASK_MS = 250;

export async function getBulk({ namespace, workflows }: Session, operationId: string): Promise<BulkOperation> {
  return (await workflows.getBulkOperation({ namespace, operationId })).operation as BulkOperation;
}

/** Shows the progress of an operation on stderr until it has ended, and what came of it on stdout. */
export async function watchBulk(session: Session, operationId: string): Promise<void> {
  const isLive = process.stderr.isTTY === true;
  const beganMs = performance.now();
  let operation = await getBulk(session, operationId);
  const before = looked(operation);
  while (!isEnded(operation)) {
    if (isLive) {
      const perSecond = (looked(operation) - before) / Math.max(0.001, (performance.now() - beganMs) / 1_000);
      process.stderr.write(`\r\u001b[2K${progressText(operation, perSecond)}`);
    }
    await delay(ASK_MS);
    operation = await getBulk(session, operationId);
  }
  if (isLive) process.stderr.write('\r\u001b[2K');
  printOne(session.output, {
    id: operationId,
    json: bulkJson(operation),
    text: `${operationId} ${summaryText(operation)}`,
  });
  for (const { runId, why } of operation.refusals) hint(`${runId} ${safe(why)}`);
  if (operation.refused > 0) throw new CliError('Some runs were refused; see above.', EXIT.refused);
  if (operation.status === BulkStatus.ABORTED) throw new CliError('The operation was aborted.', EXIT.failed);
}
