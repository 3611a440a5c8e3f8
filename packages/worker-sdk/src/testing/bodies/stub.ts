import type { RunInfo, StepContext } from '../../context.js';
import type { BodyCall } from './body-call.js';

/** What a stub is told beside what the body would be told. */
export interface StubbedCall {
  /** The run that the step belongs to. */
  readonly run: RunInfo;
  /** Executes the real body. */
  original(): Promise<unknown>;
}

/** Stands for the body of a step. */
export type StubBody = (step: StepContext, call: StubbedCall) => unknown;

/** Which steps are replaced; more precise ones win over others, later ones over earlier ones. */
export interface StubScope {
  /** Only in this workflow: a definition, or its name. */
  readonly workflow?: string | { readonly name: string };
  /** Only in this run: a handle, or `{ workflowId }`. */
  readonly run?: { readonly runId: string } | { readonly workflowId: string };
}

/** A stub that was set. */
export interface Stub {
  /** Executions of it so far, in the order of their beginning; a step that is executed again after a crash has two. */
  readonly calls: readonly BodyCall[];
  /** Steps that it stood for, each counted once however often it was executed: distinct idempotency keys. */
  readonly effects: number;
  /** Lets the real body be executed again. */
  restore(): void;
}
