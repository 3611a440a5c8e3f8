import type { MessageInitShape } from '@bufbuild/protobuf';
import type { WatchRunResponseSchema } from '@perdure/proto';
import {
  findRunState,
  type HistoryCursor,
  type Run,
  readChangedSteps,
  readHistory,
  type StepAttempt,
  withSenders,
} from '@perdure/store';
import { shuttingDown } from '../call/rpc-error.js';
import type { ServerContext } from '../context.js';
import { runMessage, stepMessage } from '../rpc/encode/model.js';

/** How often a watched run is read, in ms. */
const PERIOD_MS = 250;
/** A change can become visible up to this long after its timestamp, because its transaction must commit first. In ms. */
const COMMIT_MARGIN_MS = 30_000;
const STEPS_PER_MESSAGE = 1_000;

/** Yields the run with all its attempts, then each change, until the run has ended or the caller has left. */
export async function* watchRun(
  { reads, commands, endWaiters, stopping }: ServerContext,
  found: Run,
  signal: AbortSignal,
): AsyncGenerator<MessageInitShape<typeof WatchRunResponseSchema>> {
  const db = reads.for(signal);
  const ref = { namespace: found.namespace, runId: found.runId };
  const seen = new Map<string, string>();
  const unseen = (steps: readonly StepAttempt[]) =>
    steps.filter((step) => {
      const key = `${step.attemptNumber} ${step.stepId}`;
      const state = `${step.status} ${step.isLatest} ${step.nextRetryAt?.getTime()} ${step.finishedAt?.getTime()}`;
      if (seen.get(key) === state) return false;
      seen.set(key, state);
      return true;
    });

  let run = found;
  let shown = '';
  let after: HistoryCursor | null = null;
  do {
    const page = await readHistory(db, run.runId, { limit: STEPS_PER_MESSAGE, after, payloads: false });
    yield { ...(shown === '' ? { run: shownRun(run) } : {}), steps: unseen(page.steps).map(stepMessage) };
    shown = stateOf(run);
    after = page.next;
  } while (after !== null);

  // An ended run was read before its steps, so nothing can have changed since.
  while (run.finishedAt === null) {
    await nextLook(endWaiters, run.runId, [signal, stopping]);
    if (signal.aborted) return;
    if (stopping.aborted) throw shuttingDown();
    run = (await findRunState(db, ref)) ?? run;
    // Payloads are read once, at the end.
    if (run.finishedAt !== null) run = (await commands.findRun({ ...ref, workflowId: null })) ?? run;
    const newest = Math.max(run.updatedAt.getTime(), newestOf(seen));
    const since = new Date(newest - COMMIT_MARGIN_MS);
    const steps = await withSenders(db, unseen(await readChangedSteps(db, run.runId, since, 100_000)));
    const changed = stateOf(run) !== shown;
    for (let start = 0; start < Math.max(steps.length, changed ? 1 : 0); start += STEPS_PER_MESSAGE) {
      yield {
        ...(changed && start === 0 ? { run: shownRun(run) } : {}),
        steps: steps.slice(start, start + STEPS_PER_MESSAGE).map(stepMessage),
      };
    }
    shown = stateOf(run);
  }
}

/** The latest end of an attempt that was seen, by the database's clock. */
function newestOf(seen: ReadonlyMap<string, string>): number {
  let newest = 0;
  for (const state of seen.values()) {
    const finishedMs = Number(state.slice(state.lastIndexOf(' ') + 1));
    if (finishedMs > newest) newest = finishedMs;
  }
  return newest;
}

function shownRun(run: Run) {
  return runMessage(run.finishedAt === null ? { ...run, input: null, output: null } : run);
}

/** Lease renewals are not reported to watchers. */
function stateOf(run: Run): string {
  return [run.status, run.attempt, run.leaseToken, run.leasedBy, run.wakeAt?.getTime(), run.cancelRequestedAt].join(
    ' ',
  );
}

async function nextLook(
  endWaiters: ServerContext['endWaiters'],
  runId: string,
  signals: readonly AbortSignal[],
): Promise<void> {
  let wake: () => void = () => undefined;
  const woken = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const subscription = endWaiters.subscribe(runId, wake);
  const timer = setTimeout(wake, PERIOD_MS);
  for (const signal of signals) signal.addEventListener('abort', wake, { once: true });
  if (!signals.some((signal) => signal.aborted)) await woken;
  clearTimeout(timer);
  subscription.cancel();
  for (const signal of signals) signal.removeEventListener('abort', wake);
}
