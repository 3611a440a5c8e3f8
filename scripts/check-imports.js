// Checks who imports whom: packages, folders within a package, and circles of files. A violation names file, import and rule.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LAYERS } from './folder-layers.js';

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

/** Files that may load more, by `import()` alone: the parts are loaded by the commands that run them, never at the start. */
const EXCEPTIONS = {
  'packages/cli/src/dev/parts.ts': ['server', 'reaper', 'store', 'embedded-postgres'],
  'packages/worker-sdk/src/testing/parts/parts.ts': ['server', 'reaper', 'store', 'embedded-postgres', 'config'],
};

/** Public beside the index of their package. */
const ENTRY_POINTS = new Set(['@perdure/worker-sdk/testing']);

/** Modules that belong to one package. */
const OWNED = { postgres: 'store', '@connectrpc/connect-node': 'server', commander: 'cli' };

function sourceFiles(folder) {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return name === 'gen' ? [] : sourceFiles(path);
    return name.endsWith('.ts') ? [path] : [];
  });
}

/** What a file imports or exports from, types included. */
function specifiersOf(text) {
  const pattern =
    /(?:^|\n)\s*(?:import|export)[^'"`;]*?from\s+'([^']+)'|(?:^|\n)\s*import\s+'([^']+)'|import\('([^']+)'\)/g;
  return [...text.matchAll(pattern)].map(([, from, bare, dynamic]) => from ?? bare ?? dynamic);
}

const problems = [];
for (const [name, allowed] of Object.entries(ALLOWED)) {
  const source = join(ROOT, 'packages', name, 'src');
  for (const path of sourceFiles(source)) {
    const file = relative(ROOT, path);
    const permitted = new Set([...allowed, ...(EXCEPTIONS[file] ?? [])]);
    const text = readFileSync(path, 'utf8');
    for (const specifier of specifiersOf(text)) {
      const ours = /^(?:@perdure\/(?=.)|(?=(?:create-)?perdure(?:\/|$)))([^/]+)(\/.*)?$/.exec(specifier);
      if (ours !== null && ours[1] !== name && !permitted.has(ours[1])) {
        problems.push(
          `${file} imports ${specifier}: ${name} may import ${[...permitted].join(', ') || 'none of ours'}.`,
        );
      }
      if (ours?.[2] !== undefined && !ENTRY_POINTS.has(specifier))
        problems.push(`${file} imports ${specifier}: only a package's index is public.`);
      if (specifier.startsWith('.') && !resolve(path, '..', specifier).startsWith(source)) {
        problems.push(`${file} imports ${specifier}: relative imports stay within the package.`);
      }
      const isPart = ours !== null && EXCEPTIONS[file]?.includes(ours[1]);
      if (isPart && new RegExp(`(?:import|export) (?!type)[^;]*from '${specifier}'`).test(text)) {
        problems.push(`${file} imports ${specifier}: load it with import(), when it is needed.`);
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

/** Layer of a file: the place of the longest name that it belongs to; −1 when none is listed. */
function layerOf(layers, file) {
  let found = -1;
  layers.forEach((name, index) => {
    const isInside = file === name || file.startsWith(`${name}/`);
    if (isInside && name.length > (layers[found]?.length ?? 0)) found = index;
  });
  return found;
}

function checkLayers(name, layers, imports) {
  for (const [file, targets] of imports) {
    const layer = layerOf(layers, file);
    if (layer < 0) {
      problems.push(`packages/${name}/src/${file} belongs to no layer: add it to scripts/folder-layers.js.`);
      continue;
    }
    for (const target of targets) {
      if (layerOf(layers, target) <= layer) continue;
      problems.push(
        `packages/${name}/src/${file} imports ${target}, which is above it: ${layers[layer]} may import only what ` +
          `scripts/folder-layers.js names before it. Move what both need down, or pass it in.`,
      );
    }
  }
}

/** Names each circle once, by the import that closes it. */
function checkCircles(name, imports) {
  const done = new Set();
  const visit = (file, path) => {
    const start = path.indexOf(file);
    if (start >= 0) problems.push(`packages/${name}/src: circle ${[...path.slice(start), file].join(' → ')}.`);
    if (start >= 0 || done.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of imports.keys()) visit(file, []);
}

for (const name of Object.keys(ALLOWED)) {
  const source = join(ROOT, 'packages', name, 'src');
  const imports = new Map(
    sourceFiles(source).map((path) => [
      relative(source, path),
      specifiersOf(readFileSync(path, 'utf8'))
        .filter((specifier) => specifier.startsWith('.'))
        .map((specifier) => relative(source, resolve(dirname(path), specifier)).replace(/\.js$/, '.ts')),
    ]),
  );
  if (name in LAYERS) checkLayers(name, LAYERS[name], imports);
  checkCircles(name, imports);
}

for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
