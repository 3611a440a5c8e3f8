import type * as http from 'node:http';
import type * as http2 from 'node:http2';
import { getPromise, type PromiseState, type SettlePromise } from '@perdure/store';
import { CallState } from '../call/handlers.js';
import { type RpcError, StatusCode } from '../call/rpc-error.js';
import type { ServerContext } from '../context.js';
import { settledState } from '../rpc/encode/events.js';
import { promiseNotFound } from '../rpc/outcomes.js';
import { failureOf } from './failures.js';
import type { HttpHandler } from './http-probes.js';
import { type JsonBody, readJson } from './json-body.js';

type Request = http.IncomingMessage | http2.Http2ServerRequest;
type Response = http.ServerResponse | http2.Http2ServerResponse;

/** What the routes need of a server. */
export type PromiseContext = Pick<ServerContext, 'commands' | 'config' | 'log' | 'reads'>;

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
}

const ROUTE = /^\/promises\/([\w-]{1,255})(?:\/(resolve|reject))?$/;
/** What failed, in the log. */
const METHOD = { resolve: 'ResolvePromise', reject: 'RejectPromise', get: 'GetPromise' } as const;

/**
 * Adds promises over plain HTTP to a handler, for webhooks: `POST /promises/<id>/resolve`, `/reject`, and `GET /promises/<id>`. The id is the
 * permission: it is not guessed, and tells nothing about the run. So answers name neither the run nor its values.
 *
 * A settlement must be sent as application/json: a browser sends that to another origin only after it was allowed to, and nothing here
 * allows it. So no web page settles a promise through its reader's browser.
 */
export function withPromises(context: PromiseContext, next: HttpHandler): HttpHandler {
  return (request, response) => {
    const path = request.url?.split('?', 1)[0] ?? '';
    if (path !== '/promises' && !path.startsWith('/promises/')) return next(request, response);
    const match = ROUTE.exec(path);
    if (match === null) {
      const error = 'Use GET /promises/<id>, POST /promises/<id>/resolve or POST /promises/<id>/reject.';
      return send(request, response, { status: 404, body: { error } });
    }
    const [, promiseId = '', action] = match;
    const answering =
      action === undefined
        ? read(context, promiseId, request)
        : settle(context, promiseId, action as 'resolve', request);
    answering.then(
      (answer) => send(request, response, answer),
      (error) => send(request, response, refusal(failureOf(context.log, METHOD[(action ?? 'get') as 'get'], error))),
    );
    return undefined;
  };
}

async function read({ reads }: PromiseContext, promiseId: string, request: Request): Promise<Answer> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return wrongMethod('GET', `/promises/${promiseId}`);
  const promise = await getPromise(reads.for(new CallState()), { namespace: null, promiseId });
  if (promise === null) throw promiseNotFound(promiseId);
  const { state, createdAt, timesOutAt, settledAt } = promise;
  return { status: 200, body: { id: promiseId, state, createdAt, timesOutAt, settledAt } };
}

async function settle(
  { commands, config }: PromiseContext,
  promiseId: string,
  action: 'resolve' | 'reject',
  request: Request,
): Promise<Answer> {
  if (request.method !== 'POST') return wrongMethod('POST', `/promises/${promiseId}/${action}`);
  const body = await readJson(request, config.maxPayloadBytes);
  if (body.kind === 'refused') {
    // What is left of the body is not read.
    const headers = body.status === 413 && request.httpVersionMajor === 1 ? { connection: 'close' } : {};
    return { status: body.status, body: { error: body.problem }, headers };
  }
  const outcome = action === 'resolve' ? resolution(body) : rejection(body.value);
  if (outcome === undefined) {
    const error = 'A rejection must be JSON with a message: {"message": "…"}; type, code and details are optional.';
    return { status: 400, body: { error } };
  }
  const settled = await commands.settlePromise({ namespace: null, promiseId, outcome });
  switch (settled.kind) {
    case 'promise_not_found':
      throw promiseNotFound(promiseId);
    case 'settled':
      return answerOf(promiseId, action === 'resolve' ? 'RESOLVED' : 'REJECTED', false);
    case 'already_settled':
      return answerOf(promiseId, settledState(settled.status), true);
  }
}

function resolution({ data }: JsonBody): SettlePromise['outcome'] {
  return { kind: 'resolved', value: { data, encoding: 'json' } };
}

const MAX_NAME_LENGTH = 100;
const MAX_MESSAGE_LENGTH = 10_000;

/** @returns undefined when it has no message */
function rejection(value: unknown): SettlePromise['outcome'] | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { message, type, code, details } = value as Record<string, unknown>;
  if (typeof message !== 'string') return undefined;
  return {
    kind: 'rejected',
    failure: {
      type: typeof type === 'string' && type !== '' ? storable(type, MAX_NAME_LENGTH) : 'Error',
      message: storable(message, MAX_MESSAGE_LENGTH),
      reason: 'APPLICATION',
      ...(typeof code === 'string' && code !== '' ? { code: storable(code, MAX_NAME_LENGTH) } : {}),
      ...(details === undefined
        ? {}
        : { details: { data: Buffer.from(JSON.stringify(details)).toString('base64'), encoding: 'json' } }),
    },
  };
}

/** PostgreSQL stores neither NUL nor halves of surrogate pairs. */
const storable = (text: string, maxLength: number) =>
  text.slice(0, maxLength).toWellFormed().replaceAll('\u0000', '\ufffd');

/** A promise that nobody waits for any more is gone: a repeat does not help. */
function answerOf(id: string, state: PromiseState, alreadySettled: boolean): Answer {
  const isGone = state === 'TIMED_OUT' || state === 'CANCELLED';
  const error = `The promise is ${state}: its run no longer waits for it. Nothing was changed.`;
  return { status: isGone ? 410 : 200, body: { id, state, alreadySettled, ...(isGone ? { error } : {}) } };
}

const wrongMethod = (allow: string, path: string): Answer => ({
  status: 405,
  body: { error: `Use ${allow} ${path}.` },
  headers: { allow },
});

const STATUS: Partial<Record<StatusCode, number>> = {
  [StatusCode.INVALID_ARGUMENT]: 400,
  [StatusCode.NOT_FOUND]: 404,
  [StatusCode.RESOURCE_EXHAUSTED]: 429,
  [StatusCode.UNAVAILABLE]: 503,
};

function refusal(error: RpcError): Answer {
  const { retryAfterMs } = error;
  return {
    status: STATUS[error.code] ?? 500,
    body: { error: error.message },
    headers: retryAfterMs === undefined ? {} : { 'retry-after': String(Math.ceil(retryAfterMs / 1_000)) },
  };
}

function send(request: Request, response: Response, { status, body, headers }: Answer): void {
  response.writeHead(status, {
    'content-type': 'application/json',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  // The two kinds of response share this method, but TypeScript cannot call a union of its overloads.
  (response as http.ServerResponse).end(request.method === 'HEAD' ? undefined : `${JSON.stringify(body)}\n`);
}
