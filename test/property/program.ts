import {
  CancelledError,
  ChildFailedError,
  type StepContext,
  StepTimeoutError,
  TerminalError,
  type WorkflowContext,
} from '@perdure/worker-sdk';
import type { Seeded } from '../support/seeded.js';

/** A random workflow, as a tree that {@link interpret} executes. */
export type Program =
  | { readonly kind: 'step'; readonly name: string; readonly step: StepSpec }
  | { readonly kind: 'sleep'; readonly name: string; readonly ms: number }
  /** `timeoutMs` null: waits until there is one. Events have the run's id as their key. */
  | { readonly kind: 'signal' | 'event' | 'promise'; readonly name: string; readonly timeoutMs: number | null }
  /** A child, which fails or returns its name; the code sees no more of its error than that. */
  | { readonly kind: 'child'; readonly name: string; readonly fails: boolean }
  /** From here on the run answers updates of this name. */
  | { readonly kind: 'handle'; readonly name: string }
  | { readonly kind: 'sequence' | 'all' | 'settled' | 'race'; readonly children: readonly Program[] }
  | { readonly kind: 'try'; readonly body: Program; readonly handler: Program }
  | { readonly kind: 'finally'; readonly body: Program; readonly cleanup: Program }
  | { readonly kind: 'clean-up'; readonly body: Program };

export interface StepSpec {
  /** Counted attempts that fail before one succeeds. */
  readonly failures: number;
  readonly maxAttempts: number;
  readonly atMostOnce: boolean;
  readonly isLazy: boolean;
  /** Of a body that hangs until its timeout, in ms; 0: it does not. */
  readonly hangsForMs: number;
  /** How long a body works, in ms; 0: it returns at once. */
  readonly takesMs: number;
  readonly retryDelayMs: number;
  /** Fails in this many attempts of the run, for good. */
  readonly failsInEpochs: number;
}

export interface Flavour {
  readonly races: boolean;
  readonly atMostOnce: boolean;
  readonly timeouts: boolean;
  readonly runRetries: boolean;
  readonly lazySteps: boolean;
}

const NAMES = ['a', 'b', 'c', 'd', 'e'];
/** Long enough to give the run back. */
const SLEEPS_MS = [0, 5, 250, 300];
export const SIGNALS = ['ping', 'pong'] as const;
/** What a child is given. */
export interface ChildInput {
  readonly name: string;
  readonly fails: boolean;
}

export function randomProgram(random: Seeded, flavour: Flavour, depth = 0): Program {
  const again = () => randomProgram(random, flavour, depth + 1);
  const children = () => Array.from({ length: 2 + random.below(2) }, again);
  const dice = depth >= 3 ? random.below(5) - 1 : depth === 0 ? 4 + random.below(7) : random.below(12) - 1;
  if (dice < 0 && random.chance(0.25)) {
    return { kind: 'child', name: random.pick(['son', 'daughter']), fails: random.chance(0.2) };
  }
  if (dice < 0 && random.chance(0.25)) return { kind: 'handle', name: random.pick(SIGNALS) };
  if (dice < 0) {
    // Whether a signal comes in time is a race.
    const timeoutMs = flavour.races ? random.pick([null, null, 0, 20, 300]) : null;
    return { kind: random.pick(['signal', 'event', 'promise'] as const), name: random.pick(SIGNALS), timeoutMs };
  }
  if (dice < 3) return { kind: 'step', name: random.pick(NAMES), step: randomStep(random, flavour) };
  if (dice < 4) return { kind: 'sleep', name: random.pick(['nap', 'rest']), ms: random.pick(SLEEPS_MS) };
  if (dice < 6) return { kind: 'sequence', children: children() };
  if (dice < 7) return { kind: flavour.races ? 'all' : 'settled', children: children() };
  if (dice < 8) return { kind: flavour.races ? 'race' : 'settled', children: children() };
  if (dice < 9) return { kind: 'try', body: again(), handler: again() };
  if (dice < 10) return { kind: 'finally', body: again(), cleanup: again() };
  return { kind: 'clean-up', body: again() };
}

function randomStep(random: Seeded, flavour: Flavour): StepSpec {
  const atMostOnce = flavour.atMostOnce && random.chance(0.3);
  const maxAttempts = atMostOnce ? 1 : 1 + random.below(3);
  const hangs = flavour.timeouts && !atMostOnce && random.chance(0.1);
  return {
    failures: random.chance(0.6) ? 0 : random.below(4),
    maxAttempts,
    atMostOnce,
    isLazy: flavour.lazySteps && !atMostOnce && random.chance(0.4),
    hangsForMs: hangs ? 20 : 0,
    takesMs: random.pick([0, 0, 0, 1, 4]),
    retryDelayMs: random.pick([0, 1, 1, 250]),
    failsInEpochs: flavour.runRetries && random.chance(0.3) ? 1 : 0,
  };
}

/** What an execution has seen: one entry per result, in order. */
export type Trace = string[];

