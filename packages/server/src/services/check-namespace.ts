import { namespaceExists, type Reader } from '@perdure/store';
import { namespaceNotFound } from '../rpc/outcomes.js';

/**
 * Distinguishes an empty namespace from one that does not exist. Reads call this only when they found nothing.
 *
 * @throws {RpcError} NOT_FOUND
 */
export async function checkNamespace(db: Reader, namespace: string): Promise<void> {
  if (!(await namespaceExists(db, namespace))) throw namespaceNotFound(namespace);
}
