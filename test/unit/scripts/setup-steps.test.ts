import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { CHECKOUT } from '../../../config/checkout.ts';

/** Runs steps in a process of their own, as set-up does. @returns the result that it printed last, and its progress */
async function makeSteps(steps: string, after: object): Promise<{ result: unknown; progress: string }> {
  const file = (name: string) => JSON.stringify(join(CHECKOUT, 'scripts', 'setup', name));
  const script = `
    import { setTimeout as delay } from 'node:timers/promises';
    import { makeSteps } from ${file('make-steps.mjs')};
    import { run, SetupError } from ${file('run.mjs')};
    const order = [];
    const step = (name, make, state) => ({
      name,
      ready: async () => state,
      make: async () => {
        order.push(name + ' begins');
        await make?.();
        order.push(name + ' ends');
        return { text: 'made' };
      },
    });
    const result = await makeSteps({ ${steps} }, ${JSON.stringify(after)}).then(
      (states) => ({ states, order }),
      (error) => ({ error: error.message, order, pid: globalThis.sleeper }),
    );
    process.stdout.write(JSON.stringify(result));`;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  return { result: JSON.parse(stdout), progress: stderr };
}

describe('the steps of a set-up', () => {
  it('wait for what they need, wherever that is in the list, and only for that', async () => {
    const { result, progress } = await makeSteps(
      `late: step('late', () => undefined),
       slow: step('slow', () => delay(100)),
       free: step('free', () => undefined),
       there: step('there', undefined, { text: 'was there' })`,
      { late: ['slow', 'there'] },
    );
    expect(result).toEqual({
      states: {
        late: { text: 'made' },
        slow: { text: 'made' },
        free: { text: 'made' },
        there: { text: 'was there' },
      },
      order: ['slow begins', 'free begins', 'free ends', 'slow ends', 'late begins', 'late ends'],
    });
    expect(progress).toContain('[1/4] late ✓ made');
  });

  it('one that fails is named with its fix; the programs of the others are ended, and nothing more is begun', async () => {
    const { result } = await makeSteps(
      `broken: step('broken', async () => {
         while (globalThis.sleeper === undefined) await delay(5);
         throw new SetupError('go is missing', 'apt-get install golang');
       }),
       long: step('long', async () => {
         const onLine = (line) => (globalThis.sleeper = Number(line));
         const { code } = await run(['sh', '-c', 'echo $$ >&2; exec sleep 600'], { onLine });
         if (code !== 0) throw new SetupError('long was ended');
       }),
       looked: {
         name: 'looked',
         ready: async () => {
           await run(['sleep', '600']);
         },
         make: async () => order.push('looked was made'),
       },
       next: step('next', () => undefined)`,
      { next: ['long'] },
    );
    const { error, order, pid } = z
      .object({ error: z.string(), order: z.array(z.string()), pid: z.int().min(2) })
      .parse(result);
    expect(error).toBe('[1/4] broken: go is missing\n  Run:  apt-get install golang');
    expect(order).toEqual(['broken begins', 'long begins']);
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });
});
