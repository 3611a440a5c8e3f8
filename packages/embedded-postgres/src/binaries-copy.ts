import { chmodSync, cpSync, lstatSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Copies a package into the temporary folder, where every account can execute it, and finds the copy again next time. The
 * temporary folder is open to all accounts, so another one may have planted a folder of that name: only a folder that this account
 * made, and that no other account can change, is executed. Otherwise this process makes a new copy for itself.
 *
 * @returns the folder of the copy
 */
export function copyForAccount(root: string, name: string): string {
  const shared = join(tmpdir(), name);
  if (isOurs(shared)) return shared;
  // Its name cannot be guessed, and it is closed to other accounts until it is complete.
  const fresh = mkdtempSync(`${shared}.`);
  cpSync(root, fresh, { recursive: true, dereference: true });
  chmodSync(fresh, 0o755);
  try {
    renameSync(fresh, shared);
    return shared;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOTDIR' && code !== 'EPERM') throw error;
    // Another process made the shared copy first, or another account owns the name.
    if (isOurs(shared)) {
      rmSync(fresh, { recursive: true, force: true });
      return shared;
    }
  }
  process.once('exit', () => rmSync(fresh, { recursive: true, force: true }));
  return fresh;
}

/** Whether this account made the folder and no other account can write to it. A symbolic link is refused. */
function isOurs(folder: string): boolean {
  try {
    const found = lstatSync(folder);
    return found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
