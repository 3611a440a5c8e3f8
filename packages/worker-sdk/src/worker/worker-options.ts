import { hostname } from 'node:os';
import { createLogger } from '@perdure/logging';
import type { Logger } from 'pino';
import type { Codec } from '../codec/codec.js';
import { devalueCodec } from '../codec/devalue-codec.js';
import { type Duration, durationMs } from '../duration.js';
import { refuseUnknownKeys } from '../options.js';
import type { Connection } from '../rpc/connection.js';
import { checkWorkflow, type Workflow } from '../workflow.js';

/** Options of a {@link Worker}. */
export interface WorkerOptions {
  /** The task queue whose runs it executes; 1 to 255 bytes. */
  readonly taskQueue: string;
  /** The workflows it executes; at least one, each name once. */
  // biome-ignore lint/suspicious/noExplicitAny: a list of workflows with inputs and outputs of all kinds.
  readonly workflows: readonly Workflow<any, any>[];
  /** `host:port`, or several separated by commas; default: environment variable PERDURE_ADDRESS, else `127.0.0.1:7300`. */
  readonly address?: string;
  /** A connection to share; default: one of its own, to `address`. */
  readonly connection?: Connection;
  /** Default: environment variable PERDURE_NAMESPACE, else `default`. */
  readonly namespace?: string;
  /** Slots: runs executed at the same time, 1 to 10,000; default 100. Suspended runs do not count. */
  readonly concurrency?: number;
  /** Runs of one workflow executed at the same time, by its name; 1 to 10,000 each; default: only `concurrency` limits them. */
  readonly limits?: Readonly<Record<string, number>>;
  /**
   * Suspended runs kept in memory, 0 to 10,000; default 100. Such a run resumes here without a replay; any other worker, and
   * this one when the run had to make room, replays it.
   */
  readonly warmRuns?: number;
  /** How long the lease of a run lasts without a renewal, 1 s to 10 min; default 30 s. The run of a dead worker waits that long. */
  readonly leaseDuration?: Duration;
  /** Name of this build, shown by `perdure worker list`; at most 255 bytes; default empty. */
  readonly build?: string;
  /** Name of this process, shown by `perdure worker list`; default `<host>:<pid>`. */
  readonly identity?: string;
  /** Default {@link devalueCodec}. Clients and workers of a workflow must use the same. */
  readonly codec?: Codec;
  /** How long runs may continue after a shutdown is requested, before they are given back; 0 to 10 years; default 30 s. */
  readonly shutdownGrace?: Duration;
  /** Shut down on SIGTERM and SIGINT, and at once on another one more than 500 ms later; default true. */
  readonly handleSignals?: boolean;
  /**
   * The level at which calls are logged that a workflow did not await before its end (`step_not_awaited`): most often an `await` is
   * missing. Default `'warn'` when NODE_ENV is `production`, otherwise `'error'`.
   */
  readonly unawaitedCalls?: 'error' | 'warn';
  /**
   * What becomes of a run whose code no longer fits what is recorded, or of which this worker repeatedly cannot decode a value. Default `'hold'`: it
   * is paused with the reason until somebody resumes it (`perdure run resume --held`), after a rollback or with fixed code. `'fail'`: the run FAILs;
   * values that cannot be decoded are then left to other workers.
   */
  readonly onNonDeterminism?: 'hold' | 'fail';
  /** Default: pino to stdout with level PERDURE_LOG_LEVEL, else `info`. */
  readonly logger?: Logger;
}

/** Worker options with every value set and checked. */
export interface ResolvedWorkerOptions {
  readonly taskQueue: string;
  readonly workflows: ReadonlyMap<string, Workflow>;
  readonly namespace: string;
  readonly concurrency: number;
  readonly limits: Readonly<Record<string, number>>;
  readonly leaseMs: number;
  readonly warmRuns: number;
  readonly build: string;
  readonly identity: string;
  readonly codec: Codec;
  readonly shutdownGraceMs: number;
  readonly handleSignals: boolean;
  readonly unawaitedCalls: 'error' | 'warn';
  readonly onNonDeterminism: 'hold' | 'fail';
  readonly log: Logger;
}

