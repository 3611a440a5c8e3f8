import type { ServerConfig } from '../../config.js';
import { Checker } from './checker.js';

/**
 * Decodes a request; the handler must change nothing before it returns.
 *
 * @throws {RpcError} INVALID_ARGUMENT with every violation
 */
export function decode<T>(context: { readonly config: ServerConfig }, read: (check: Checker) => T): T {
  const check = new Checker(context.config.maxPayloadBytes);
  const value = read(check);
  check.done();
  return value;
}
