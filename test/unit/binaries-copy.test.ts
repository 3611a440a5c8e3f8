import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

/** Not part of the package's interface. */
const MODULE = '../../packages/embedded-postgres/dist/binaries-copy.js';
const { copyForAccount } = (await import(MODULE)) as { copyForAccount: (root: string, name: string) => string };

describe('the copy of PostgreSQL that another account executes', () => {
  let temporary: string;
  let original: string;
  beforeEach(() => {
    const base = mkdtempSync(join(tmpdir(), 'perdure-copy-'));
    temporary = join(base, 'tmp');
    original = join(base, 'original');
    mkdirSync(temporary);
    mkdirSync(original);
    writeFileSync(join(original, 'postgres'), 'ours');
    vi.stubEnv('TMPDIR', temporary);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(join(temporary, '..'), { recursive: true, force: true });
  });
  const plant = () => {
    const folder = join(temporary, 'copy');
    mkdirSync(folder);
    writeFileSync(join(folder, 'postgres'), 'planted');
    return folder;
  };
  const programOf = (folder: string) => readFileSync(join(folder, 'postgres'), 'utf8');

  it('the copy of PostgreSQL is made once, is executable for all accounts, and is found again', () => {
    const copy = copyForAccount(original, 'copy');
    expect([copy, programOf(copy)]).toEqual([join(temporary, 'copy'), 'ours']);
    writeFileSync(join(copy, 'mark'), '');
    expect(existsSync(join(copyForAccount(original, 'copy'), 'mark'))).toBe(true);
  });

  it('the copy of PostgreSQL is never a folder that other accounts can write to', () => {
    chmodSync(plant(), 0o777);
    expect(programOf(copyForAccount(original, 'copy'))).toBe('ours');
  });

  it('the copy of PostgreSQL is never a symbolic link', () => {
    const elsewhere = plant();
    symlinkSync(elsewhere, join(temporary, 'linked'));
    expect(programOf(copyForAccount(original, 'linked'))).toBe('ours');
  });

  it.skipIf(process.getuid?.() !== 0)('the copy of PostgreSQL is never a folder of another account', () => {
    chownSync(plant(), 65_534, 65_534);
    expect(programOf(copyForAccount(original, 'copy'))).toBe('ours');
  });
});
