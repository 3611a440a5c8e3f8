import {
  type AwaitStep,
  answerUpdates,
  awaitSteps,
  beginSteps,
  type ClaimedRun,
  claimRuns,
  completeSteps,
  type Database,
  failSteps,
  type LeaseRef,
  openDatabase,
  publishEvents,
  recordSteps,
  registerWorkers,
  releaseRuns,
  type StepKind,
  scheduleSleeps,
  sendSignals,
  sendUpdates,
  settlePromises,
  startChildren,
  startIdentity,
  startRuns,
  suspendRuns,
  takeArrivals,
  tellParents,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { offerSlots } from '../support/keepers.js';
import { beginCommand, FAILURE, startCommand } from '../support/store.js';

const QUEUE = { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'] };
const MEMO = { memoPageBytes: 1e6, memoPageEntries: 20 };
const DATA = { data: Buffer.from('1'), encoding: 'json' };
/** Rows of history of the run, and of other runs, per kind. */
const HISTORY = 400;
const OTHERS = 2_000;
/** More than any transition of one run needs, and far less than any history. */
const MAX_ROWS = 60;
/** A claim without the code in memory hands out the memo; a release looks for open steps, and such a claim follows. */
const READS_HISTORY: ReadonlySet<string> = new Set(['claim with a history', 'release']);

/**
 * What a transition of one run reads depends neither on how long the run's history is nor on how many other runs there are; not even with
 * plans that were made while the tables were empty, which a connection keeps until the tables are analysed.
 */
describe('rows that transitions read', () => {
  let database: TestDatabase;
  let db: Database;
  const keeper = uuid();
  const read: Record<string, number> = {};
  let lease: LeaseRef;
  let seq = 0;
  let eventSeq = 0;

  /** Carries out a transition and counts the rows that its statements fetch from tables. */
  async function counted<T>(name: string, carryOut: (on: Database) => Promise<T>): Promise<T> {
    return db.transaction(async (transaction) => {
      const rows = async () => {
        const [row] = await transaction.query<{ rows: string }>(
          {
            name: 'rows',
            text: `select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::text as rows from pg_stat_xact_user_tables
              where schemaname = 'perdure'`,
          },
          [],
        );
        return Number(row?.rows);
      };
      const before = await rows();
      const outcome = await carryOut(transaction);
      read[name] = (await rows()) - before;
      return outcome;
    });
  }
  const kindOf = (outcomes: readonly { readonly kind: string }[]) => outcomes.map(({ kind }) => kind);
  const stepOf = <Kind extends StepKind>(stepKind: Kind) => ({
    ...lease,
    stepId: `s${++seq}`,
    seq,
    stepKind,
    attemptNumber: 1,
    countedAttempt: 1,
    maxCountedAttempts: 3,
    uncancellable: false,
    eventSeq: ++eventSeq,
  });
  const hold = ({ run }: ClaimedRun): void => {
    lease = { namespace: 'default', runId: run.runId, leaseToken: run.leaseToken };
    eventSeq = 1;
  };
  async function claim(on: Database): Promise<void> {
    const [outcome] = await claimRuns(on, { ...QUEUE, slots: [{ workerId: keeper }] }, MEMO);
    if (outcome?.kind !== 'claimed') throw new Error(`Not claimed: ${outcome?.kind}`);
    hold(outcome.claim);
  }

  async function awaited(stepKind: AwaitStep['stepKind'], awaits: string): Promise<void> {
    const step = { ...stepOf(stepKind), awaits, timeoutMs: 60_000 };
    expect(kindOf(await counted(`await ${stepKind}`, (on) => awaitSteps(on, [step])))).toEqual(['waiting']);
  }
  async function suspended(name: string): Promise<void> {
    const suspension = { ...lease, waits: [], arrivalsAwaited: 1, isKept: true };
    expect(kindOf(await counted(`suspend, ${name}`, (on) => suspendRuns(on, [suspension])))).toEqual(['suspended']);
  }

  /** Each transition of the hot paths once. */
  async function everything(): Promise<void> {
    // Steps.
    const began = stepOf('FUNCTION');
    const begin = beginCommand(lease, { stepId: began.stepId, seq: began.seq });
    expect(kindOf(await counted('begin', (on) => beginSteps(on, [begin])))).toEqual(['begun']);
    const complete = { ...lease, stepId: began.stepId, attemptNumber: 1, output: DATA, eventSeq };
    expect(kindOf(await counted('complete', (on) => completeSteps(on, [complete])))).toEqual(['completed']);
    const failing = stepOf('FUNCTION');
    await beginSteps(db, [beginCommand(lease, { stepId: failing.stepId, seq: failing.seq })]);
    const fail = { ...lease, stepId: failing.stepId, attemptNumber: 1, failure: FAILURE, retryAfterMs: null, eventSeq };
    expect(kindOf(await counted('fail', (on) => failSteps(on, [fail])))).toEqual(['failed']);
    const recorded = { ...stepOf('FUNCTION'), output: DATA };
    expect(kindOf(await counted('record', (on) => recordSteps(on, [recorded])))).toEqual(['recorded']);
    const sleep = { ...stepOf('SLEEP'), durationMs: 60_000, until: null };
    expect(kindOf(await counted('sleep', (on) => scheduleSleeps(on, [sleep])))).toEqual(['scheduled']);

    // A signal and an update, each to a run that its worker keeps, and one to a run that is claimed.
    const sent = { namespace: 'default', runId: lease.runId, payload: DATA, sender: 'c' };
    const signal = () => ({ ...sent, name: 'go', requestId: uuid(), maxUnconsumed: 1_000 });
    const update = () => ({ ...sent, name: 'add', requestId: uuid(), maxUnanswered: 1_000 });
    await awaited('SIGNAL', 'go');
    await suspended('kept');
    const slots = offerSlots(keeper);
    expect(kindOf(await counted('signal, leased', (on) => sendSignals(on, [signal()], slots)))).toEqual(['sent']);
    hold(slots.claims.shift() as ClaimedRun);
    await awaited('UPDATE', '');
    await suspended('kept');
    expect(kindOf(await counted('update, leased', (on) => sendUpdates(on, [update()], slots)))).toEqual(['sent']);
    hold(slots.claims.shift() as ClaimedRun);
    const answer = { ...lease, stepId: `s${seq}`, answer: { kind: 'COMPLETED', output: DATA } as const };
    expect(kindOf(await counted('answer', (on) => answerUpdates(on, [answer])))).toEqual(['answered']);
    await awaited('SIGNAL', 'go');
    await suspended('kept');
    expect(kindOf(await counted('signal, woken', (on) => sendSignals(on, [signal()])))).toEqual(['sent']);
    await counted('claim with an arrival', claim);

    // What arrives while the run is held.
    await awaited('SIGNAL', 'go');
    expect(kindOf(await counted('signal, held', (on) => sendSignals(on, [signal()])))).toEqual(['sent']);
    const take = { ...lease, eventSeq: ++eventSeq, dueStepIds: [] };
    expect(kindOf(await counted('take', (on) => takeArrivals(on, [take])))).toEqual(['taken']);
    expect(kindOf(await counted('signal, buffered', (on) => sendSignals(on, [signal()])))).toEqual(['sent']);
    const early = { ...stepOf('SIGNAL'), awaits: 'go', timeoutMs: null };
    expect(kindOf(await counted('await a signal that is there', (on) => awaitSteps(on, [early])))).toEqual(['arrived']);

    // A child.
    const child = {
      ...startCommand(),
      ...stepOf('CHILD'),
      reusePolicy: 'ALLOW' as const,
      childRunId: startIdentity('default', '').runId,
      workflowId: null,
      priority: null,
      build: null,
      taskQueue: 'children',
      parentClose: 'CANCEL' as const,
    };
    expect(kindOf(await counted('start a child', (on) => startChildren(on, [child])))).toEqual(['started']);
    await suspended('for a child');
    await endChild(child.childRunId);
    expect(await counted('tell the parent', (on) => tellParents(on, [child.childRunId], slots))).toHaveLength(1);
    hold(slots.claims.shift() as ClaimedRun);

    // Limits of its own.
    const limited = startCommand({ taskQueue: 'limited', startTimeoutMs: 60_000, chainTimeoutMs: 60_000 });
    expect(kindOf(await counted('start with limits', (on) => startRuns(on, [limited])))).toEqual(['started']);

    // An event, and a promise.
    await awaited('EVENT', JSON.stringify({ namespace: 'default', name: 'paid', key: 'k' }));
    const promiseId = `${lease.runId}/s${seq + 1}`;
    await awaited('PROMISE', promiseId);
    const event = {
      namespace: 'default',
      eventId: uuid(),
      name: 'paid',
      key: 'k',
      payload: DATA,
      requestId: null,
      retentionMs: 60_000,
    };
    expect(kindOf(await counted('publish', (on) => publishEvents(on, [event])))).toEqual(['published']);
    const outcome = { kind: 'resolved', value: DATA } as const;
    const settlement = { namespace: 'default', promiseId, outcome };
    expect(kindOf(await counted('settle a promise', (on) => settlePromises(on, [settlement])))).toEqual(['settled']);

    expect(kindOf(await counted('release', (on) => releaseRuns(on, [{ ...lease, reason: '', delayMs: 0 }])))).toEqual([
      'released',
    ]);
    await counted('claim with a history', claim);
  }

  async function endChild(childRunId: string): Promise<void> {
    await database.sql`
      with ended as (
        update perdure.workflow_runs set status = 'COMPLETED', finished_at = now(), available_at = null where run_id = ${childRunId}
        returning run_id
      )
      insert into perdure.child_ends (child_id, ended_at) select run_id, now() from ended`;
  }

  beforeAll(async () => {
    database = await createDatabase();
    // The tables keep the statistics of empty tables.
    await database.sql.unsafe(
      ['workflow_runs', 'step_runs', 'signals', 'run_updates', 'events']
        .map((table) => `alter table perdure.${table} set (autovacuum_enabled = false)`)
        .join(';'),
    );
    db = openDatabase({ url: database.url, maxConnections: 1 });
    await registerWorkers(db, [{ ...QUEUE, workerId: keeper, build: '', identity: '', slots: 99, leaseMs: 60_000 }]);
    await startRuns(db, [startCommand()]);
    await claim(db);
    await everything();
  });
  afterAll(async () => {
    await db.close();
    await database.drop();
  });

  it('are few, with plans of empty tables, a long history and many other runs', async () => {
    const { runId } = lease;
    await database.sql.unsafe(`
      insert into perdure.step_runs (run_id, started_at, finished_at, seq, attempt_number, counted_attempt, lease_token, event_seq, kind, status,
        step_id, awaits)
      select '${runId}', now(), now(), 1000 + n, 1, 1, 1, n,
        (array['FUNCTION', 'SIGNAL', 'UPDATE', 'CHILD'])[n % 4 + 1], 'COMPLETED', 'old' || n, case when n % 4 = 1 then 'go' end
      from generate_series(1, ${HISTORY}) n;
      insert into perdure.signals (run_id, sent_at, seq, name, request_id, consumed_by)
      select '${runId}', now(), 1000 + n, 'go', 'old' || n, 'old' || n from generate_series(1, ${HISTORY}) n;
      update perdure.workflow_runs set signal_seq = 5000 where run_id = '${runId}';
      insert into perdure.run_updates (run_id, sent_at, seq, name, request_id, step_id, answer, answered_at)
      select '${runId}', now(), 1000 + n, 'add', 'old' || n, 'old' || n, 'COMPLETED', now() from generate_series(1, ${HISTORY}) n;
      insert into perdure.workflow_runs (run_id, created_at, updated_at, lease_token, max_lost_leases, status, namespace, workflow_id,
        workflow_type, task_queue)
      select gen_random_uuid(), now(), now(), 1, 10, 'WAITING', 'default', gen_random_uuid()::text, 'w', 'q'
      from generate_series(1, ${OTHERS});
      insert into perdure.step_runs (run_id, started_at, seq, attempt_number, counted_attempt, lease_token, kind, status, step_id, awaits)
      select run_id, now(), 1, 1, 1, 1, 'SIGNAL', 'RUNNING', 's1', 'go' from perdure.workflow_runs where run_id <> '${runId}' and finished_at is null;`);
    seq = 10_000;
    await everything();
    const many = Object.entries(read).filter(
      ([name, rows]) => rows > (READS_HISTORY.has(name) ? 3 * HISTORY : MAX_ROWS),
    );
    expect(Object.fromEntries(many)).toEqual({});
  });

  it('are counted', async () => {
    await counted('a scan', (on) => on.query({ name: 'scan', text: 'select sum(seq) from perdure.step_runs' }, []));
    expect(read['a scan']).toBeGreaterThan(HISTORY);
  });
});
