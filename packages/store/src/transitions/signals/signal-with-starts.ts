/**
 * Signals the open run of each workflow id, or starts one and signals it, in one transaction.
 *
 * Calls with equal workflow ids wait for each other (an advisory lock, taken in a statement of its own so that the next ones see what
 * earlier calls have committed). A call whose request id has been sent is answered with the run that it was sent to, also when that run
 * has ended: nothing is started, nothing is sent. Plain starts take no such lock. One that comes between makes the insert find nothing
 * to do, and a run that ends between makes the signal come too late; then the call is judged again.
 */
import type { StartRun } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { type Payload, type RunStatus, TERMINAL_STATUSES } from '../../model.js';
import type { ArrivalEffect } from '../parts/arrival-effect.js';
import { inRounds } from '../parts/batch.js';
import { findOpenRuns, lockWorkflowIds, startPlainRuns } from '../runs/start-runs.js';
import { type SendSignal, type SendSignalOutcome, sendSignals } from './send-signals.js';

export interface SignalWithStart {
  readonly start: StartRun;
  /** As the caller gave it; null: every call sends another signal. */
  readonly requestId: string | null;
  readonly name: string;
  readonly payload: Payload | null;
  /** Who sends it, for people. */
  readonly sender: string;
  readonly maxUnconsumed: number;
}
export type SignalWithStartOutcome =
  | { readonly kind: 'namespace_not_found' }
  /** The reuse policy allows no run after this one. */
  | { readonly kind: 'already_exists'; readonly runId: string; readonly status: RunStatus }
  | { readonly kind: 'too_many_signals'; readonly runId: string; readonly max: number }
  | {
      readonly kind: 'sent';
      readonly runId: string;
      readonly seq: number;
      /** A run was started. */
      readonly started: boolean;
      readonly effect: ArrivalEffect;
    }
  | { readonly kind: 'already_sent'; readonly runId: string; readonly seq: number; readonly started: boolean };

const SENT_WITH_START = defineStatement(
  'sent_with_start',
  `select c.ord::int as ord, g.run_id, g.seq,
    coalesce(g.run_id = c.run_id, false) or coalesce(g.run_id = c.fresh_run_id, false) or coalesce(g.run_request_id = c.request_id, false)
      as started
  from unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[]) with ordinality as c(namespace, request_id, run_id, fresh_run_id, ord)
  cross join lateral (
    select x.run_id, x.seq, r.request_id as run_request_id from perdure.signals x
    join perdure.workflow_runs r on r.run_id = x.run_id and r.namespace = c.namespace
    where x.request_id = c.request_id and x.with_start limit 1
  ) g`,
);

const MARK_SENT_WITH_START = defineStatement(
  'mark_sent_with_start',
  `update perdure.signals g set with_start = true
  from unnest($1::uuid[], $2::int[]) as c(run_id, seq) where g.run_id = c.run_id and g.seq = c.seq`,
);

/** @returns one outcome per command, in their order */
export function signalWithStarts(
  db: Database,
  commands: readonly SignalWithStart[],
): Promise<SignalWithStartOutcome[]> {
  return inRounds(
    commands,
    ({ start }) => `${start.namespace}\n${start.workflowId}`,
    (round) =>
      db.transaction(async (transaction) => {
        await lockWorkflowIds(
          transaction,
          round.map(({ start }) => start),
        );
        return signalOnce(transaction, round);
      }),
  );
}

/** A command on its way: the run that it signals, or its outcome. */
interface Moving {
  readonly command: SignalWithStart;
  runId: string | undefined;
  started: boolean;
  outcome: SignalWithStartOutcome | 'raced' | undefined;
}

async function signalOnce(
  db: Database,
  commands: readonly SignalWithStart[],
): Promise<readonly (SignalWithStartOutcome | 'raced')[]> {
  const moving = commands.map((command): Moving => ({ command, runId: undefined, started: false, outcome: undefined }));
  await findSent(db, moving);
  await findOpen(db, moving);
  await startMissing(db, moving);
  await signal(db, moving);
  return moving.map(({ outcome }) => outcome ?? 'raced');
}

