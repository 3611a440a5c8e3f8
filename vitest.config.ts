import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      { extends: true, test: { name: 'all', include: ['test/**/*.test.ts'] } },
      // The same black-box suite without sessions - a worker may be written with unary calls alone - and with suspended runs
      // kept in memory.
      {
        extends: true,
        test: {
          name: 'unary',
          include: ['test/conformance/**/*.test.ts'],
          env: { PERDURE_TEST_UNARY: '1', PERDURE_TEST_WARM: '100' },
        },
      },
    ],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    // Tests start servers and databases of their own; more at once would only make each slower.
    maxWorkers: 2,
    // The packages are tested as they are built.
    server: { deps: { external: [/\/packages\/[^/]+\/dist\//] } },
    // Limits for a machine that is busy with other things; an idle one comes nowhere near them.
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
