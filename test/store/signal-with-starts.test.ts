import {
  type SignalWithStart,
  type StartRun,
  sendSignals,
  signalWithStarts,
  startIdentity,
  startRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid, v4 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestStore, startCommand, type TestStore } from '../support/store.js';

describe('signals with starts', () => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(() => store.stop());

  const command = (workflowId: string, givenId = '', more: Partial<StartRun> = {}): SignalWithStart => ({
    start: startCommand({ ...startIdentity('default', givenId), workflowId, ...more }),
    requestId: givenId || null,
    name: 'go',
    payload: null,
    sender: 'test',
    maxUnconsumed: 3,
  });
  const send = async (...commands: SignalWithStart[]) => signalWithStarts(store.db, commands);
  const signalsOf = async (runId: string) =>
    (await store.database.sql`select seq from perdure.signals where run_id = ${runId}`).length;
  const end = (runId: string) => terminateRuns(store.db, [{ namespace: 'default', runId, reason: '' }]);

  it('the first starts a run and signals it, further ones signal it, whatever their input', async () => {
    const id = uuid();
    const [first] = await send(command(id));
    expect(first).toMatchObject({ kind: 'sent', started: true, seq: 1 });
    const input = { data: Buffer.from('other'), encoding: 'text' };
    const [second] = await send(command(id, '', { input }));
    expect(second).toMatchObject({
      kind: 'sent',
      started: false,
      seq: 2,
      runId: first?.kind === 'sent' && first.runId,
    });
    const [, sixth] = await send(command(id), command(id));
    expect(sixth).toMatchObject({ kind: 'too_many_signals' });
  });

  it.each([
    ['a fresh UUID', uuid],
    ['another text', v4],
  ])('a request id that is %s sends once, also when the run has ended', async (_, newId) => {
    const [id, requestId] = [uuid(), newId()];
    const [first] = await send(command(id, requestId));
    if (first?.kind !== 'sent') throw new Error(`Got ${first?.kind}.`);
    const { runId } = first;
    const repeat = { kind: 'already_sent', runId, seq: 1, started: true };
    expect(await send(command(id, requestId), command(id, requestId))).toEqual([repeat, repeat]);
    await end(runId);
    expect(await send(command(id, requestId))).toEqual([repeat]);
    expect(await signalsOf(runId)).toBe(1);
    const [next] = await send(command(id, newId()));
    expect(next).toMatchObject({ kind: 'sent', started: true });
  });

  it('a repeat is answered with the run that was signalled, also when another one is open since', async () => {
    const [id, requestId] = [uuid(), uuid()];
    const [{ runId } = { runId: '' }] = await startRuns(store.db, [startCommand({ workflowId: id })]).then((outcomes) =>
      outcomes.map((outcome) => ({ runId: outcome.kind === 'started' ? outcome.runId : '' })),
    );
    expect(await send(command(id, requestId))).toMatchObject([{ kind: 'sent', started: false, runId }]);
    await end(runId);
    await startRuns(store.db, [startCommand({ workflowId: id })]);
    expect(await send(command(id, requestId))).toEqual([{ kind: 'already_sent', runId, seq: 1, started: false }]);
  });

  it('the reuse policy decides after the end of a run, and nothing is sent when it forbids another', async () => {
    const id = uuid();
    const [first] = await send(command(id));
    if (first?.kind !== 'sent') throw new Error(`Got ${first?.kind}.`);
    await end(first.runId);
    const input = { data: Buffer.from('other'), encoding: 'text' };
    for (const more of [{}, { input }]) {
      const [refused] = await send(command(id, '', { reusePolicy: 'REJECT', ...more }));
      expect(refused).toEqual({ kind: 'already_exists', runId: first.runId, status: 'TERMINATED' });
    }
    expect(await send(command(id, '', { namespace: 'nowhere' }))).toEqual([{ kind: 'namespace_not_found' }]);
    expect(await send(command(id, '', { reusePolicy: 'ALLOW_IF_FAILED' }))).toMatchObject([{ started: true }]);
  });

  it('one batch may name many workflow ids; those with equal ids meet', async () => {
    const ids = Array.from({ length: 20 }, () => uuid());
    const outcomes = await send(...ids.map((id) => command(id)), ...ids.map((id) => command(id)));
    expect(outcomes.map((outcome) => outcome.kind === 'sent' && outcome.started)).toEqual([
      ...ids.map(() => true),
      ...ids.map(() => false),
    ]);
  });

  it('calls, plain starts and ends of many connections at once: each request id is sent once, to a run that was open', async () => {
    const id = uuid();
    const requestIds = Array.from({ length: 60 }, () => uuid());
    const outcomes = await Promise.all(
      requestIds.flatMap((requestId, index) => [
        send({ ...command(id, requestId), maxUnconsumed: 1_000 }),
        send({ ...command(id, requestId), maxUnconsumed: 1_000 }),
        ...(index % 3 === 0 ? [startRuns(store.db, [startCommand({ workflowId: id })]).then(() => [])] : []),
        ...(index % 7 === 0
          ? [
              (async () => {
                const open = await store.database.sql<{ run_id: string }[]>`
                  select run_id from perdure.workflow_runs where workflow_id = ${id} and finished_at is null`;
                for (const { run_id: runId } of open) await end(runId);
                return [];
              })(),
            ]
          : []),
      ]),
    );
    const kinds = outcomes.flat().map((outcome) => outcome.kind);
    expect(kinds.filter((kind) => kind === 'sent')).toHaveLength(60);
    expect(kinds.filter((kind) => kind === 'already_sent')).toHaveLength(60);
    const rows = await store.database.sql<{ n: number }[]>`
      select count(*)::int as n from perdure.signals join perdure.workflow_runs using (run_id) where workflow_id = ${id}`;
    expect(rows).toEqual([{ n: 60 }]);
  });

  it('a plain signal with the same request id does not count as one', async () => {
    const [id, requestId] = [uuid(), uuid()];
    const [other] = await store.start();
    await sendSignals(store.db, [
      {
        namespace: 'default',
        runId: other as string,
        name: 'go',
        payload: null,
        requestId,
        sender: '',
        maxUnconsumed: 3,
      },
    ]);
    expect(await send(command(id, requestId))).toMatchObject([{ kind: 'sent', started: true }]);
  });
});
