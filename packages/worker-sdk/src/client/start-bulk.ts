import { BulkKind as BulkKindNumber } from '@perdure/proto';
import { v7 as newRequestId } from 'uuid';
import { encodeValue } from '../codec/payload.js';
import { didYouMean, refuseUnknownKeys } from '../options.js';
import { type Signal, signalOf, validPayload } from '../signal.js';
import { shown } from '../text.js';
import type { ActionOptions } from './act-on-run.js';
import type { ClientContext } from './await-result.js';
import { BulkHandle, type BulkKind } from './bulk-operation.js';
import { retryUntilAnswered } from './retry-until-answered.js';
import { type RunFilter, runFilter } from './run-filter.js';
import { type RunSummary, runSummary } from './run-summary.js';
import { SENDER } from './sender.js';

/** Options of a bulk operation. */
export interface BulkOptions extends ActionOptions {
  /** Most runs per second, 1 to 10,000; default 500. */
  readonly rate?: number;
  /** For SIGNAL, and only for it: what is sent. */
  readonly signal?: Signal | string;
  /** For SIGNAL: what the runs receive. */
  readonly payload?: unknown;
}

/** What a bulk operation would act on. */
export interface BulkPreview {
  readonly matched: number;
  /** False: there are more than `matched`. */
  readonly matchedIsExact: boolean;
  /** The oldest 10, without inputs and outputs. */
  readonly sample: readonly RunSummary[];
}

const KINDS = Object.keys(BulkKindNumber).filter((name) => /^[A-Z]+$/.test(name) && name !== 'UNSPECIFIED');

function kindNumber(kind: BulkKind): BulkKindNumber {
  if (KINDS.includes(kind)) return BulkKindNumber[kind];
  throw new TypeError(
    `A bulk operation cannot be ${shown(kind)}${didYouMean(String(kind), KINDS)} Expected one of: ${KINDS.join(', ')}.`,
  );
}

export async function previewBulk(context: ClientContext, kind: BulkKind, filter: RunFilter): Promise<BulkPreview> {
  const { service, namespace, codec, outage } = context;
  // The name of a signal does not matter: nothing is sent.
  const signalName = kind === 'SIGNAL' ? 'preview' : '';
  const request = { namespace, kind: kindNumber(kind), filter: runFilter(filter), signalName, dryRun: true };
  const { matched, matchedIsExact, sample } = await retryUntilAnswered(outage, (call) =>
    service.startBulkOperation(request, call),
  );
  return { matched, matchedIsExact, sample: sample.map((run) => runSummary(run, codec)) };
}

export async function startBulk(
  context: ClientContext,
  kind: BulkKind,
  filter: RunFilter,
  options: BulkOptions,
): Promise<BulkHandle> {
  refuseUnknownKeys('A bulk operation', options, ['rate', 'signal', 'payload', 'reason', 'actor', 'requestId']);
  const { service, namespace, outage } = context;
  const request = {
    namespace,
    kind: kindNumber(kind),
    filter: runFilter(filter),
    reason: options.reason ?? '',
    actor: options.actor ?? SENDER,
    requestId: options.requestId ?? newRequestId(),
    rate: options.rate ?? 0,
    ...(options.signal === undefined ? {} : await signalFields(context, signalOf(options.signal), options.payload)),
  };
  const { operation } = await retryUntilAnswered(outage, (call) => service.startBulkOperation(request, call));
  return new BulkHandle(operation?.operationId ?? '', context);
}

async function signalFields({ codec, limit }: ClientContext, signal: Signal, value: unknown) {
  const what = `The payload of signal '${signal.name}'`;
  const payload = encodeValue(codec, await validPayload(signal, value), what);
  await limit.check(payload, what, {});
  return { signalName: signal.name, ...(payload === undefined ? {} : { signalPayload: payload }) };
}
