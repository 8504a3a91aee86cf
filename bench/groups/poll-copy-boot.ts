import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readSetupRecord } from '../../config/setup-record.ts';
import { fullCopy, makeFullImage, sparseCopy } from '../../test/support/host/full-copy.ts';
import type { GroupOptions } from '../group-options.ts';
import { startPoller } from '../poller.ts';
import { bootByHand, helloWithin } from '../qemu-by-hand.ts';

const IMAGE_BYTES = 3 * 1024 ** 3;
const POLL_INTERVAL_MS = 5_000;
const BOOT_DEADLINE_MS = 60_000;

/** What many platforms do for a job: a poll finds it, then a full copy of the image and a cold boot. */
export interface Rival {
  /** One VM, from its submission to the hello of its agent. @returns ms */
  once(): Promise<number>;
  close(): void;
}

/** @param argv of a guest that was booted cold, which is started by hand in the same way */
export async function prepareRival({ say, directory, signal }: GroupOptions, argv: readonly string[]): Promise<Rival> {
  say('making a 3 GB image for the rival');
  const image = readSetupRecord().image.directory;
  const base = join(directory, 'base.ext4');
  await makeFullImage(join(image, 'rootfs.ext4'), base, IMAGE_BYTES);
  const root = { path: join(directory, 'copy.ext4'), format: 'raw' } as const;
  const workspace = { path: join(directory, 'workspace.ext4'), format: 'raw' } as const;
  const poller = startPoller(join(directory, 'jobs.db'), POLL_INTERVAL_MS);
  return {
    close: () => poller.close(),
    once: async () => {
      await sparseCopy(join(image, 'workspace.ext4'), workspace.path);
      await rm(root.path, { force: true });
      // Submissions come at any moment of the poller's interval.
      await delay(Math.random() * POLL_INTERVAL_MS, undefined, { signal });
      const waitedMs = await poller.submit();
      const begun = performance.now();
      await fullCopy(base, root.path);
      const copiedMs = performance.now() - begun;
      const hand = { argv, directory: join(directory, 'hand'), drives: [root, workspace] };
      return waitedMs + copiedMs + (await bootByHand({ ...hand, hello: helloWithin(BOOT_DEADLINE_MS, signal) }));
    },
  };
}
