import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VERSION } from './parts.js';

/** Where the PostgreSQL that test processes share lies, and how they reach who keeps it. */
export interface KeeperAddress {
  readonly folder: string;
  /** Of a socket, or of a named pipe. */
  readonly path: string;
}

/**
 * One per user, version and installation: processes of one project share it, and nobody else's code is trusted.
 *
 * @throws {Error} when the folder belongs to somebody else
 */
export function keeperAddress(): KeeperAddress {
  const uid = process.getuid?.() ?? 0;
  const key = createHash('sha256')
    .update(`${VERSION}\n${import.meta.url}`)
    .digest('hex')
    .slice(0, 12);
  const folder = join(tmpdir(), `perdure-testing-${uid}-${key}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { uid: owner } = lstatSync(folder);
  if (process.getuid !== undefined && owner !== uid) {
    throw new Error(`The folder ${folder} belongs to user ${owner}. Remove it, or set DATABASE_URL.`);
  }
  // Root's PostgreSQL runs under another account, which must get through to its own folder below.
  chmodSync(folder, uid === 0 ? 0o711 : 0o700);
  const path = process.platform === 'win32' ? `\\\\.\\pipe\\perdure-testing-${key}` : join(folder, 'keeper.sock');
  return { folder, path };
}