/** What is known outside of the run. */
export interface World {
  /** How often the run has begun anew after it failed. */
  readonly epoch: () => number;
  /** A body begins; its step was requested when the code had seen so many entries of its trace. */
  readonly onBody: (stepId: string, seen: number, spec: StepSpec) => void;
  /** The code has seen another entry. */
  readonly onSeen: () => void;
  /** The code has made a promise: somebody resolves it. */
  readonly onPromise: (promiseId: string) => void;
  readonly runId: string;
  /** The code answers updates of the name: somebody sends some. */
  readonly onHandle: (name: string) => void;
  /** What this execution of the code handles. */
  readonly handled: Set<string>;
}

type Ctx = Pick<
  WorkflowContext,
  'step' | 'sleep' | 'child' | 'handle' | 'waitForSignal' | 'waitForEvent' | 'promise' | 'uncancellable' | 'signal'
>;

/** Executes a program, and notes everything that its code sees. */
export async function interpret(program: Program, ctx: Ctx, world: World, trace: Trace): Promise<unknown> {
  const run = (child: Program) => interpret(child, ctx, world, trace);
  const see = (call: () => Promise<unknown>) => seen(trace, 'name' in program ? program.name : '', ctx, world, call);
  switch (program.kind) {
    case 'step':
      return see(() => callStep(program.name, program.step, ctx, world, trace.length));
    case 'sleep':
      return see(() => ctx.sleep(program.name, program.ms));
    case 'signal': {
      const { name, timeoutMs } = program;
      const wait = () =>
        timeoutMs === null ? ctx.waitForSignal<number>(name) : ctx.waitForSignal<number>(name, { timeout: timeoutMs });
      // Which wait of several gets which signal depends on the order of results: it is part of the trace alone.
      return (await see(wait)) === null ? 'nothing' : name;
    }
    case 'event': {
      const { name, timeoutMs } = program;
      const limit = timeoutMs === null ? {} : { timeout: timeoutMs };
      const wait = () => ctx.waitForEvent<number>(`${name} event`, { key: world.runId, ...limit });
      return (await see(wait)) === null ? 'nothing' : name;
    }
    case 'promise': {
      const { name, timeoutMs } = program;
      const wait = () => {
        const promise =
          timeoutMs === null
            ? ctx.promise<number>(`${name} promise`)
            : ctx.promise<number>(`${name} promise`, { timeout: timeoutMs });
        world.onPromise(promise.id);
        return promise.result();
      };
      return (await see(wait)) === null ? 'nothing' : name;
    }
    case 'child': {
      const { name, fails } = program;
      const call = () =>
        ctx.child<string>('child', { name, fails }, { name }).catch((error: unknown) => {
          // The run id in its message is another one in each attempt of the run.
          throw error instanceof ChildFailedError ? new Error(`${name} ${error.name}`, { cause: error }) : error;
        });
      return see(call);
    }
    case 'handle':
      if (!world.handled.has(program.name)) handle(program.name, ctx, world, trace);
      return 'handled';
    case 'sequence': {
      const values: unknown[] = [];
      for (const child of program.children) values.push(await run(child));
      return values;
    }
    case 'all':
      return Promise.all(program.children.map(run));
    case 'settled':
      return (await Promise.allSettled(program.children.map(run))).map((one) =>
        one.status === 'fulfilled' ? one.value : `failed: ${nameOf(one.reason)}`,
      );
    case 'race':
      return Promise.race(program.children.map(run));
    case 'try':
      try {
        return await run(program.body);
      } catch (error) {
        trace.push(`caught ${nameOf(error)}`);
        world.onSeen();
        return [`caught ${nameOf(error)}`, await run(program.handler)];
      }
    case 'finally':
      try {
        return await run(program.body);
      } finally {
        await run(program.cleanup);
      }
    case 'clean-up':
      return ctx.uncancellable(() => run(program.body));
  }
}

const NOTE: StepSpec = {
  failures: 0,
  maxAttempts: 3,
  atMostOnce: false,
  isLazy: false,
  hangsForMs: 0,
  takesMs: 0,
  retryDelayMs: 0,
  failsInEpochs: 0,
};

function handle(name: string, ctx: Ctx, world: World, trace: Trace): void {
  world.handled.add(name);
  ctx.handle<number, unknown>(`${name} update`, async (number) => {
    trace.push(`${name} update: ${number}`);
    world.onSeen();
    const before = trace.length;
    const body = ({ stepId }: StepContext) => world.onBody(stepId, before, NOTE);
    await seen(trace, `${name} update ${number}`, ctx, world, () => ctx.step('note', body));
    return number;
  });
  world.onHandle(name);
}

/** The step whose result an entry is; undefined for what is never seen before it is recorded. */
export const stepIdOf = (entry: string | undefined): string | undefined =>
  entry === undefined ? undefined : /^\w+: "(\w+(?:#\d+)?) try/.exec(entry)?.[1];

