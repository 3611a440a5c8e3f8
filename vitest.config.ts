import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/support/longest-first.js';

export default defineConfig({
  test: {
    projects: [
      { extends: true, test: { name: 'all', include: ['test/**/*.test.ts', 'examples/*/src/**/*.test.ts'] } },
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
    // Many tests wait for processes and leases, so three keep two cores busy; more would only make each slower.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    // The packages are tested as they are built.
    server: { deps: { external: [/\/packages\/[^/]+\/dist\//] } },
    // Limits for a machine that is busy with other things; an idle one comes nowhere near them.
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
