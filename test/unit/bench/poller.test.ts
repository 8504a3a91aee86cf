import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Poller, startPoller } from '../../../bench/poller.ts';

describe('the 5 s poller that Kiln is measured against', () => {
  const intervalMs = 5_000;
  let directory: string;
  let poller: Poller;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'kiln-poller-'));
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    poller = startPoller(join(directory, 'jobs.db'), intervalMs);
  });

  afterEach(() => {
    poller.close();
    vi.useRealTimers();
    rmSync(directory, { recursive: true });
  });

  it('picks a job up at its next look, all waiting ones at once, each only once', async () => {
    vi.advanceTimersByTime(1_000);
    const first = poller.submit();
    vi.advanceTimersByTime(3_000);
    const second = poller.submit();
    vi.advanceTimersByTime(1_000);
    expect(await Promise.all([first, second])).toEqual([4_000, 1_000]);
    const third = poller.submit();
    vi.advanceTimersByTime(intervalMs);
    expect(await third).toBe(intervalMs);
  });

  it('rejects what still waits when it is closed', async () => {
    const waiting = poller.submit();
    poller.close();
    poller = startPoller(join(directory, 'other.db'), intervalMs);
    await expect(waiting).rejects.toThrow('closed');
  });
});
