import { every, monotonicClock } from '@perdure/clock';
import {
  type CompleteStepRequest,
  type CompleteWorkflowRequest,
  type StepAttempt,
  StepKind,
  StepStatus,
} from '@perdure/proto';
import { TerminalError, type Worker, type WorkflowContext, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { Seeded } from '../support/seeded.js';
import { until } from '../support/until.js';
import { interrupting } from './interruptions.js';
import {
  type ChildInput,
  type Flavour,
  interpret,
  isDeterministic,
  nameOf,
  outcomeText,
  type Program,
  randomProgram,
  referenceOf,
  SIGNALS,
  type StepSpec,
  stepIdOf,
  type Trace,
} from './program.js';

/** Programs per seed and way; PERDURE_PROPERTY_PROGRAMS for more. */
const PROGRAMS = Number(process.env.PERDURE_PROPERTY_PROGRAMS ?? 100);
const SEEDS = (process.env.PERDURE_PROPERTY_SEEDS ?? '1,2').split(',').map(Number);
/** Programs that have found a mistake which others rarely find. */
const KNOWN = [1_001_618, 1_002_638];
/** One program alone, many times: the seed that a problem names. */
const ONLY = process.env.PERDURE_PROPERTY_CASE;
/** How long a program may take, in ms. */
const TIMEOUT_MS = Number(process.env.PERDURE_PROPERTY_TIMEOUT_MS ?? 240_000);
const AT_ONCE = 100;
const RUN_ATTEMPTS = 3;

interface Case {
  readonly seed: number;
  readonly program: Program;
  readonly flavour: Flavour;
  /** Cancelled before this write of the run; 0: not. */
  readonly cancelAtWrite: number;
  /** A step of the run is ended by hand before each so many writes of it; 0: none is. */
  readonly handEvery: number;
  /** Chooses the step that another run is forked from, when the run has ended; 0: none is. */
  readonly forkAt: number;
}

/** What one execution of the code has seen. */
interface Execution {
  readonly epoch: number;
  readonly trace: Trace;
  /** The lease under which it saw each entry. */
  readonly leases: number[];
}

/** What became of one run, as seen from outside of it. */
interface Observed {
  readonly traces: Execution[];
  /** The lease under which each result was first recorded, by step. */
  readonly recorded: Map<string, number>;
  /** What bodies have done for results that were not recorded. */
  readonly premature: { readonly result: string | undefined; readonly problem: string }[];
  /** The latest one. */
  leaseToken: number;
  readonly bodies: Map<string, number>;
  readonly atMostOnce: Set<string>;
  epoch: number;
  writes: number;
  /** Of each name; the next one carries this number. */
  signals: number;
  /** Names of the updates that the code answers. */
  readonly handled: Set<string>;
  /** Updates under way, by name. */
  readonly updating: Set<string>;
}

/** How often each open run gets another signal of each name, in ms. */
const SIGNAL_EVERY_MS = 100;

function caseOf(seed: number): Case {
  const random = new Seeded(seed);
  const flavour: Flavour = {
    races: random.chance(0.6),
    atMostOnce: random.chance(0.5),
    timeouts: random.chance(0.3),
    runRetries: random.chance(0.3),
    lazySteps: random.chance(0.5),
  };
  const program = randomProgram(random, flavour);
  const cancelAtWrite = random.chance(0.3) ? 1 + random.below(8) : 0;
  const handEvery = random.chance(0.3) ? 2 + random.below(5) : 0;
  return { seed, flavour, program, cancelAtWrite, handEvery, forkAt: random.chance(0.05) ? 1 + random.below(50) : 0 };
}

describe('what the code of a run has seen', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({
      server: { stepTimeoutGraceMs: 0 },
      reaper: { maxSleepMs: 50, reclaimBackoffMs: 0, maxReclaimBackoffMs: 0 },
    });
  });
  afterAll(() => perdure.stop());

  /** Executes the cases on workers that are lost again and again. @returns what went wrong */
  async function execute(cases: readonly Case[], seed: number, warmRuns: number): Promise<string[]> {
    const taskQueue = `q-${uuid()}`;
    const observed = new Map<string, Observed>();
    const caseOfRun = new Map<string, Case>();
    const ended = new Set<string>();
    const of = (runId: string): Observed => {
      let one = observed.get(runId);
      if (one === undefined) {
        one = {
          traces: [],
          recorded: new Map(),
          premature: [],
          leaseToken: 0,
          bodies: new Map(),
          atMostOnce: new Set(),
          epoch: 0,
          writes: 0,
          signals: 0,
          handled: new Set(),
          updating: new Set(),
        };
        observed.set(runId, one);
      }
      return one;
    };
    const handler = async (ctx: WorkflowContext, caseSeed: number) => {
      const { program } = caseOf(caseSeed);
      const run = of(ctx.run.runId);
      const trace: Trace = [];
      const execution: Execution = { epoch: run.epoch, trace, leases: [] };
      run.traces.push(execution);
      let { leaseToken } = run;
      const world = {
        epoch: () => run.epoch,
        onSeen() {
          // Under the latest lease, unless another execution has that one.
          if (run.traces.at(-1) === execution) ({ leaseToken } = run);
          execution.leases.push(leaseToken);
        },
        onBody(stepId: string, seen: number, { atMostOnce, isLazy }: StepSpec) {
          const place = firstUnrecorded(run, execution);
          if (place < seen && !isLazy) {
            const problem = `${stepId} began after ${trace[place]}, which was not recorded`;
            run.premature.push({ result: stepIdOf(trace[place]), problem });
          }
          // A lazy body may begin on what is lost then, so the id may come to mean another step.
          run.bodies.set(stepId, (run.bodies.get(stepId) ?? 0) + (isLazy ? 0 : 1));
          if (atMostOnce) run.atMostOnce.add(stepId);
        },
        // Until it is recorded there is nothing to resolve; a run that has ended leaves it unresolved.
        onPromise(promiseId: string) {
          const resolve = (): void => {
            if (ended.has(ctx.run.runId)) return;
            perdure.client.resolvePromise(promiseId, 1).catch(() => setTimeout(resolve, SIGNAL_EVERY_MS));
          };
          resolve();
        },
        runId: ctx.run.runId,
        onHandle: (name: string) => run.handled.add(name),
        handled: new Set<string>(),
      };
      const value = await interpret(program, ctx, world, trace);
      return { value, trace };
    };
    const workflows = [
      workflow('child', async (ctx, { name, fails }: ChildInput) => {
        if (fails) throw new TerminalError('It fails.');
        return ctx.step('name', () => name);
      }),
      workflow('once', handler),
      workflow('again', { retry: { maxAttempts: RUN_ATTEMPTS, initial: 1, jitter: 0 } }, handler),
    ];
    const connection = interrupting({
      connection: perdure.connection,
      sql: perdure.database.sql,
      random: new Seeded(seed),
      share: 0.7,
      onClaim({ runId, leaseToken, retries }) {
        of(runId).leaseToken = leaseToken;
        // Not counted when the retry is recorded: that may be committed although its call failed.
        of(runId).epoch = retries;
      },
      onCommitted({ method, runId, request }) {
        if (method === 'completeStep') noteRecorded(of(runId), request as CompleteStepRequest);
        if (method === 'completeWorkflow') {
          const { finalStep, leaseToken } = request as CompleteWorkflowRequest;
          if (finalStep !== undefined) noteRecorded(of(runId), { ...finalStep, leaseToken });
        }
      },
      async onWrite(runId) {
        const run = of(runId);
        const { cancelAtWrite, handEvery } = caseOfRun.get(runId) ?? { cancelAtWrite: 0, handEvery: 0 };
        if (++run.writes === cancelAtWrite) await perdure.workflows.cancelRun({ runId });
        // Not awaited: the writes of a run keep their order.
        if (handEvery > 0 && run.writes % handEvery === 0) hands.push(endStepByHand(runId, run.writes / handEvery));
      },
    });
    const workers: Worker[] = [];
    for (let n = 0; n < 2; n++) {
      workers.push(await perdure.startWorker({ taskQueue, workflows, warmRuns, concurrency: AT_ONCE, connection }));
    }
    let byHand = 0;
    let forks = 0;
    const hands: Promise<void>[] = [];
    /** Skips or fails a step that has no outcome; it may get one meanwhile. */
    const endStepByHand = async (runId: string, choice: number) => {
      const open = await perdure.database.sql<{ step_id: string }[]>`
        select step_id from perdure.step_runs
        where run_id = ${runId} and attempt_key = 0 and not is_cut and kind <> 'UPDATE' and (status = 'RUNNING' or next_retry_at is not null)
        order by seq`;
      const stepId = open[choice % open.length]?.step_id;
      if (stepId === undefined) return;
      const run = perdure.client.handle(runId);
      const ending =
        choice % 2 === 0 ? run.skipStep(stepId) : run.failStep(stepId, new TerminalError(`${stepId} by hand`));
      await ending.then(
        () => byHand++,
        (error: { readonly reason?: string }) => {
          if (error.reason !== 'STEP_ENDED' && error.reason !== 'WRONG_RUN_STATE') problems.push(String(error));
        },
      );
    };
    const problems: string[] = [];
    const open = new Set<string>();
    let answered = 0;
    const sendUpdate = async (run: Observed, runId: string, name: string, number: number) => {
      run.updating.add(name);
      const sending = perdure.client.handle(runId).update(`${name} update`, number, { requestId: `${name} ${number}` });
      // One that the run cannot answer any more is refused.
      const answer = await sending.then(
        (value) => {
          answered++;
          return value;
        },
        () => number,
      );
      if (answer !== number) problems.push(`update ${number} of ${name} to run ${runId} got the answer ${answer}`);
      run.updating.delete(name);
    };
    const sendSignals = async (runId: string) => {
      const run = of(runId);
      const number = run.signals++;
      for (const name of run.handled) if (!run.updating.has(name)) void sendUpdate(run, runId, name, number);
      // One after the other: the order of sending is that of the numbers.
      for (const name of SIGNALS) {
        await perdure.client.handle(runId).signal(name, number, { requestId: `${name} ${number}` });
        await perdure.client.publish(`${name} event`, number, { key: runId });
      }
    };
    const feeder = every(monotonicClock, SIGNAL_EVERY_MS, () => {
      for (const runId of open) {
        open.delete(runId);
        // A run that has ended takes none.
        void sendSignals(runId).then(
          () => open.add(runId),
          () => undefined,
        );
      }
    });
    const waiting = [...cases];
    const lane = async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const type = next.flavour.runRetries ? 'again' : 'once';
        const handle = await perdure.client.start(type, next.seed, { taskQueue, maxLostLeases: 1_000 });
        caseOfRun.set(handle.runId, next);
        open.add(handle.runId);
        const outcome = await handle.result({ timeout: TIMEOUT_MS }).then(
          (result) => ({ result: result as { value: unknown; trace: Trace } }),
          (error: Error) => ({ error }),
        );
        if ('error' in outcome && outcome.error.name === 'AwaitTimeoutError') {
          const { run } = await perdure.workflows.getRun({ runId: handle.runId });
          problems.push(
            `hangs: ${JSON.stringify(run, (_, value) => (typeof value === 'bigint' ? Number(value) : value))}`,
          );
        }
        ended.add(handle.runId);
        const { steps } = await perdure.workflows.getHistory({ runId: handle.runId, pageSize: 1_000 });
        for (const problem of await checkSignals(handle.runId, steps))
          problems.push(`program ${next.seed}: ${problem}`);
        for (const problem of await checkReference(next, outcome)) problems.push(`program ${next.seed}: ${problem}`);
        for (const problem of check(next, outcome, of(handle.runId), steps)) {
          problems.push(`program ${next.seed} (run ${handle.runId}): ${problem}`);
        }
        const from = steps.filter(({ isLatest, isCut }) => isLatest && !isCut);
        const stepId = from[next.forkAt % from.length]?.stepId;
        if (next.forkAt > 0 && stepId !== undefined) await executeFork(next, handle, stepId);
      }
    };
    /** A fork sees what its origin has seen before the step, in the same order, and continues from there. */
    const executeFork = async (origin: Case, { runId: originId }: { readonly runId: string }, stepId: string) => {
      const fork = await perdure.client.fork({ runId: originId }, stepId);
      const { runId } = fork;
      const one = { ...origin, cancelAtWrite: 0, handEvery: 0 };
      caseOfRun.set(runId, one);
      open.add(runId);
      forks++;
      const outcome = await fork.result({ timeout: TIMEOUT_MS }).then(
        (result) => ({ result: result as { value: unknown; trace: Trace } }),
        (error: Error) => ({ error }),
      );
      ended.add(runId);
      const { steps } = await perdure.workflows.getHistory({ runId, pageSize: 1_000 });
      const kept = new Set(
        steps
          .filter(({ workerId, leaseToken }) => leaseToken <= keptUpTo(originId) && workerId !== '')
          .map(({ stepId: id }) => id),
      );
      for (const id of kept) of(runId).bodies.set(id, 1);
      const problem = (text: string) =>
        problems.push(`program ${origin.seed} (run ${runId}, fork of ${originId} from ${stepId}): ${text}`);
      for (const text of check(one, outcome, of(runId), steps)) problem(text);
      const seenBy = (id: string) =>
        (of(id).traces.at(-1)?.trace ?? []).flatMap((entry) => {
          const result = stepIdOf(entry);
          return result !== undefined && kept.has(result) ? [entry] : [];
        });
      const [before, after] = [seenBy(originId), seenBy(runId)];
      // What was recorded when the origin's code had ended, the fork sees and its origin did not.
      if (after.some((entry, index) => index < before.length && entry !== before[index]))
        problem(`${after.join(' | ')} after ${before.join(' | ')}`);
    };
    const keptUpTo = (originId: string) => of(originId).leaseToken;
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    feeder();
    await Promise.all(hands);
    // Children outlive no parent: their cancel is requested when it ends, and they end by themselves.
    await until('the children of ended runs to end', async () => {
      const rows = await perdure.database.sql`
        select 1 from perdure.workflow_runs where parent_run_id is not null and finished_at is null limit 1`;
      return rows.length === 0;
    });
    await Promise.all(workers.map((worker) => worker.shutdown(0)));
    const isRandom = ONLY === undefined && cases.length >= 100;
    if (answered === 0 && isRandom) problems.push('no update was answered');
    if (forks === 0 && isRandom) problems.push('no run was forked');
    if (byHand === 0 && isRandom) problems.push('no step was ended by hand');
    return problems;
  }

  /** Each signal is received by one step at most, and the steps of a name get its signals in their order. */
  async function checkSignals(runId: string, steps: readonly StepAttempt[]): Promise<string[]> {
    const rows = await perdure.database.sql<{ name: string; seq: number; consumed_by: string | null }[]>`
      select name, seq, consumed_by from perdure.signals where run_id = ${runId} order by seq`;
    const problems: string[] = [];
    const received = steps.filter(
      (step) => step.kind === StepKind.SIGNAL && step.status === StepStatus.COMPLETED && step.isLatest && !step.isCut,
    );
    for (const name of SIGNALS) {
      const consumed = rows.filter((row) => row.name === name && row.consumed_by !== null);
      const byStep = received.filter((step) => step.awaits === name).sort((a, b) => a.seq - b.seq);
      const expected = byStep.map(({ stepId }) => stepId).join();
      const got = consumed.map((row) => row.consumed_by).join();
      if (got !== expected) problems.push(`signals '${name}' went to ${got}, but the steps are ${expected}`);
      const firstLeft = rows.findIndex((row) => row.name === name && row.consumed_by === null);
      if (firstLeft >= 0 && consumed.some((row) => row.seq > (rows[firstLeft]?.seq ?? 0))) {
        problems.push(`a signal '${name}' was passed over`);
      }
    }
    return problems;
  }

  for (const seed of SEEDS) {
    for (const [way, warmRuns] of [
      ['by a replay on another worker', 0],
      ['by a worker that kept it in memory', 1_000],
    ] as const) {
      it(`is the same whenever the run is continued ${way}, for ${PROGRAMS} programs of seed ${seed}`, async () => {
        const known = ONLY === undefined ? KNOWN.flatMap((one) => Array.from({ length: 5 }, () => caseOf(one))) : [];
        const cases = [
          ...Array.from({ length: PROGRAMS }, (_, n) => caseOf(Number(ONLY ?? seed * 1_000_003 + n * 17))),
          ...known,
        ];
        const problems = await execute(cases, seed, warmRuns);
        expect(problems.slice(0, 10), `${problems.length} problems`).toEqual([]);
      }, 600_000);
    }
  }
});

