import { CliError, EXIT } from './exit-codes.js';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  EACCES: 'may not be used by this account',
  EPERM: 'may not be used by this account',
  ENOTDIR: 'lies below something that is no folder',
  EEXIST: 'is no folder',
  EISDIR: 'is a folder',
  EROFS: 'is on a read-only file system',
  ENOSPC: 'is on a file system that is full',
};

/** What is told of a file or folder that cannot be used; undefined for other errors. */
export function fileFailure(error: unknown, path = (error as NodeJS.ErrnoException).path): CliError | undefined {
  const reason = REASONS[(error as NodeJS.ErrnoException).code ?? ''];
  return reason === undefined || path === undefined ? undefined : new CliError(`${path} ${reason}.`, EXIT.usage);
}
