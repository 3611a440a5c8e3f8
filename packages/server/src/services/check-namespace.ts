import { namespaceExists, type Reader } from '@perdure/store';
import { namespaceNotFound } from '../rpc/outcomes.js';

/**
 * Tells an empty namespace from one that does not exist. Reads ask only when they have nothing to show.
 *
 * @throws {RpcError} NOT_FOUND
 */
export async function checkNamespace(db: Reader, namespace: string): Promise<void> {
  if (!(await namespaceExists(db, namespace))) throw namespaceNotFound(namespace);
}
