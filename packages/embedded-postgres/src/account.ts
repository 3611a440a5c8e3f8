import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

/** An account of this machine. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The account that PostgreSQL runs under. PostgreSQL refuses to run as root, so root needs an unprivileged account.
 *
 * @returns undefined when the present account can be used
 */
export function serverAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = existsSync('/etc/passwd') ? readFileSync('/etc/passwd', 'utf8').split('\n') : [];
  for (const wanted of ['postgres', 'nobody']) {
    const [name, , uid, gid] = accounts.find((line) => line.startsWith(`${wanted}:`))?.split(':') ?? [];
    if (name !== undefined && uid !== undefined && gid !== undefined)
      return { name, uid: Number(uid), gid: Number(gid) };
  }
  return { name: 'nobody', uid: 65_534, gid: 65_534 };
}

/** @throws {EmbeddedPostgresError} when the account cannot enter the folder, because a folder above it is closed */
export function checkReachable(folder: string, account: Account): void {
  const { status } = spawnSync('/bin/sh', ['-c', 'cd "$0"', folder], { uid: account.uid, gid: account.gid, cwd: '/' });
  if (status !== 0) {
    throw new EmbeddedPostgresError(
      'not_accessible',
      `PostgreSQL must not run as root, and the account '${account.name}' cannot enter ${folder}: a folder above it is ` +
        'closed to others. Choose a data folder elsewhere, for example below /var/lib, or start this as an ordinary user.',
    );
  }
}
