import http2 from 'node:http2';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import { SessionRequestSchema, SessionResponseSchema, WorkflowService } from '@perdure/proto';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type SessionLimits,
  SessionStream,
  type SessionTargets,
} from '../../packages/server/dist/transport/session.js';
import { until } from '../support/until.js';

const MIB = 1024 * 1024;
const bytes = (value: Buffer) => value;
const PATH = '/t.Session/Session';

describe('answers that the peer of a session does not read', () => {
  let server: grpc.Server;
  let client: grpc.Client;
  let port = 0;
  let limits: SessionLimits;
  let begun = 0;
  let over = 0;
  beforeAll(async () => {
    const method = WorkflowService.method.getRun;
    const input = { data: new Uint8Array(MIB), encoding: '' };
    const handle = async () => {
      begun++;
      return { run: { input } };
    };
    const targets = new Map([['T/Big', { method, handle }]]) as unknown as SessionTargets;
    server = new grpc.Server();
    server.addService(
      {
        session: {
          path: PATH,
          requestStream: true,
          responseStream: true,
          requestSerialize: bytes,
          requestDeserialize: bytes,
          responseSerialize: bytes,
          responseDeserialize: bytes,
        },
      },
      {
        session: (stream: grpc.ServerDuplexStream<Buffer, Buffer>) => {
          new SessionStream(stream, targets, pino({ level: 'silent' }), () => over++, limits);
        },
      },
    );
    port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
    client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  });
  afterAll(() => {
    client.close();
    server.forceShutdown();
  });

  const open = () => {
    begun = 0;
    over = 0;
    const stream = client.makeBidiStreamRequest(PATH, bytes, bytes, new grpc.Metadata());
    const state = { answers: 0, code: undefined as grpc.status | undefined };
    stream.on('error', (error: grpc.ServiceError) => {
      state.code = error.code;
    });
    return {
      state,
      call: (...callIds: number[]) => {
        const calls = callIds.map((callId) => ({ callId, method: 'T/Big', request: new Uint8Array() }));
        stream.write(Buffer.from(toBinary(SessionRequestSchema, create(SessionRequestSchema, { calls }))));
      },
      read: () =>
        stream.on('data', (frame: Buffer) => {
          state.answers += fromBinary(SessionResponseSchema, frame).answers.length;
        }),
      end: () => stream.end(),
    };
  };
  const numbers = (count: number) => Array.from({ length: count }, (_, n) => n + 1);

  it('with unread answers the server reads no further calls until the peer reads', async () => {
    limits = { pauseBytes: MIB, stallMs: 60_000, endBytes: 1_000 * MIB };
    const session = open();
    // One after the other, so that the first answers wait before the last calls are read.
    for (const callId of numbers(100)) {
      const before = begun;
      session.call(callId);
      if (callId <= 3) await until('the call to begin', () => begun > before);
    }
    // What another session sends afterwards, over the same connection, is answered: the calls of this one have come long since.
    const other = open();
    begun = 0;
    other.read();
    other.call(1, 2, 3);
    await until('the answers of the other session', () => other.state.answers === 3);
    expect(begun).toBeLessThan(50);
    other.end();
    session.read();
    await until('all answers', () => session.state.answers === 100);
    expect(session.state.code).toBeUndefined();
    session.end();
    await until('both sessions to be over', () => over === 2);
  });

  it('a session ends when its peer reads no answers for long', async () => {
    limits = { pauseBytes: MIB, stallMs: 200, endBytes: 1_000 * MIB };
    begun = 0;
    over = 0;
    // Without gRPC's library at this end, which reads ahead on its own: HTTP/2's flow control holds back what is not read.
    const connection = http2.connect(`http://127.0.0.1:${port}`);
    const headers = { ':method': 'POST', ':path': PATH, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = connection.request(headers);
    for (const one of [connection, stream]) one.on('error', () => undefined);
    let status: string | undefined;
    stream.on('trailers', (trailers) => {
      status = String(trailers['grpc-status']);
    });
    const calls = numbers(20).map((callId) => ({ callId, method: 'T/Big', request: new Uint8Array() }));
    const message = toBinary(SessionRequestSchema, create(SessionRequestSchema, { calls }));
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(message.byteLength, 1);
    stream.write(Buffer.concat([prefix, message]));
    await until('the session to be over', () => over === 1);
    expect(begun).toBe(20);
    // What was written before arrives; the rest was thrown away.
    let received = 0;
    stream.on('data', (data: Buffer) => {
      received += data.byteLength;
    });
    await until('the end', () => status);
    expect(status).toBe(String(grpc.status.RESOURCE_EXHAUSTED));
    expect(received).toBeLessThan(20 * MIB);
    connection.destroy();
  });

  it('a session ends at once when there are too many unread answers', async () => {
    limits = { pauseBytes: MIB, stallMs: 60_000, endBytes: 8 * MIB };
    const session = open();
    session.call(...numbers(20));
    session.read();
    await until('the end', () => session.state.code);
    expect(session.state.code).toBe(grpc.status.RESOURCE_EXHAUSTED);
    expect(session.state.answers).toBeLessThan(9);
  });
});
