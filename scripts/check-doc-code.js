// Type-checks the TypeScript of the documentation against the packages as they are built: names, options and types of Perdure
// must be as the pages say. Names that a page leaves out (`stripe`, `Order`) are taken as they are.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PAGES = [
  'README.md',
  'docs/agents.md',
  'docs/children.md',
  'docs/control.md',
  'docs/client.md',
  'docs/messages.md',
  'docs/events.md',
  'docs/promises.md',
  'docs/testing.md',
  'docs/workflows.md',
  'docs/your-project.md',
  'packages/perdure/README.md',
];
// Below node_modules, so that `perdure` is found, and git and Biome look away.
const FOLDER = join(ROOT, 'node_modules/.cache/perdure-doc-code');
/** Cannot find a name or a module of the reader's; a parameter that has no type because of that. */
const LEFT_OUT = /error TS(2304|2307|2552|2503|2582|18004|7006|7031|7005|7034):/;

rmSync(FOLDER, { recursive: true, force: true });
mkdirSync(FOLDER, { recursive: true });
const places = new Map();
for (const page of PAGES) {
  const text = readFileSync(join(ROOT, page), 'utf8');
  for (const block of text.matchAll(/^```ts\n(.*?)^```/gms)) {
    const line = text.slice(0, block.index).split('\n').length;
    const name = `${page.replaceAll(/\W/g, '-')}-${line}.ts`;
    places.set(name, { page, line });
    writeFileSync(join(FOLDER, name), `${block[1]}\nexport {};\n`);
  }
}
const options = [
  '--target',
  'es2023',
  '--lib',
  'es2023',
  '--module',
  'nodenext',
  '--strict',
  '--skipLibCheck',
  '--types',
  'node',
];
const files = [...places.keys()].map((name) => join(FOLDER, name));
const { stdout } = spawnSync(
  process.execPath,
  [
    join(ROOT, 'node_modules/typescript/bin/tsc'),
    '--noEmit',
    '--ignoreConfig',
    '--pretty',
    'false',
    ...options,
    ...files,
  ],
  { cwd: ROOT, encoding: 'utf8' },
);
const problems = stdout
  .split('\n')
  .filter((line) => /error TS/.test(line) && !LEFT_OUT.test(line))
  .map((line) => {
    const [, name, row, message] = /([^/]+\.ts)\((\d+),\d+\): (.*)/.exec(line) ?? [];
    const place = places.get(name);
    return place === undefined ? line : `${place.page}:${place.line + Number(row)}: ${message}`;
  });
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