function noteRecorded(
  { recorded }: Observed,
  { stepId, leaseToken }: Pick<CompleteStepRequest, 'stepId' | 'leaseToken'>,
) {
  recorded.set(stepId, Math.min(recorded.get(stepId) ?? leaseToken, leaseToken));
}

/**
 * @returns the place of the first entry that the code has seen and that was not recorded under its lease or an earlier one; what a
 * retry of the run has taken back counts as recorded
 */
function firstUnrecorded({ recorded }: Observed, { trace, leases }: Execution): number {
  const place = trace.findIndex((entry, index) => {
    const stepId = stepIdOf(entry);
    return stepId !== undefined && (recorded.get(stepId) ?? Number.POSITIVE_INFINITY) > (leases[index] ?? 0);
  });
  return place < 0 ? trace.length : place;
}

/** Without races, at-most-once bodies and cancels a program comes to what it would come to without any interruption. */
async function checkReference(one: Case, outcome: Outcome): Promise<string[]> {
  if (one.cancelAtWrite > 0 || one.handEvery > 0 || !isDeterministic(one.flavour)) return [];
  const expected = await referenceOf(one.program);
  const got = outcomeText('result' in outcome ? outcome.result : { error: outcome.error.cause });
  return got === expected ? [] : [`it came to ${got}, but without interruptions to ${expected}`];
}

