import { createHash } from 'node:crypto';
import { durationMs } from '../../duration.js';
import { AwaitTimeoutError } from '../../errors/errors.js';
import type { Worker } from '../../worker/worker.js';
import type { Workflow } from '../../workflow.js';
import type { BodyCall } from '../bodies/body-call.js';
import { dropping, type Fate, type WorkerWrite } from '../connection/dropping.js';
import type { CrashHost } from './crash-host.js';
import type { CrashOptions, CrashRun } from './crash-options.js';
import { type CrashPoint, type NamedRun, WriteNames } from './crash-point.js';
import { comparable, type Outcome } from './outcome.js';

/** The same in each execution; each has a namespace to itself. */
const WORKFLOW_ID = 'run';

export interface ExecutionOptions {
  readonly host: CrashHost;
  readonly namespace: string;
  readonly workflows: readonly Workflow[];
  readonly workflow: Workflow;
  readonly input: unknown;
  readonly options: CrashOptions<unknown>;
  /** Where a worker is dropped; undefined: nowhere. */
  readonly point: CrashPoint | undefined;
}

/** What one execution came to. */
export interface Executed {
  readonly outcome: Outcome;
  /** What kept it from its end: the error of `drive`, or that the result did not come in time; undefined when it has ended. */
  readonly failure?: unknown;
  /** The writes that workers were about to send, by name, until the crash. */
  readonly writes: readonly string[];
  readonly hasCrashed: boolean;
  readonly bodies: number;
}

/** Executes a workflow once, in a namespace of its own, and drops a worker at one write. */
export class CrashExecution {
  readonly #given: ExecutionOptions;
  readonly #names = new WriteNames(WORKFLOW_ID);
  readonly #writes: string[] = [];
  readonly #runs = new Map<string, NamedRun>();
  /** The worker of each task queue, and those that were dropped. */
  readonly #workers = new Map<string, Promise<Worker>>();
  readonly #dropped: Promise<Worker>[] = [];
  /** A test that still waits for something, although its time is up, does so no longer. */
  readonly #over = new AbortController();
  #hasCrashed = false;

  constructor(given: ExecutionOptions) {
    this.#given = given;
  }

