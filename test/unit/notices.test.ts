import type { WorkerNotice } from '@perdure/store';
import { beforeEach, describe, expect, it } from 'vitest';
import { CallState } from '../../packages/server/dist/call/handlers.js';
import { Notices } from '../../packages/server/dist/dispatch/notices.js';
import { ManualClock, settled } from '../support/manual-clock.js';

const worker = { namespace: 'n', workerId: 'w' };
const cancelOf = (runId: string, to = worker): WorkerNotice => ({
  ...to,
  kind: 'cancel_requested',
  runId,
  leaseToken: 1,
});

describe('notices', () => {
  let clock: ManualClock;
  let notices: Notices;
  beforeEach(() => {
    clock = new ManualClock();
    notices = new Notices(clock);
  });
  const listen = (waitMs = 20_000, call = new CallState(), to = worker) => notices.await(to, waitMs, call);

  it('reach the worker that waits, those of one turn together', async () => {
    const told = listen();
    expect([notices.push(cancelOf('a')), notices.push(cancelOf('b'))]).toEqual([true, true]);
    expect(await told).toEqual([cancelOf('a'), cancelOf('b')]);
    expect(notices.listeners).toBe(0);
  });

  it('reach nobody else, and are somebody else’s when the worker has never waited here', async () => {
    const other = { namespace: 'n2', workerId: 'w' };
    const untold = listen(1_000, new CallState(), other);
    expect(notices.push(cancelOf('a'))).toBe(false);
    await clock.advance(1_000);
    expect(await untold).toEqual([]);
  });

  it('end a wait with nothing when its time has come, and not before', async () => {
    let told: readonly WorkerNotice[] | undefined;
    void listen(20_000).then((came) => {
      told = came;
    });
    await clock.advance(19_999);
    expect([told, notices.listeners]).toEqual([undefined, 1]);
    await clock.advance(1);
    expect([told, notices.listeners]).toEqual([[], 0]);
  });

  it('are kept for a worker between two calls, but told elsewhere too: it may have gone there', async () => {
    const first = listen(1_000);
    await clock.advance(1_000);
    await first;
    expect(notices.push(cancelOf('a'))).toBe(false);
    expect(await listen()).toEqual([cancelOf('a')]);
  });

  it('are kept for a while, at most 1,000 of them, and forgotten once the worker has not come back for 10 s', async () => {
    const first = listen(1_000);
    await clock.advance(1_000);
    await first;
    for (let n = 0; n < 1_100; n++) notices.push(cancelOf(`r${n}`));
    await settled();
    await clock.advance(9_000);
    expect(await listen(1)).toHaveLength(1_000);
    await clock.advance(20_001);
    notices.push(cancelOf('late'));
    const again = listen(1);
    await clock.advance(1);
    expect(await again).toEqual([]);
  });

  it('go to the later of two calls of a worker; the earlier ends with nothing', async () => {
    const first = listen();
    const second = listen();
    expect(await first).toEqual([]);
    notices.push(cancelOf('a'));
    expect(await second).toEqual([cancelOf('a')]);
  });

  it('end with nothing for a caller that goes, and for all when the server stops', async () => {
    const call = new CallState();
    const gone = listen(20_000, call);
    call.abort();
    expect(await gone).toEqual([]);
    const stopped = listen();
    notices.stop();
    expect(await stopped).toEqual([]);
    await expect(listen()).rejects.toMatchObject({ reason: expect.anything() });
    expect(clock.nextInMs).toBeUndefined();
  });
});
