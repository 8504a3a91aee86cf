import type { PoolStatus } from '../../domain/pool/pool-status.ts';

/** How old what stands in the store may be where nothing has changed, ms. */
const REPEAT_MS = 30_000;

/**
 * @returns what writes the state of the pool down where it has changed, or has not been written for a while. Failures are
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
