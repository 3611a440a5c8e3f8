import type { Worker } from '../../worker/worker.js';
import type { WorkerOptions } from '../../worker/worker-options.js';
import type { Workflow } from '../../workflow.js';
import type { UnservedRuns } from '../time/test-time.js';

interface Served {
  readonly namespace: string;
  readonly taskQueue: string;
  readonly workflows: ReadonlyMap<string, Workflow>;
  readonly worker: Worker;
  /** Started by the environment, which may replace it. */
  readonly isOwn: boolean;
}

/** The workers of an environment: those that the test has started, and those that it starts itself for queues that nobody serves. */
export class Serving {
  /** What it executes by itself, by name. */
  readonly #known = new Map<string, Workflow>();
  readonly #served: Served[] = [];
  readonly #elsewhere = new Map<string, (taskQueue: string) => Promise<void>>();
  readonly #start: (options: WorkerOptions) => Promise<Worker>;
  /** One after the other, so that a queue does not get two. */
  #last: Promise<unknown> = Promise.resolve();

  /** @param start starts a worker with the options of the environment */
  constructor(start: (options: WorkerOptions) => Promise<Worker>) {
    this.#start = start;
  }

  know(workflow: Workflow): void {
    this.#known.set(workflow.name, workflow);
  }

  forget(name: string): void {
    this.#known.delete(name);
  }

  get known(): readonly Workflow[] {
    return [...this.#known.values()];
  }

  /** @returns the definition that has the name */
  find(name: string): Workflow | undefined {
    return this.#known.get(name);
  }

  /** Starts a worker of the test. */
  async add(options: WorkerOptions): Promise<Worker> {
    const worker = await this.#start(options);
    const { namespace = 'default', taskQueue, workflows } = options;
    this.#served.push({ namespace, taskQueue, workflows: byName(workflows), worker, isOwn: false });
    return worker;
  }

  /** Sees to it that runs of the workflow are executed as it is defined now. */
  serve(namespace: string, taskQueue: string, name: string): Promise<void> {
    const done = this.#last.then(() => this.#serve(namespace, taskQueue, name));
    this.#last = done.catch(() => undefined);
    return done;
  }

  /**
   * Queues of this namespace get their workers from somebody else.
   *
   * @returns ends that
   */
  serveNamespace(namespace: string, serve: (taskQueue: string) => Promise<void>): () => void {
    this.#elsewhere.set(namespace, serve);
    return () => this.#elsewhere.delete(namespace);
  }

  /** @returns whether one of them has a worker now */
  async onUnserved(runs: readonly UnservedRuns[]): Promise<boolean> {
    let isAny = false;
    for (const { namespace, taskQueue, workflowType } of runs) {
      const elsewhere = this.#elsewhere.get(namespace);
      if (elsewhere !== undefined) await elsewhere(taskQueue);
      else if (this.#known.has(workflowType)) await this.serve(namespace, taskQueue, workflowType);
      else continue;
      isAny = true;
    }
    return isAny;
  }

  async stop(): Promise<void> {
    await this.#last;
    await Promise.all(this.#served.splice(0).map(({ worker }) => worker.shutdown(0)));
  }

  async #serve(namespace: string, taskQueue: string, name: string): Promise<void> {
    const here = this.#served.filter((one) => one.namespace === namespace && one.taskQueue === taskQueue);
    const wanted = this.#known.get(name);
    if (wanted === undefined || here.some((one) => !one.isOwn && one.workflows.has(name))) return;
    const own = here.find((one) => one.isOwn);
    if (own?.workflows.get(name) === wanted) return;
    if (own !== undefined) {
      // Its runs are given back, and continue with the new one.
      this.#served.splice(this.#served.indexOf(own), 1);
      await own.worker.shutdown(0);
    }
    const workflows = [...this.#known.values()];
    const worker = await this.#start({ namespace, taskQueue, workflows });
    this.#served.push({ namespace, taskQueue, workflows: new Map(this.#known), worker, isOwn: true });
  }
}

const byName = (workflows: readonly Workflow[]) => new Map(workflows.map((one) => [one.name, one]));
