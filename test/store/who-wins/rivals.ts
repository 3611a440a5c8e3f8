/** The commands that race on one run; a new one gets its line here. */
import {
  cancelRuns,
  type Database,
  dismissRuns,
  endRuns,
  endSteps,
  expireRuns,
  forkRuns,
  pauseRuns,
  reclaimLeases,
  resumeRuns,
  retryRuns,
  sendSignals,
  sendUpdates,
  tellParents,
  terminateRuns,
  wakeSleepers,
} from '@perdure/store';
import type postgres from 'postgres';
import { FAILURE } from '../../support/store.js';
import { leaseOf, type RacedRun, type State } from './runs.js';

/** A command, or a sweep: that one takes whatever is due, passes over runs that are locked, and comes again. */
export interface Rival {
  /** States in which it does something. */
  readonly states: readonly State[];
  readonly act: (db: Database, run: RacedRun) => Promise<unknown>;
  /** Of a sweep: makes it due for the run. */
  readonly makeDue?: (sql: postgres.Sql, run: RacedRun) => Promise<unknown>;
}

const namespace = 'default';
/** Runs of other races may be due as well. */
const ALL = 1_000;
const LEASED: readonly State[] = ['LEASED', 'LEASED, paused'];
const OPEN: readonly State[] = ['LEASED', 'SUSPENDED', 'LEASED, paused', 'SUSPENDED, paused'];
const RECLAIM = { limit: ALL, backoffMs: 1_000, maxBackoffMs: 1_000, serverGraceMs: 0 };

export const RIVALS: Readonly<Record<string, Rival>> = {
  complete: {
    states: LEASED,
    act: (db, run) => endRuns(db, [{ ...leaseOf(run), end: 'COMPLETED', output: null, hasOpenSteps: true }]),
  },
  fail: {
    states: LEASED,
    act: (db, run) => {
      const cut = { from: { leaseToken: run.leaseToken, eventSeq: 1 }, seq: 1 };
      return endRuns(db, [{ ...leaseOf(run), end: 'FAILED', failure: FAILURE, cut }]);
    },
  },
  cancel: { states: OPEN, act: (db, { runId }) => cancelRuns(db, [{ namespace, runId, reason: 'c' }]) },
  terminate: { states: OPEN, act: (db, { runId }) => terminateRuns(db, [{ namespace, runId, reason: 't' }]) },
  pause: { states: OPEN, act: (db, { runId }) => pauseRuns(db, [{ namespace, runId, by: 'p', reason: '' }]) },
  resume: {
    states: ['LEASED, paused', 'SUSPENDED, paused'],
    act: (db, { runId }) => resumeRuns(db, [{ namespace, runId, by: 'r' }]),
  },
  signal: {
    states: OPEN,
    act: (db, { runId }) =>
      sendSignals(db, [
        { namespace, runId, name: 'go', payload: null, requestId: null, sender: '', maxUnconsumed: 10 },
      ]),
  },
  update: {
    states: OPEN,
    act: (db, { runId }) =>
      sendUpdates(db, [
        { namespace, runId, name: 'u', payload: null, requestId: 'once', sender: '', maxUnanswered: 10 },
      ]),
  },
  'child end': { states: OPEN, act: (db, { childId }) => tellParents(db, [childId]) },
  retry: {
    states: ['FAILED'],
    act: (db, { runId }) => retryRuns(db, [{ namespace, runId, actor: '', reason: '', requestId: null }]),
  },
  dismiss: {
    states: ['FAILED'],
    act: (db, { runId }) => dismissRuns(db, [{ namespace, runId, actor: '', reason: '', requestId: null }]),
  },
  'end a step by hand': {
    states: [...OPEN, 'FAILED'],
    act: (db, { runId }) =>
      endSteps(db, [
        { namespace, runId, stepId: 's', actor: '', reason: '', requestId: null, outcome: { kind: 'SKIPPED' } },
      ]),
  },
  fork: {
    states: [...OPEN, 'FAILED'],
    act: (db, { runId }) =>
      forkRuns(db, [
        { namespace, runId, stepId: 'nap', actor: '', reason: '', requestId: null, workflowId: null, input: null },
      ]),
  },
  timer: {
    states: ['SUSPENDED', 'SUSPENDED, paused'],
    act: (db) => wakeSleepers(db, { limit: ALL }),
    makeDue: (sql, { runId }) => sql`with step as (
        update perdure.step_runs set fires_at = perdure.clock() where run_id = ${runId} and step_id = 'nap')
      update perdure.workflow_runs set wake_at = perdure.clock()
      where run_id = ${runId} and status in ('SLEEPING', 'WAITING')`,
  },
  reclaim: {
    states: LEASED,
    act: (db) => reclaimLeases(db, RECLAIM),
    makeDue: (sql, { runId }) => sql`update perdure.workflow_runs
      set lease_expires_at = perdure.clock() - interval '1 s' where run_id = ${runId} and status = 'RUNNING'`,
  },
  deadline: {
    states: OPEN,
    act: (db) => expireRuns(db, { limit: ALL }),
    // Started long ago: a retry gives the same time again.
    makeDue: (sql, { runId }) => sql`update perdure.workflow_runs
      set created_at = created_at - interval '1 day', run_deadline_at = perdure.clock() - interval '1 s' where run_id = ${runId} and finished_at is null`,
  },
};

/** Commands that end a run, so that one for ended runs does something. */
const ENDS: ReadonlySet<string> = new Set(['fail', 'terminate', 'deadline']);
const FOR_ENDED: ReadonlySet<string> = new Set(['retry', 'dismiss']);

/** @returns the states in which the two commands meet */
export function statesOf(one: string, other: string): readonly State[] {
  const [a, b] = [RIVALS[one] as Rival, RIVALS[other] as Rival];
  if (FOR_ENDED.has(one) || FOR_ENDED.has(other)) {
    const rival = FOR_ENDED.has(one) ? other : one;
    return ENDS.has(rival) ? ['FAILED', 'LEASED'] : ['FAILED'];
  }
  const both = a.states.filter((state) => b.states.includes(state));
  // What a paused run does is a matter of the resume; other pairs meet in runs that are not paused.
  const isPaused = one === 'resume' || other === 'resume';
  const met = both.filter((state) => state.endsWith('paused') === isPaused && (state !== 'FAILED' || one === other));
  return met.length > 0 ? met : a.states.slice(0, 1);
}
