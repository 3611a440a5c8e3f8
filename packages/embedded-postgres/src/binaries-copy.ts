import { chmodSync, cpSync, lstatSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Copies a package into the temporary folder, where every account can execute it, and finds the copy again next time. The
 * temporary folder belongs to everyone, so a folder of that name may have been planted by somebody else: only one that this
 * account made, and that nobody else can change, is executed. Otherwise the copy is a new one for this process alone.
 *
 * @returns the folder of the copy
 */
export function copyForAccount(root: string, name: string): string {
  const shared = join(tmpdir(), name);
  if (isOurs(shared)) return shared;
  // Made with a name that cannot be foreseen and closed to others until it is complete.
  const fresh = mkdtempSync(`${shared}.`);
  cpSync(root, fresh, { recursive: true, dereference: true });
  chmodSync(fresh, 0o755);
  try {
    renameSync(fresh, shared);
    return shared;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOTDIR' && code !== 'EPERM') throw error;
    // Another process was first with the shared copy, or the name is not ours.
    if (isOurs(shared)) {
      rmSync(fresh, { recursive: true, force: true });
      return shared;
    }
  }
  process.once('exit', () => rmSync(fresh, { recursive: true, force: true }));
  return fresh;
}

/** Whether this account made the folder, and nobody else can write to it. A symbolic link is never ours. */
function isOurs(folder: string): boolean {
  try {
    const found = lstatSync(folder);
    return found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
