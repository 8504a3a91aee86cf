import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { serviceNodeFlags } from '../../../config/service-node-flags.mjs';

const HEAP_LIMIT = 'require("node:v8").getHeapStatistics().heap_size_limit';

describe('flags of the processes that guests fill', () => {
  it('are for those alone', () => {
    expect(serviceNodeFlags(['worker', 'host', '--json'])).toHaveLength(2);
    expect(serviceNodeFlags(['gateway', 'run'])).toHaveLength(2);
    for (const args of [['worker', 'control'], ['gateway', 'status'], ['workload', 'list'], ['gateway'], []]) {
      expect(serviceNodeFlags(args), args.join(' ')).toEqual([]);
    }
  });

  it('leave to the operator what NODE_OPTIONS names', () => {
    for (const given of ['--max-old-space-size=4096', '--trace-gc --max_old_space_size=4096']) {
      expect(serviceNodeFlags(['worker', 'host'], given)).toEqual(['--max-semi-space-size=16']);
    }
  });

  it('are understood by the Node that is pinned', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      ...serviceNodeFlags(['gateway', 'run']),
      ...['-p', HEAP_LIMIT],
    ]);
    expect(Number(stdout)).toBeLessThan(1200 * 1024 * 1024);
  });
});