async function seen(
  trace: Trace,
  name: string,
  ctx: Ctx,
  world: World,
  call: () => Promise<unknown>,
): Promise<unknown> {
  // A signal that is aborted because the worker lost the run is of no interest: nothing that the code does then counts.
  const aborted = () => (isCancelled(ctx.signal.reason) ? ' (cancelled)' : '');
  try {
    const value = await call();
    trace.push(`${name}: ${JSON.stringify(value)}${aborted()}`);
    world.onSeen();
    return value;
  } catch (error) {
    trace.push(`${name}: ${nameOf(error)}${aborted()}`);
    world.onSeen();
    throw error;
  }
}

export const nameOf = (error: unknown): string =>
  error instanceof Error ? `${error.name} ${error.message}` : String(error);

/** The spec behind a step's options; for {@link referenceOf}. */
const specs = new WeakMap<object, StepSpec>();

function callStep(name: string, spec: StepSpec, ctx: Ctx, world: World, seenBefore: number): Promise<unknown> {
  const options = {
    retry: { maxAttempts: spec.maxAttempts, initial: spec.retryDelayMs, backoff: 'fixed' as const, jitter: 0 },
    ...(spec.atMostOnce ? { begin: 'durable' as const } : {}),
    ...(spec.isLazy ? { record: 'lazily' as const } : {}),
    ...(spec.hangsForMs > 0 ? { timeout: spec.hangsForMs } : {}),
  };
  specs.set(options, spec);
  return ctx.step(
    name,
    async (step) => {
      world.onBody(step.stepId, seenBefore, spec);
      if (spec.takesMs > 0) await new Promise((resolve) => setTimeout(resolve, spec.takesMs));
      if (step.signal.aborted) throw step.signal.reason;
      if (spec.failsInEpochs > world.epoch()) throw new TerminalError(`${step.stepId} fails in this attempt`);
      if (spec.hangsForMs > 0 && step.countedAttempt === 1) await new Promise(() => undefined);
      if (step.countedAttempt <= spec.failures) throw new Error(`${step.stepId} try ${step.countedAttempt}`);
      return `${step.stepId} try ${step.countedAttempt}`;
    },
    options,
  );
}

const isCancelled = (error: unknown): boolean => error instanceof CancelledError;

/** Whether what a program comes to is the same however its results are ordered. */
export const isDeterministic = ({ races, atMostOnce, runRetries }: Flavour): boolean =>
  !races && !atMostOnce && !runRetries;

/** What a deterministic program comes to when nothing ever interrupts it, without Perdure. Numbers of repeated names are left out. */
export async function referenceOf(program: Program): Promise<string> {
  const uses = new Map<string, number>();
  const idOf = (name: string) => {
    const use = (uses.get(name) ?? 0) + 1;
    uses.set(name, use);
    return use === 1 ? name : `${name}#${use}`;
  };
  const ctx = {
    signal: new AbortController().signal,
    sleep: () => Promise.resolve(),
    handle: () => undefined,
    child(_: string, { name, fails }: ChildInput) {
      idOf(name);
      return fails ? Promise.reject(new ChildFailedError()) : Promise.resolve(name);
    },
    waitForSignal: () => Promise.resolve(1),
    waitForEvent: () => Promise.resolve(1),
    promise: () => ({ id: '', result: () => Promise.resolve(1) }),
    uncancellable: <T>(work: () => Promise<T>) => work(),
    async step(name: string, _: unknown, options: { readonly retry: { readonly maxAttempts: number } }) {
      const stepId = idOf(name);
      const spec = specs.get(options) as StepSpec;
      for (let countedAttempt = 1; ; countedAttempt++) {
        const hangs = spec.hangsForMs > 0 && countedAttempt === 1;
        if (!hangs && countedAttempt > spec.failures) return `${stepId} try ${countedAttempt}`;
        if (countedAttempt < options.retry.maxAttempts) continue;
        if (!hangs) throw new Error(`${stepId} try ${countedAttempt}`);
        throw new StepTimeoutError(`Step '${stepId}' did not end within its timeout of ${spec.hangsForMs} ms.`);
      }
    },
  };
  const world: World = {
    epoch: () => 0,
    onBody: () => undefined,
    onSeen: () => undefined,
    onPromise: () => undefined,
    runId: '',
    onHandle: () => undefined,
    handled: new Set(),
  };
  return outcomeText(
    await interpret(program, ctx as never, world, []).then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    ),
  );
}

/** A worker and the server both end an attempt that ran past its timeout, each with its own words; the first one is recorded. */
const TIMEOUT =
  /Step '[^']+' did not end within its timeout of \d+ ms\.|The attempt ran past its timeout, and its worker did not end it\./g;

/**
 * What a program came to, without what depends on timing: which use of a repeated name gets which number, and who ended an attempt
 * that ran past its timeout.
 */
export function outcomeText(outcome: { readonly value: unknown } | { readonly error: unknown }): string {
  const text = 'error' in outcome ? nameOf(outcome.error) : JSON.stringify(outcome.value);
  return (text ?? 'undefined').replaceAll(TIMEOUT, 'Ran past its timeout.').replaceAll(/#\d+/g, '');
}
