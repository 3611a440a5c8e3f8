import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What the API does instead of answering, once for each time that it is listed. */
export type Trouble = 'overloaded' | 'down' | 'hangs' | 'gone';

export interface ExportApi extends AsyncDisposable {
  readonly url: string;
  /** The requests, in order: `GET /exports/1 → 503`. */
  readonly requests: readonly string[];
  /** The next requests of this method and path are not answered, or badly. */
  trouble(request: string, ...troubles: Trouble[]): void;
}

const PAGES = 5;
const ROWS = 100;
/** The sum of all rows: 1, 2, … 500. */
export const TOTAL = (PAGES * ROWS * (PAGES * ROWS + 1)) / 2;

/** An HTTP API on a port of this machine that makes exports, and is not well. */
export async function startExportApi(): Promise<ExportApi> {
  const requests: string[] = [];
  const troubles = new Map<string, Trouble[]>();
  /** Export ids by idempotency key, and how often each was asked for. */
  const exports = new Map<string, number>();
  const asked = new Map<number, number>();

  const answer = (request: IncomingMessage): { readonly status: number; readonly body: unknown } => {
    const [, , id, , page] = (request.url ?? '').split('/');
    if (request.method === 'POST') {
      const key = String(request.headers['idempotency-key']);
      const known = exports.get(key) ?? exports.size + 1;
      exports.set(key, known);
      return { status: 201, body: { id: String(known) } };
    }
    if (Number(id) > exports.size) return { status: 404, body: {} };
    if (page !== undefined) {
      const first = (Number(page) - 1) * ROWS + 1;
      return { status: 200, body: { rows: Array.from({ length: ROWS }, (_, index) => first + index) } };
    }
    const times = (asked.get(Number(id)) ?? 0) + 1;
    asked.set(Number(id), times);
    // It takes three hours, and says so.
    return { status: 200, body: times < 4 ? { state: 'pending', askAgain: 3_600 } : { state: 'ready', pages: PAGES } };
  };

  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const name = `${request.method} ${request.url}`;
    const send = (status: number, body: unknown, headers = {}) => {
      requests.push(`${name} → ${status}`);
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    };
    switch (troubles.get(name)?.shift()) {
      case 'hangs':
        requests.push(`${name} → nothing`);
        return;
      case 'overloaded':
        send(429, {}, { 'retry-after': '120' });
        return;
      case 'down':
        send(503, {}, { 'retry-after': new Date(Date.now() + 2_000).toUTCString() });
        return;
      case 'gone':
        send(410, {});
        return;
      default: {
        const { status, body } = answer(request);
        send(status, body);
      }
    }
  };

  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    trouble: (request, ...more) => void troubles.set(request, [...(troubles.get(request) ?? []), ...more]),
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
