import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { execute } from '../support/tarballs.js';

const PROGRAM = fileURLToPath(new URL('../dist/programs/kit-with-node-test.js', import.meta.url));

it('works with the test runner of Node, which ends by itself and shows what is different', async () => {
  const { exitCode, output } = await execute(process.execPath, ['--test', '--test-reporter=tap', PROGRAM], {
    cwd: process.cwd(),
    env: process.env.DATABASE_URL === undefined ? {} : { DATABASE_URL: process.env.DATABASE_URL },
    timeoutMs: 120_000,
  });
  expect(output).toContain('ok 1 - reminds after a month');
  expect(output).toContain('not ok 2 - shows a difference');
  expect(output).toMatch(/\+ a month +sleep, completed/);
  expect(exitCode).toBe(1);
}, 150_000);
