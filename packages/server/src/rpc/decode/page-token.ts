import { createHash } from 'node:crypto';
import type { Checker } from './checker.js';

/**
 * Page tokens: where the last page ended, bound to the query by a short digest, so that a token of another list, filter or
 * namespace is refused instead of returning a wrong page. Not secret and not trusted: the contents are checked.
 */
export function encodePageToken(scope: unknown, cursor: unknown): string {
  return Buffer.from(JSON.stringify([digest(scope), cursor])).toString('base64url');
}

/**
 * @param scope the query that the token must belong to
 * @param parse checks the cursor; undefined when it is malformed
 * @returns the cursor; null for an empty token
 */
export function decodePageToken<Cursor>(
  check: Checker,
  field: string,
  token: string,
  scope: unknown,
  parse: (cursor: unknown) => Cursor | undefined,
): Cursor | null {
  if (token === '') return null;
  const content = parseJson(Buffer.from(token, 'base64url').toString());
  if (token.length <= 2_048 && Array.isArray(content) && content.length === 2 && content[0] === digest(scope)) {
    const cursor = parse(content[1]);
    if (cursor !== undefined) return cursor;
  }
  check.violate(field, 'must be empty or the token of the previous page of the same query.');
  return null;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function digest(scope: unknown): string {
  return createHash('sha256').update(JSON.stringify(scope)).digest('base64url').slice(0, 12);
}
