import type { PoolStatus } from '../../domain/pool/pool-status.ts';

/** How old the stored state may be while nothing changes, ms. */
const REPEAT_MS = 30_000;

/**
 * @returns what writes the pool's state where it has changed, or has not been written for a while. Failures are
 * those of `write`; the next call tries again.
 */
export function createPoolPublication(
  status: () => PoolStatus,
  write: (status: PoolStatus) => Promise<void>,
): () => Promise<void> {
  let written = '';
  let writtenAt = 0;
  return async () => {
    const { at, ...rest } = status();
    const text = JSON.stringify(rest);
    const nowMs = Date.parse(at);
    if (text === written && nowMs - writtenAt < REPEAT_MS) return;
    await write({ ...rest, at });
    written = text;
    writtenAt = nowMs;
  };
}