const KNOWN: readonly (keyof WorkerOptions)[] = [
  'taskQueue',
  'workflows',
  'address',
  'connection',
  'namespace',
  'concurrency',
  'limits',
  'leaseDuration',
  'warmRuns',
  'build',
  'identity',
  'codec',
  'shutdownGrace',
  'handleSignals',
  'unawaitedCalls',
  'onNonDeterminism',
  'logger',
];

/** @throws {TypeError} naming the option that is wrong */
export function resolveWorkerOptions(options: WorkerOptions): ResolvedWorkerOptions {
  refuseUnknownKeys('A worker', options, KNOWN);
  if (typeof options.taskQueue !== 'string' || options.taskQueue === '') {
    throw new TypeError(`taskQueue must be a non-empty string; got ${JSON.stringify(options.taskQueue)}.`);
  }
  const workflows = new Map<string, Workflow>();
  for (const [index, workflow] of options.workflows.entries()) {
    checkWorkflow(`workflows[${index}]`, workflow);
    if (workflows.has(workflow.name)) throw new TypeError(`Workflow '${workflow.name}' is listed twice in workflows.`);
    workflows.set(workflow.name, workflow as Workflow);
  }
  if (workflows.size === 0) throw new TypeError('workflows must contain at least one workflow.');
  const concurrency = count(options.concurrency ?? 100, 'concurrency');
  const limits = options.limits ?? {};
  for (const [name, limit] of Object.entries(limits)) {
    if (!workflows.has(name)) throw new TypeError(`limits has '${name}', which is not among the workflows.`);
    count(limit, `limits.${name}`);
  }
  const unawaitedCalls = options.unawaitedCalls ?? (process.env.NODE_ENV === 'production' ? 'warn' : 'error');
  if (unawaitedCalls !== 'error' && unawaitedCalls !== 'warn') {
    throw new TypeError(`unawaitedCalls must be 'error' or 'warn'; got ${JSON.stringify(unawaitedCalls)}.`);
  }
  const onNonDeterminism = options.onNonDeterminism ?? 'hold';
  if (onNonDeterminism !== 'hold' && onNonDeterminism !== 'fail') {
    throw new TypeError(`onNonDeterminism must be 'hold' or 'fail'; got ${JSON.stringify(onNonDeterminism)}.`);
  }
  const leaseMs = durationMs(options.leaseDuration ?? 30_000, 'leaseDuration');
  if (leaseMs < 1_000 || leaseMs > 600_000)
    throw new TypeError(`leaseDuration must be between 1 s and 10 min; got ${leaseMs} ms.`);
  return {
    taskQueue: options.taskQueue,
    workflows,
    namespace: options.namespace ?? (process.env.PERDURE_NAMESPACE || 'default'),
    concurrency,
    limits,
    leaseMs,
    warmRuns: count(options.warmRuns ?? 100, 'warmRuns', 0),
    build: options.build ?? '',
    identity: options.identity ?? `${hostname()}:${process.pid}`,
    codec: options.codec ?? devalueCodec,
    shutdownGraceMs: durationMs(options.shutdownGrace ?? 30_000, 'shutdownGrace'),
    handleSignals: options.handleSignals ?? true,
    unawaitedCalls,
    onNonDeterminism,
    log: options.logger ?? createLogger({ name: 'perdure-worker', level: process.env.PERDURE_LOG_LEVEL || 'info' }),
  };
}

function count(value: number, what: string, min = 1): number {
  if (!Number.isInteger(value) || value < min || value > 10_000) {
    throw new TypeError(`${what} must be a whole number from ${min} to 10,000; got ${value}.`);
  }
  return value;
}
