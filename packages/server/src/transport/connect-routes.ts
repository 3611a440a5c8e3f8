import { create, type DescMessage } from '@bufbuild/protobuf';
import { type Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';
import type { Logger } from 'pino';
import { type Call, CallState, type ServiceBinding } from '../call/handlers.js';
import type { RpcError } from '../call/rpc-error.js';
import { errorDetails } from './error-details.js';
import { failureOf } from './failures.js';

/** Registers the handlers of one service for Connect, gRPC-Web and gRPC. */
export function addRoutes(router: ConnectRouter, binding: ServiceBinding, log: Logger): void {
  const implementation: Record<string, unknown> = {};
  for (const method of binding.service.methods) {
    const output = method.output as DescMessage;
    if (method.methodKind === 'server_streaming') {
      const handle = binding.stream(method);
      implementation[method.localName] = async function* (request: never, context: HandlerContext) {
        try {
          for await (const message of handle(request, callOf(context))) yield create(output, message);
        } catch (error) {
          throw connectError(failureOf(log, method.name, error));
        }
      };
    } else {
      const handle = binding.unary(method);
      implementation[method.localName] = async (request: never, context: HandlerContext) => {
        try {
          return create(output, await handle(request, callOf(context)));
        } catch (error) {
          throw connectError(failureOf(log, method.name, error));
        }
      };
    }
  }
  router.service(binding.service, implementation as Record<string, never>);
}

function callOf({ signal }: HandlerContext): Call {
  const state = new CallState();
  if (signal.aborted) state.abort();
  else signal.addEventListener('abort', () => state.abort(), { once: true });
  return state;
}

function connectError(error: RpcError): ConnectError {
  const connectError = new ConnectError(error.message, error.code as number as Code);
  connectError.details = errorDetails(error);
  return connectError;
}