type Outcome = { readonly result: { readonly value: unknown; readonly trace: Trace } } | { readonly error: Error };

function* check(one: Case, outcome: Outcome, observed: Observed, steps: readonly StepAttempt[]): Iterable<string> {
  // A write may be committed although its call failed.
  const unnoted = new Set<string | undefined>();
  for (const step of steps) {
    if (step.status !== StepStatus.COMPLETED || observed.recorded.has(step.stepId)) continue;
    noteRecorded(observed, step);
    unnoted.add(step.stepId);
  }
  // One execution has seen what another had, and more: nothing else, and in no other order.
  const epochs = new Map<number, Trace[]>();
  for (const execution of observed.traces) {
    const { epoch, trace } = execution;
    // What was lost before it was recorded, and what the code made of it, has left nothing.
    const visible = trace.slice(0, firstUnrecorded(observed, execution));
    epochs.set(epoch, [...(epochs.get(epoch) ?? []), visible]);
  }
  for (const { result, problem } of observed.premature) if (!unnoted.has(result)) yield problem;
  for (const [epoch, traces] of epochs) {
    traces.sort((a, b) => a.length - b.length);
    for (let n = 1; n < traces.length; n++) {
      const [shorter, longer] = [traces[n - 1] as Trace, traces[n] as Trace];
      const place = shorter.findIndex((entry, index) => entry !== longer[index]);
      if (place >= 0) {
        yield `attempt ${epoch} saw at ${place}: ${shorter[place]} and ${longer[place]} in\n${shorter.join(' | ')}\n${longer.join(' | ')}`;
      }
    }
  }
  if ('result' in outcome) {
    const last = [...(epochs.get(observed.epoch) ?? [])].at(-1) ?? [];
    const { trace } = outcome.result;
    if (trace.some((entry, index) => entry !== last[index])) yield `its output is not what it saw: ${last.join(' | ')}`;
  } else {
    const { name, message, cause } = outcome.error;
    const isCancel = name === 'WorkflowCancelledError';
    const isOwn =
      cause instanceof Error &&
      /^(Error|TerminalError|StepTimeoutError|WorkerLostError|CancelledError)$/.test(cause.name);
    if (isCancel && one.cancelAtWrite === 0) yield 'it was cancelled though nobody asked';
    if (!isCancel && !(name === 'WorkflowFailedError' && isOwn))
      yield `it ended with ${name} ${message} ${nameOf(cause)}\n${steps.map(lineOf).join('\n')}`;
  }
  for (const [stepId, times] of observed.bodies) {
    if (observed.atMostOnce.has(stepId) && times > 1) yield `at-most-once step ${stepId} was executed ${times} times`;
  }
  for (const step of steps) {
    if (step.status === StepStatus.RUNNING) yield `step ${step.stepId} is open though the run has ended`;
    const hasBody = step.kind === StepKind.FUNCTION;
    if (step.status === StepStatus.COMPLETED && hasBody && !observed.bodies.has(step.stepId)) {
      yield `step ${step.stepId} is COMPLETED, but its body was never executed`;
    }
  }
}

const lineOf = (step: StepAttempt): string =>
  `${step.seq} ${step.stepId}/${step.attemptNumber} ${StepStatus[step.status]} token ${step.leaseToken} event ${step.eventSeq}` +
  `${step.isCut ? ' cut' : ''}${step.isLatest ? '' : ' old'}${step.nextRetryAt === undefined ? '' : ' retry'} ${step.failure?.message ?? ''}`;
