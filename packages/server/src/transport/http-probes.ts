import type * as http from 'node:http';
import type * as http2 from 'node:http2';

export type HttpHandler = (
  request: http.IncomingMessage | http2.Http2ServerRequest,
  response: http.ServerResponse | http2.Http2ServerResponse,
) => void;

/** @returns why the process is not ready for calls, or undefined when it is ready */
export type NotReady = () => string | undefined;

/** Answers a request with text. */
export function answer(
  response: http.ServerResponse | http2.Http2ServerResponse,
  status: number,
  text: string,
  withBody = true,
): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' });
  // The two kinds of response share this method, but TypeScript cannot call a union of its overloads.
  (response as http.ServerResponse).end(withBody ? `${text}\n` : undefined);
}

/** Adds `/healthz` (the process is alive) and `/readyz` (it is ready for calls) to a handler. */
export function withProbes(notReady: NotReady, next: HttpHandler): HttpHandler {
  return (request, response) => {
    const path = request.url?.split('?', 1)[0];
    if (path !== '/healthz' && path !== '/readyz') {
      next(request, response);
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      answer(response, 405, `Use GET ${path}.`);
    } else {
      const problem = path === '/readyz' ? notReady() : undefined;
      answer(response, problem === undefined ? 200 : 503, problem ?? 'ok', request.method === 'GET');
    }
  };
}
