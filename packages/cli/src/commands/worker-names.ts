import { RpcError } from '@perdure/worker-sdk';
import type { Session } from '../session.js';

/** Names looked up for one list; further workers are shown by their id. */
const MAX_LOOKUPS = 50;

/** Names of workers: identity (`host:pid` by default) and build. A worker that is not found is shown by its id. */
export class WorkerNames {
  readonly #session: Session;
  readonly #names = new Map<string, string>();

  constructor(session: Session) {
    this.#session = session;
  }

  /** Looks up those that are not known yet. */
  async load(workerIds: Iterable<string>): Promise<void> {
    const unknown = [...new Set(workerIds)].filter((id) => id !== '' && !this.#names.has(id)).slice(0, MAX_LOOKUPS);
    await Promise.all(unknown.map(async (id) => this.#names.set(id, await this.#lookUp(id))));
  }

  readonly of = (workerId: string): string => this.#names.get(workerId) ?? workerId;

  async #lookUp(workerId: string): Promise<string> {
    try {
      const { worker } = await this.#session.admin.getWorker({ namespace: this.#session.namespace, workerId });
      if (worker === undefined || worker.identity === '') return workerId;
      return worker.build === '' ? worker.identity : `${worker.identity} (${worker.build})`;
    } catch (error) {
      if (error instanceof RpcError && error.status === 'NOT_FOUND') return workerId;
      throw error;
    }
  }
}
