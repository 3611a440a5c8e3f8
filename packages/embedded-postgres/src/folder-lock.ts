import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

/**
 * Takes a folder for this process. The lock of a process that has ended is taken over.
 *
 * @returns releases the folder
 * @throws {EmbeddedPostgresError} when another living process uses it
 */
export function lockFolder(folder: string): () => void {
  const lockFile = join(folder, 'owner.pid');
  const mine = `${lockFile}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    for (let tries = 0; ; tries++) {
      try {
        // A link is created or refused in one step, and the file is complete when it appears.
        linkSync(mine, lockFile);
        return () => rmSync(lockFile, { force: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || tries >= 10) throw error;
        const owner = ownerOf(lockFile);
        if (owner !== undefined && owner !== process.pid && isAlive(owner)) {
          throw new EmbeddedPostgresError(
            'folder_in_use',
            `The data folder ${folder} is in use by process ${owner}. Stop that process, or choose another folder.`,
          );
        }
        rmSync(lockFile, { force: true });
      }
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

function ownerOf(lockFile: string): number | undefined {
  try {
    const pid = Number(readFileSync(lockFile, 'utf8'));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
