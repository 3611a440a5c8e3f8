// Checks that the committed code in packages/proto/src/gen is what `buf generate` makes of proto/.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const GENERATED = 'packages/proto/src/gen';

function contents(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    files.map(({ parentPath, name }) => {
      const path = join(parentPath, name);
      return [path.slice(folder.length + 1), readFileSync(path, 'utf8')];
    }),
  );
}

const output = mkdtempSync(join(tmpdir(), 'perdure-generated-'));
try {
  // Also without pnpm, which puts the workspace's programs into the path.
  const PATH = [join(ROOT, 'node_modules/.bin'), process.env.PATH].join(delimiter);
  const env = { ...process.env, PATH };
  execFileSync('buf', ['generate', '--output', output], { cwd: ROOT, stdio: 'inherit', env });
  const fresh = contents(join(output, GENERATED));
  const committed = contents(join(ROOT, GENERATED));
  const differing = [...new Set([...fresh.keys(), ...committed.keys()])].filter(
    (file) => fresh.get(file) !== committed.get(file),
  );
  if (differing.length > 0) {
    console.error(
      `Generated code is out of date: ${differing.join(', ')}. Run \`pnpm generate\` and commit the result.`,
    );
    process.exitCode = 1;
  }
} finally {
  rmSync(output, { recursive: true, force: true });
}
