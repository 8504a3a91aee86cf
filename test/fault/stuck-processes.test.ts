/** Stuck event loops: the watchdog of the process ends it, it is started again, and its VMs continue. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processStartTime } from '../../linux/process-identity.ts';
import { answerOf, type RunningStack, StackHome } from '../support/workers/dev-stack.ts';
import { SERVICES } from '../support/workers/harness-workers.ts';

const BLOCK_ON_SIGNAL = fileURLToPath(new URL('../fixtures/block-on-signal.mjs', import.meta.url));

describe('a process of a stack that stands still', () => {
  let home: StackHome;
  let stack: RunningStack;

  beforeAll(async () => {
    home = await StackHome.make({
      KILN_DRIVER: 'fake',
      KILN_ALLOW_FAKE_DRIVER: '1',
      KILN_STUCK_AFTER_S: '1',
      NODE_OPTIONS: `--import=${BLOCK_ON_SIGNAL}`,
    });
    stack = await home.startDev(SERVICES);
  });
  afterAll(() => home.remove());

  it.each(['host', 'control', 'gateway'])(
    '%s: is ended, said so, and started again; a service runs on',
    async (name) => {
      const id = `beside-${name}`;
      await stack.api.createWorkload({ body: { id, servicePath: 'plain' } });
      const { pid, url, containerId } = await stack.untilStage(id, 'running');
      const startTime = await processStartTime(pid ?? 0);
      const stuck = (await stack.processes())[name];
      process.kill(stuck?.pid ?? 0, 'SIGUSR2');
      for (;;) {
        const next = (await stack.processes())[name];
        if (next !== undefined && next.startTime !== stuck?.startTime) break;
        await delay(20);
      }
      expect(await readFile(join(home.paths.logsDir, `${name}.log`), 'utf8')).toContain(
        'the event loop has not turned',
      );
      expect(await answerOf(url)).toContain('plain');
      expect(await stack.untilStage(id, 'running')).toMatchObject({ pid, containerId, url });
      expect(await processStartTime(pid ?? 0)).toBe(startTime);
      expect(await stack.api.stopWorkload({ params: { id } })).toMatchObject({ stage: 'stopped' });
    },
  );
});