async function findSent(db: Database, all: readonly Moving[]): Promise<void> {
  const repeatable = all.filter(({ command }) => command.requestId !== null);
  if (repeatable.length === 0) return;
  const rows = await db.query<{ ord: number; run_id: string; seq: number; started: boolean }>(SENT_WITH_START, [
    textArray(repeatable, ({ command }) => command.start.namespace),
    textArray(repeatable, ({ command }) => command.requestId),
    plainArray(repeatable, ({ command }) => command.start.runId),
    plainArray(repeatable, ({ command }) => command.start.freshRunId),
  ]);
  for (const { ord, run_id: runId, seq, started } of rows) {
    (repeatable[ord - 1] as Moving).outcome = { kind: 'already_sent', runId, seq, started };
  }
}

async function findOpen(db: Database, all: readonly Moving[]): Promise<void> {
  const undecided = all.filter(({ outcome }) => outcome === undefined);
  const open = await findOpenRuns(
    db,
    undecided.map(({ command }) => command.start),
  );
  const runIdOf = new Map(open.map((run) => [`${run.namespace}\n${run.workflowId}`, run.runId]));
  for (const item of undecided) {
    const { namespace, workflowId } = item.command.start;
    item.runId = runIdOf.get(`${namespace}\n${workflowId}`);
  }
}

async function startMissing(db: Database, all: readonly Moving[]): Promise<void> {
  const missing = all.filter(({ outcome, runId }) => outcome === undefined && runId === undefined);
  if (missing.length === 0) return;
  const starts = await startPlainRuns(
    db,
    missing.map(({ command }) => command.start),
  );
  starts.forEach((start, index) => {
    const item = missing[index] as Moving;
    switch (start.kind) {
      case 'started':
        item.runId = start.runId;
        item.started = true;
        break;
      case 'existing':
      case 'already_exists':
        // One that is open was started between two statements of this call; it may have ended since.
        item.outcome = isOpen(start.status)
          ? 'raced'
          : { kind: 'already_exists', runId: start.runId, status: start.status };
        break;
      case 'namespace_not_found':
        item.outcome = start;
    }
  });
}

function isOpen(status: RunStatus): boolean {
  return !(TERMINAL_STATUSES as readonly RunStatus[]).includes(status);
}

async function signal(db: Database, all: readonly Moving[]): Promise<void> {
  const sending = all.filter((item): item is Moving & { runId: string } => item.runId !== undefined);
  if (sending.length === 0) return;
  const sent = await sendSignals(
    db,
    sending.map(({ command, runId }): SendSignal => ({ ...command, namespace: command.start.namespace, runId })),
  );
  const marked: { readonly runId: string; readonly seq: number }[] = [];
  sent.forEach((outcome, index) => {
    const item = sending[index] as Moving & { runId: string };
    item.outcome = outcomeOf(item, outcome);
    if (outcome.kind === 'sent' && item.command.requestId !== null)
      marked.push({ runId: item.runId, seq: outcome.seq });
  });
  if (marked.length === 0) return;
  await db.query(MARK_SENT_WITH_START, [
    plainArray(marked, ({ runId }) => runId),
    plainArray(marked, ({ seq }) => seq),
  ]);
}

function outcomeOf(
  { runId, started }: { readonly runId: string; readonly started: boolean },
  outcome: SendSignalOutcome,
): SignalWithStartOutcome | 'raced' {
  switch (outcome.kind) {
    case 'sent':
      return { kind: 'sent', runId, started, seq: outcome.seq, effect: outcome.effect };
    case 'already_sent':
      return { kind: 'already_sent', runId, started, seq: outcome.seq };
    case 'too_many_signals':
      return { kind: 'too_many_signals', runId, max: outcome.max };
    case 'run_closed':
    case 'run_not_found':
      return 'raced';
  }
}
