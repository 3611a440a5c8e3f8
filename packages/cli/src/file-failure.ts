import { CliError, EXIT } from './exit-codes.js';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  EACCES: 'is not accessible to this account',
  EPERM: 'is not accessible to this account',
  ENOTDIR: 'is below a path that is not a folder',
  EEXIST: 'is not a folder',
  EISDIR: 'is a folder',
  EROFS: 'is on a read-only file system',
  ENOSPC: 'is on a full file system',
};

/** The error for a file or folder that cannot be used; undefined for other errors. */
export function fileFailure(error: unknown, path = (error as NodeJS.ErrnoException).path): CliError | undefined {
  const reason = REASONS[(error as NodeJS.ErrnoException).code ?? ''];
  return reason === undefined || path === undefined ? undefined : new CliError(`${path} ${reason}.`, EXIT.usage);
}
