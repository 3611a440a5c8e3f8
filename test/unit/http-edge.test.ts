import * as http2 from 'node:http2';
import { connect, type Socket } from 'node:net';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HttpServer, startHttpServer } from '../../packages/server/dist/transport/http-server.js';
import { spokenVersion } from '../../packages/server/dist/transport/http-version.js';
import { until } from '../support/until.js';

describe('the HTTP port', () => {
  let server: HttpServer;
  let problem: string | undefined;
  beforeAll(async () => {
    server = await startHttpServer({
      host: '127.0.0.1',
      port: 0,
      maxFrameBytes: 4096,
      bindings: [],
      log: pino({ level: 'silent' }),
      notReady: () => problem,
      limits: { greetingMs: 300, headMs: 300, requestMs: 400, checkMs: 50 },
    });
  });
  afterAll(() => server.stop(0));

  const open = () => {
    const socket: Socket = connect(server.port, '127.0.0.1');
    const state = { received: '', closed: false };
    socket.on('data', (chunk: Buffer) => {
      state.received += chunk.toString('latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      state.closed = true;
    });
    return { socket, state };
  };
  const get = async (path: string, host: string) => {
    const { socket, state } = open();
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    await until('the answer', () => state.closed);
    return Number(/^HTTP\/1.1 (\d+)/.exec(state.received)?.[1]);
  };

  it.each([
    ['nothing', ''],
    ['a P', 'P'],
    ['half a head', 'POST /x HTTP/1.1\r\nHost: loc'],
    ['half a body', 'POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf'],
    ['an HTTP/2 preface alone', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ])('the HTTP port closes a connection that sends %s and nothing more', async (_, bytes) => {
    const { socket, state } = open();
    socket.write(bytes);
    await until('the connection to be closed', () => state.closed, 5_000);
  });

  it('the HTTP port understands a request that arrives byte by byte, for every method', async () => {
    const { socket, state } = open();
    socket.setNoDelay(true);
    for (const byte of 'PUT /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n') {
      await new Promise((resolve) => socket.write(byte, resolve));
    }
    await until('the answer', () => state.closed);
    expect(state.received).toMatch(/^HTTP\/1.1 405/);
  });

  it('a first segment of any length distinguishes HTTP/2 from all other requests', () => {
    const preface = 'PRI * HTTP/2.0\r\n\r\n';
    for (let length = 0; length <= preface.length; length++) {
      expect(spokenVersion(Buffer.from(preface.slice(0, length)))).toBe(length < 5 ? undefined : 'HTTP/2');
    }
    for (const request of ['POST /', 'PUT /', 'PATCH /', 'PROPFIND /', 'PRI /', 'GET /']) {
      expect(spokenVersion(Buffer.from(request))).toBe('HTTP/1.1');
    }
  });

  it('health and readiness are served over both versions of HTTP', async () => {
    expect([await get('/healthz', 'localhost'), await get('/readyz', 'localhost')]).toEqual([200, 200]);
    problem = 'The database is unavailable.';
    expect([await get('/healthz', 'localhost'), await get('/readyz?x', 'localhost')]).toEqual([200, 503]);
    const session = http2.connect(`http://127.0.0.1:${server.port}`);
    const stream = session.request({ ':path': '/readyz' });
    const status = await new Promise((resolve) => stream.on('response', (headers) => resolve(headers[':status'])));
    expect(status).toBe(503);
    session.destroy();
    problem = undefined;
  });

  it('a server on loopback refuses calls under a foreign host name', async () => {
    for (const host of ['evil.example', 'evil.example:80', 'localhost.evil.example', '127.0.0.1.evil.example']) {
      expect([host, await get('/perdure.v1.AdminService/GetServerInfo', host)]).toEqual([host, 403]);
    }
    for (const host of ['localhost:7301', 'LOCALHOST', 'a.localhost', '127.0.0.1:1', '[::1]:7301']) {
      expect([host, await get('/perdure.v1.AdminService/GetServerInfo', host)]).toEqual([host, 404]);
    }
  });
});
