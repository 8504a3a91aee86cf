/** When a run counts as silent: by looks, with a process and connections that a test makes up. */
import { describe, expect, it } from 'vitest';
import { untilSilent } from '../../../../host/runs/silence.ts';

const NEVER = new AbortController().signal;
/** Looks without a sign of life. */
const LOOKS = 10;

/**
 * @param at what is seen at each look, from 1; 0 is before the first
 * @returns at which look it was silent
 */
async function silentAt(at: {
  cpuMs?: (look: number) => number | undefined;
  moved?: (look: number) => number;
  end?: (look: number) => number;
}): Promise<number> {
  let look = 0;
  await untilSilent({
    silentMs: LOOKS,
    handle: () => {
      look += 1;
      const cpuMs = at.cpuMs?.(look) ?? 0;
      return { usage: async () => ({ cpuMs, processes: 1 }) };
    },
    output: {
      get end() {
        return at.end?.(look) ?? 0;
      },
      get safeEnd() {
        return at.end?.(look) ?? 0;
      },
    },
    egressBytes: () => at.moved?.(look) ?? 0,
    signal: NEVER,
  });
  return look;
}

/** Goes up at every look until 25. */
const until25 = (look: number) => Math.min(look, 25);

describe('a run counts as silent', () => {
  it('after looks that see nothing', async () => {
    expect(await silentAt({})).toBe(LOOKS);
  });

  it.each(['cpuMs', 'moved', 'end'] as const)('only once %s stays what it is', async (what) => {
    expect(await silentAt({ [what]: until25 })).toBe(25 + LOOKS);
  });

  it('although its VM had moved bytes before it began', async () => {
    expect(await silentAt({ moved: () => 1_000_000 })).toBe(LOOKS);
  });
});
