// Checks who imports whom. The rules are those of ARCHITECTURE.md; a violation names file, import and rule.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Package → packages of ours that it may import. */
const ALLOWED = {
  proto: [],
  config: [],
  clock: [],
  collections: [],
  logging: [],
  'create-perdure': [],
  'embedded-postgres': [],
  store: [],
  server: ['proto', 'store', 'config', 'clock', 'collections', 'logging'],
  reaper: ['store', 'config', 'clock', 'logging'],
  'worker-sdk': ['proto', 'clock', 'collections', 'logging'],
  cli: ['proto', 'worker-sdk', 'config', 'logging', 'create-perdure'],
  perdure: ['worker-sdk', 'cli', 'config', 'server', 'reaper', 'store'],
};

/** Files that may import more: they run the parts, in one process or as commands. */
const EXCEPTIONS = {
  'packages/cli/src/dev/parts.ts': ['server', 'reaper', 'store', 'embedded-postgres'],
};

/** Modules that belong to one package. */
const OWNED = { postgres: 'store', '@connectrpc/connect-node': 'server', commander: 'cli' };

function sourceFiles(folder) {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return name === 'gen' ? [] : sourceFiles(path);
    return name.endsWith('.ts') ? [path] : [];
  });
}

const problems = [];
for (const [name, allowed] of Object.entries(ALLOWED)) {
  const source = join(ROOT, 'packages', name, 'src');
  for (const path of sourceFiles(source)) {
    const file = relative(ROOT, path);
    const permitted = new Set([...allowed, ...(EXCEPTIONS[file] ?? [])]);
    const text = readFileSync(path, 'utf8');
    for (const [, specifier] of text.matchAll(
      /(?:^|\n)\s*(?:import|export)[^'"`;]*?from\s+'([^']+)'|import\('([^']+)'\)/g,
    )) {
      if (specifier === undefined) continue;
      const ours = /^(?:@perdure\/(?=.)|(?=(?:create-)?perdure(?:\/|$)))([^/]+)(\/.*)?$/.exec(specifier);
      if (ours !== null && ours[1] !== name && !permitted.has(ours[1])) {
        problems.push(
          `${file} imports ${specifier}: ${name} may import ${[...permitted].join(', ') || 'none of ours'}.`,
        );
      }
      if (ours?.[2] !== undefined) problems.push(`${file} imports ${specifier}: only a package's index is public.`);
      if (specifier.startsWith('.') && !resolve(path, '..', specifier).startsWith(source)) {
        problems.push(`${file} imports ${specifier}: relative imports stay within the package.`);
      }
      const owner = OWNED[specifier];
      const isTypeOnly =
        name === 'config' && specifier === 'commander' && /import type \{[^}]*\} from 'commander'/.test(text);
      if (owner !== undefined && owner !== name && !isTypeOnly) {
        problems.push(`${file} imports ${specifier}: only packages/${owner} does.`);
      }
    }
  }
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
