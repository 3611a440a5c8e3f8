import type { EventDefinition } from '../event.js';
import type { Signal } from '../signal.js';
import type { Update } from '../update.js';
import type { ClientContext } from './await-result.js';
import { getPromise, type PromiseSettlement, type PromiseSummary, rejectPromise, resolvePromise } from './promises.js';
import { type PublishArguments, type PublishedEvent, publishEvent } from './publish-event.js';
import { readState } from './read-state.js';
import { type SignalArguments, sendSignal } from './send-signal.js';
import { sendUpdate, type UpdateArguments } from './send-update.js';

/** What a client sends to runs, and reads of what they say. */
export abstract class ClientMessages {
  protected readonly context: ClientContext;

  /** @param context made by the client */
  protected constructor(context: ClientContext) {
    this.context = context;
  }

  /** Sends a signal to a run, for a workflow id to its open run; see {@link RunHandle.signal}. */
  async signal<Sent>(
    run: { readonly runId: string } | { readonly workflowId: string },
    signal: Signal<Sent, unknown> | string,
    ...sent: SignalArguments<Sent>
  ): Promise<void> {
    await sendSignal(this.context, run, signal as Signal | string, sent);
  }

  /** Sends an update to a run, for a workflow id to its open run, and returns the answer; see {@link RunHandle.update}. */
  async update<Sent, Answer>(
    run: { readonly runId: string } | { readonly workflowId: string },
    update: Update<Sent, Answer, unknown> | string,
    ...sent: UpdateArguments<Sent>
  ): Promise<Answer> {
    return (await sendUpdate(this.context, run, update as Update | string, sent)) as Answer;
  }

  /** Reads the state of a run; see {@link RunHandle.state}. */
  async state<State = unknown>(
    run: { readonly runId: string } | { readonly workflowId: string },
  ): Promise<State | undefined> {
    return (await readState(this.context, run)) as State | undefined;
  }

  /** Publishes an event to every run that waits for it, and for a time to waits that look back. */
  async publish<Published>(
    event: EventDefinition<Published, unknown> | string,
    ...published: PublishArguments<Published>
  ): Promise<PublishedEvent> {
    return publishEvent(this.context, event as EventDefinition | string, published);
  }

  /** Resolves a promise of a run, see `ctx.promise`. It is settled once: a later call changes nothing and says so. */
  async resolvePromise(promiseId: string, value?: unknown): Promise<PromiseSettlement> {
    return resolvePromise(this.context, promiseId, value);
  }

  /** Rejects a promise of a run: its code sees the error; otherwise as {@link resolvePromise}. */
  async rejectPromise(promiseId: string, error: unknown): Promise<PromiseSettlement> {
    return rejectPromise(this.context, promiseId, error);
  }

  /** A promise as it is now. */
  async getPromise(promiseId: string): Promise<PromiseSummary> {
    return getPromise(this.context, promiseId);
  }
}
