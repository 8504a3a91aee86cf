import { defineConfig } from 'vitest/config';

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

/** Kinds with real processes and guests run one after another: two cores hold only one kind at a time. */
const turn = (groupOrder: number) => ({ sequence: { groupOrder } });

const REAL_SERVERS = { globalSetup: ['test/support/servers.global.ts'] };
const REAL_PROCESSES = { ...REAL_SERVERS, testTimeout: 240_000, hookTimeout: 240_000, fileParallelism: false };
/** A guest keeps one core busy, and a quarter of the time none. */
const REAL_GUESTS = { ...REAL_SERVERS, testTimeout: 240_000, hookTimeout: 240_000, maxWorkers: 2 };

export default defineConfig({
  test: {
    projects: [
      project('unit'),
      // Left to itself `recheck` starts a program of its own for each question.
      project('boundary', { testTimeout: 120_000, env: { RECHECK_SYNC_BACKEND: 'pure' } }),
      project('store', REAL_SERVERS),
      project('workflow', {
        ...REAL_SERVERS,
        ...turn(1),
        testTimeout: 60_000,
        hookTimeout: 60_000,
        // Most of their time they wait for timers and servers.
        maxWorkers: 3,
      }),
      project('fault', {
        ...REAL_SERVERS,
        ...turn(5),
        testTimeout: 120_000,
        hookTimeout: 120_000,
        maxWorkers: 2,
      }),
      project('replay'),
      project('conformance', { ...REAL_PROCESSES, ...turn(2) }),
      project('vm', { ...REAL_GUESTS, ...turn(3) }),
      // Each runs a whole stack, and kills things at moments that a busier machine would not keep.
      project('e2e', { ...REAL_PROCESSES, ...turn(4), testTimeout: 600_000, hookTimeout: 600_000 }),
    ],
  },
});
