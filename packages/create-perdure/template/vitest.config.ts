import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.{ts,mts}'],
    // The first start makes a database, which takes a few seconds.
    hookTimeout: 60_000,
    env: { PERDURE_LOG_LEVEL: 'warn' },
  },
});
