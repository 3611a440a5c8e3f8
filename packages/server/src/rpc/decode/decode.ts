import type { ServerConfig } from '../../config.js';
import { Checker } from './checker.js';

/**
 * Decodes a request; nothing may be done before it returns.
 *
 * @throws {RpcError} INVALID_ARGUMENT with every broken rule
 */
export function decode<T>(context: { readonly config: ServerConfig }, read: (check: Checker) => T): T {
  const check = new Checker(context.config.maxPayloadBytes);
  const value = read(check);
  check.done();
  return value;
}