  async execute(): Promise<Executed> {
    const { host, namespace, options, workflow, input } = this.#given;
    const endServing = host.serveNamespace(namespace, async (taskQueue) => {
      await this.#serve(taskQueue);
    });
    try {
      await this.#serve(host.taskQueue);
      const client = host.clientOf(namespace);
      const start = { ...options.start, taskQueue: host.taskQueue, workflowId: WORKFLOW_ID };
      const handle = await client.start(workflow as Workflow<unknown, unknown>, input, start);
      const run: CrashRun = {
        handle,
        client,
        untilWaiting: (name) => host.untilWaiting(handle, name, this.#over.signal),
        until: (look) => host.until(look, this.#over.signal),
        advance: (duration) => host.advance(duration),
      };
      const { failure, ...ended } = await this.#end(run);
      const state = await handle.state();
      const probe = options.probe === undefined ? undefined : await options.probe(run);
      await this.#endOthers(client);
      return {
        outcome: this.#comparable({ ...ended, state, probe }),
        ...(failure === undefined ? {} : { failure }),
        writes: this.#writes,
        hasCrashed: this.#hasCrashed,
        bodies: this.#bodies().length,
      };
    } finally {
      this.#over.abort(new Error('The execution is over.'));
      endServing();
      const workers = await Promise.all([...this.#workers.values(), ...this.#dropped]);
      await Promise.all(workers.map((worker) => worker.shutdown(0)));
    }
  }

  async #end(run: CrashRun): Promise<Outcome & Pick<Executed, 'failure'>> {
    const { options } = this.#given;
    const timeout = durationMs(options.timeout ?? '30s', 'timeout');
    try {
      if (options.drive !== undefined) await within(timeout, options.drive(run));
    } catch (error) {
      return { error, failure: error };
    }
    try {
      return { result: await run.handle.result({ timeout }) };
    } catch (error) {
      return error instanceof AwaitTimeoutError ? { error, failure: error } : { error };
    }
  }

  #bodies(): readonly BodyCall[] {
    return this.#given.host.bodies.calls.filter(({ namespace }) => namespace === this.#given.namespace);
  }

  #comparable({ result, error, state, probe }: Outcome): Outcome {
    const { namespace, options } = this.#given;
    const names = new Map([...this.#runs].map(([runId, { workflowId }]) => [runId, `<${workflowId}>`]));
    names.set(namespace, '<namespace>');
    const normalized = (value: unknown) => {
      const plain = comparable(value, names);
      return options.normalize === undefined ? plain : options.normalize(plain);
    };
    return {
      ...(result === undefined ? {} : { result: normalized(result) }),
      ...(error === undefined ? {} : { error: normalized(error) }),
      ...(state === undefined ? {} : { state: normalized(state) }),
      ...(options.probe === undefined ? { effects: this.#effects() } : { probe: normalized(probe) }),
      ...this.#executedTwice(),
    };
  }

  #effects(): Readonly<Record<string, string>> {
    const keys = new Map<string, Set<string>>();
    for (const { outcome, workflowId, stepId, idempotencyKey } of this.#bodies()) {
      if (outcome.kind !== 'returned') continue;
      const step = `${workflowId}: ${stepId}`;
      keys.set(step, (keys.get(step) ?? new Set()).add(idempotencyKey));
    }
    // The runs of a chain have the same steps.
    return Object.fromEntries([...keys].map(([step, { size }]) => [step, size === 1 ? 'once' : `in ${size} runs`]));
  }

  /** Steps that may be executed once, and were executed more often. */
  #executedTwice(): { readonly atMostOnce?: Readonly<Record<string, string>> } {
    const times = new Map<string, number>();
    for (const { isAtMostOnce, workflowId, stepId } of this.#bodies()) {
      if (isAtMostOnce) times.set(`${workflowId}: ${stepId}`, (times.get(`${workflowId}: ${stepId}`) ?? 0) + 1);
    }
    const wrong = [...times].filter(([, count]) => count > 1);
    return wrong.length === 0
      ? {}
      : { atMostOnce: Object.fromEntries(wrong.map(([step, count]) => [step, `executed ${count} times`])) };
  }

  /** Children that were left alone would keep the clock busy. */
  async #endOthers(client: CrashRun['client']): Promise<void> {
    for await (const { runId, finishedAt } of client.list()) {
      if (finishedAt === undefined) await client.terminate({ runId }, 'The crash test is over.').catch(() => undefined);
    }
  }

  /** Sees to it that a task queue has a worker. */
  #serve(taskQueue: string): Promise<Worker> {
    let worker = this.#workers.get(taskQueue);
    if (worker === undefined) {
      worker = this.#startWorker(taskQueue);
      this.#workers.set(taskQueue, worker);
    }
    return worker;
  }

  #startWorker(taskQueue: string): Promise<Worker> {
    const { host, namespace, workflows, options } = this.#given;
    const connection = dropping({
      connection: host.connection,
      loses: 'worker',
      onLeased: ({ runId, workflowId, workflowType }) => this.#runs.set(runId, { workflowId, workflowType }),
      fateOf: (write) => this.#fateOf(write, taskQueue),
      endLeases: (leases) => host.time.dropLeases(leases),
    });
    const seedOf = ({ workflowId }: NamedRun) => createHash('sha256').update(workflowId).digest('hex').slice(0, 32);
    return host.startWorker({ ...options.worker, namespace, taskQueue, workflows, connection }, seedOf);
  }

  #fateOf(write: WorkerWrite, taskQueue: string): Fate {
    if (this.#hasCrashed) return 'lives';
    const name = this.#names.next(write, this.#runs.get(write.runId));
    this.#writes.push(name);
    const { point } = this.#given;
    if (point === undefined || point.write !== name) return 'lives';
    this.#hasCrashed = true;
    const dead = this.#workers.get(taskQueue);
    if (dead !== undefined) this.#dropped.push(dead);
    this.#workers.delete(taskQueue);
    // The next one is there when the runs are free again.
    void this.#serve(taskQueue);
    return point.side === 'before' ? 'dies_before' : 'dies_after';
  }
}

/** @throws {Error} when it takes longer */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`drive did not end within ${ms} ms.`)), ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}
