// Releases all packages. With --dry-run it only says what would go out: versions, files and sizes.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const { values } = parseArgs({ options: { 'dry-run': { type: 'boolean', default: false } } });

const run = (program, args, options = {}) =>
  execFileSync(program, args, { cwd: ROOT, stdio: 'inherit', encoding: 'utf8', ...options });
const tool = (name) => join(ROOT, 'node_modules', '.bin', name);
const pnpm = (args, options) => {
  const path = process.env.npm_execpath;
  return path?.includes('pnpm')
    ? run(process.execPath, [path, ...args], options)
    : run('npx', ['--yes', 'pnpm@10', ...args], options);
};

if (!values['dry-run'] && run('git', ['status', '--porcelain'], { stdio: 'pipe' }) !== '') {
  console.error('The working tree has changes that are not committed. Commit them first.');
  process.exit(1);
}

// From nothing: what a deleted source file has left behind would go out with the rest.
for (const name of readdirSync(join(ROOT, 'packages'))) {
  rmSync(join(ROOT, 'packages', name, 'dist'), { recursive: true, force: true });
}
run(tool('tsc'), ['-b']);
showTarballs();
if (values['dry-run']) {
  const pending = readdirSync(join(ROOT, '.changeset')).filter((name) => name.endsWith('.md') && name !== 'README.md');
  console.log(
    pending.length === 0
      ? '\nNo changeset waits: these are the versions that would be published.'
      : `\n${pending.length} changesets wait (${pending.join(', ')}): run \`pnpm changeset version\` first.`,
  );
} else {
  pnpm(['test']);
  run(tool('changeset'), ['publish']);
}

function showTarballs() {
  const folder = mkdtempSync(join(tmpdir(), 'perdure-release-'));
  try {
    const args = ['--recursive', '--filter', './packages/*', 'pack', '--pack-destination', folder];
    pnpm(args, { stdio: ['ignore', 'ignore', 'inherit'] });
    let total = 0;
    for (const file of readdirSync(folder).sort()) {
      const tarball = join(folder, file);
      const listing = run('tar', ['-tzf', tarball], { stdio: 'pipe' }).trim().split('\n');
      const { size } = statSync(tarball);
      total += size;
      console.log(`\n${file}  ${listing.length} files, ${kilobytes(size)}`);
      for (const path of listing.sort()) console.log(`  ${path.replace(/^package\//, '')}`);
    }
    console.log(`\n${readdirSync(folder).length} packages, ${kilobytes(total)} in all`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function kilobytes(bytes) {
  return `${(bytes / 1000).toFixed(1)} kB`;
}
