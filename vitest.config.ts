import { defineConfig } from 'vitest/config';
import { KindsInOrder } from './test/support/runner/kinds-in-order.ts';

/** One project a kind of test; each says what it runs against (docs/testing.md). */
const project = (
  name: string,
  { testTimeout = 30_000, ...extra }: { testTimeout?: number; [more: string]: unknown } = {},
) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    pool: 'forks' as const,
    testTimeout,
    // A test has one deadline, its own: vitest's for what is polled is a second, which a busy machine does not keep.
    expect: { poll: { timeout: testTimeout } },
    ...extra,
  },
});

const REAL_SERVERS = { globalSetup: ['test/support/servers/servers.global.ts'] };
const REAL_PROCESSES = { ...REAL_SERVERS, testTimeout: 240_000, hookTimeout: 240_000 };

export default defineConfig({
  test: {
    sequence: { sequencer: KindsInOrder },
    projects: [
      // Half of the time of this kind would be the start of a process for each file. Here files only share what is loaded.
      project('unit', { isolate: false }),
      // Left to itself `recheck` starts a program of its own for each question.
      project('boundary', { testTimeout: 120_000, env: { RECHECK_SYNC_BACKEND: 'pure' } }),
      project('store', REAL_SERVERS),
      project('workflow', { ...REAL_SERVERS, testTimeout: 60_000, hookTimeout: 60_000 }),
      project('fault', { ...REAL_SERVERS, testTimeout: 120_000, hookTimeout: 120_000 }),
      project('replay'),
      project('conformance', REAL_PROCESSES),
      project('vm', REAL_PROCESSES),
      project('e2e', { ...REAL_PROCESSES, testTimeout: 600_000, hookTimeout: 600_000 }),
    ],
  },
});
