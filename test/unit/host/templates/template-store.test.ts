/** Templates as files: when they are made, damaged, superseded and unused. Needs no guest. */
import { appendFile, link, mkdir, mkdtemp, open, readdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import type { GuestKind } from '../../../../domain/guest-kind.ts';
import type { CachedImage } from '../../../../domain/vm.ts';
import {
  createTemplates,
  type TemplateSettings,
  type TemplateStoreOptions,
  type Templates,
} from '../../../../host/templates/template-store.ts';
import type { TemplateMaker } from '../../../../ports/vm-driver.ts';
import { createEmptyDisks } from '../../../../rootfs/provisioners/empty-disks.ts';
import { createSparseCopyProvisioner } from '../../../../rootfs/provisioners/sparse-copy.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const KIND: GuestKind = { imageDigest: `sha256:${'a'.repeat(64)}`, vcpus: 1, memMib: 512 };

let root: string;
let image: CachedImage;
let inUse: Set<string>;
let fingerprint: string;
let freezes: number;
let failure: KilnError | undefined;
let room: boolean;
let cleared: string[];
let stuck: Set<string>;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kt-'));
  const files = { rootfsPath: join(root, 'rootfs.ext4'), workspacePath: join(root, 'workspace.ext4') };
  for (const path of Object.values(files)) await writeFile(path, 'an image');
  const sha256 = { kernel: 'none', rootfs: 'none' };
  image = {
    name: 'node',
    digest: KIND.imageDigest,
    kernelPath: '/k',
    initrdPath: '/i',
    rootfsBytes: 8,
    sha256,
    ...files,
  };
  inUse = new Set();
  fingerprint = 'f'.repeat(64);
  freezes = 0;
  failure = undefined;
  cleared = [];
  stuck = new Set();
  room = true;
});
afterEach(() => rm(root, { recursive: true }));

const maker: TemplateMaker = {
  fingerprint: async () => fingerprint,
  async freeze({ directory }) {
    freezes += 1;
    if (failure !== undefined) throw failure;
    await writeFile(join(directory, 'memory'), `memory of ${freezes}`);
    await writeFile(join(directory, 'state'), `state of ${freezes}`);
  },
  async clearFreeze({ name }) {
    if (stuck.has(name)) throw new Error('its group is not empty');
    cleared.push(name);
  },
};

/** The templates of a host worker that has just started. */
async function opened(
  settings: Partial<TemplateSettings> = {},
  maxAgeMs = 3_600_000,
  more: Partial<TemplateStoreOptions> = {},
): Promise<Templates> {
  const templates = createTemplates({
    stateDir: root,
    maker,
    provisioner: createSparseCopyProvisioner(),
    workspaces: createSparseCopyProvisioner(),
    emptyDisks: createEmptyDisks(root),
    images: { ensure: async () => image },
    ledger: { reserve: async () => room, release: async () => undefined },
    logger: silentLogger,
    inUse: async () => inUse,
    maxAgeMs,
    settings: { mode: 'auto', freezeMs: 10_000, cloneMs: 1_000, handedOutMs: 60_000, retryMs: 0, max: 8, ...settings },
    ...more,
  });
  await templates.start();
  await templates.settled();
  return templates;
}

const folders = () => readdir(join(root, 'templates'));
const ids = (templates: Templates) => templates.list().map(({ templateId }) => templateId);

describe('templates of a host', () => {
  it.each([
    ['AGENT_TIMEOUT', 2],
    ['TIMED_OUT', 2],
    ['AGENT_LOST', 2],
    ['VMM_EXITED', 1],
    ['TEMPLATE_CORRUPT', 1],
  ])('of which a clone did not come up, by %s, are given up with number %i of those', async (was, number) => {
    const templates = await opened();
    await templates.refresh(KIND);
    const [templateId = ''] = ids(templates);
    for (let n = 0; n < number; n++) {
      expect((await templates.find(KIND, image))?.ref.templateId).toBe(templateId);
      await templates.reportFailure(templateId, new KilnError('TEMPLATE_CORRUPT', 'no answer', { templateId, was }));
    }
    expect(await templates.find(KIND, image)).toBeUndefined();
    // A late report, and one about an unknown template.
    for (const id of [templateId, 'none'])
      await templates.reportFailure(id, new KilnError('TEMPLATE_CORRUPT', 'no answer'));
  });

  it('are made when wanted, once, and found from then on', async () => {
    const templates = await opened();
    expect(await templates.find(KIND, image)).toBeUndefined();
    for (let wish = 0; wish < 5; wish++) templates.want(KIND);
    await templates.settled();
    templates.want(KIND);
    await templates.settled();
    expect(freezes).toBe(1);
    const [templateId = ''] = ids(templates);
    const directory = join(root, 'templates', templateId);
    expect(await templates.find(KIND, image)).toEqual({
      ref: { templateId, memoryPath: join(directory, 'memory'), statePath: join(directory, 'state') },
      root: { path: join(directory, 'template.rootfs.raw'), format: 'raw' },
    });
    expect(await templates.find({ ...KIND, vcpus: 2 }, image)).toBeUndefined();
    expect(await templates.find({ ...KIND, projectId: 'p' }, image)).toBeUndefined();
    expect(ids(await opened())).toEqual([templateId]);
  });

  it('one that cannot be made leaves nothing, and is tried again', async () => {
    const templates = await opened();
    failure = new KilnError('BOOT_TIMEOUT', 'too slow');
    templates.want(KIND);
    await templates.settled();
    expect(await folders()).toEqual([]);
    await expect(templates.refresh(KIND)).rejects.toMatchObject({ code: 'BOOT_TIMEOUT' });
    failure = undefined;
    room = false;
    await expect(templates.refresh(KIND)).rejects.toMatchObject({ code: 'NO_CAPACITY' });
    room = true;
    templates.want(KIND);
    await templates.settled();
    expect(ids(templates)).toHaveLength(1);
  });

  it('is tried again after its pause, also where the wall clock has been set back meanwhile', async () => {
    let awake = 0;
    const templates = await opened({ retryMs: 60_000 }, undefined, { awake: () => awake });
    failure = new KilnError('BOOT_TIMEOUT', 'too slow');
    templates.want(KIND);
    await templates.settled();
    failure = undefined;
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 86_400_000 });
    try {
      for (const [at, made] of [
        [59_999, 0],
        [60_000, 1],
      ] as const) {
        awake = at;
        templates.want(KIND);
        await templates.settled();
        expect(ids(templates)).toHaveLength(made);
      }
    } finally {
      vi.useRealTimers();
    }
  });

  it('what an earlier process left half made is removed', async () => {
    await mkdir(join(root, 'templates', 'x-1.building'), { recursive: true });
    await mkdir(join(root, 'templates', 'x-2'));
    const templates = await opened();
    expect(ids(templates)).toEqual([]);
    expect(await folders()).toEqual([]);
    expect(cleared).toEqual(['x-1']);
  });

  it('what cannot be cleared now keeps its folder, and nothing else waits for it', async () => {
    for (const name of ['x-1', 'x-2']) await mkdir(join(root, 'templates', `${name}.building`), { recursive: true });
    stuck.add('x-1');
    await opened();
    expect(await folders()).toEqual(['x-1.building']);
    stuck.clear();
    await opened();
    expect(await folders()).toEqual([]);
  });

  it('a new one takes the place of the old, whose files stay while a VM needs them', async () => {
    const templates = await opened();
    const old = await templates.refresh(KIND);
    const next = await templates.refresh(KIND);
    expect((await templates.find(KIND, image))?.ref.templateId).toBe(next.templateId);
    inUse.add(old.templateId);
    expect(await templates.collect()).toEqual([]);
    expect((await folders()).sort()).toEqual([old.templateId, next.templateId].sort());
    inUse.clear();
    expect(await templates.collect()).toEqual([old.templateId]);
    expect(await folders()).toEqual([next.templateId]);
  });

  it('one that was found for a clone stays until the clone’s record can name it, also where a new one is made', async () => {
    let awake = 0;
    const templates = await opened({ handedOutMs: 1_000 }, undefined, { awake: () => awake });
    const old = await templates.refresh(KIND);
    expect((await templates.find(KIND, image))?.ref.templateId).toBe(old.templateId);
    const { templateId } = await templates.refresh(KIND);
    awake = 999;
    expect(await templates.collect()).toEqual([]);
    inUse.add(old.templateId);
    awake = 1_000;
    expect(await templates.collect()).toEqual([]);
    inUse.clear();
    expect(await templates.collect()).toEqual([old.templateId]);
    expect(await folders()).toEqual([templateId]);
  });

  it('one that is found while a sweep reads the records stays', async () => {
    let found: unknown;
    const templates: Templates = await opened({ max: 0 }, undefined, {
      inUse: async () => {
        found = await templates.find(KIND, image);
        return new Set();
      },
    });
    const { templateId } = await templates.refresh(KIND);
    expect(await templates.collect()).toEqual([]);
    expect(found).toMatchObject({ ref: { templateId } });
    expect(await folders()).toEqual([templateId]);
  });

  it('beyond the most that are kept, the one unused for longest goes', async () => {
    const templates = await opened({ max: 1 });
    const first = await templates.refresh(KIND);
    const other = { ...KIND, memMib: 1024 };
    const second = await templates.refresh(other);
    await templates.find(KIND, image);
    expect(await templates.collect()).toEqual([second.templateId]);
    expect(ids(templates)).toEqual([first.templateId]);
  });

  it('frozen under another VMM, machine or size: refused and removed', async () => {
    await (await opened()).refresh(KIND);
    fingerprint = 'e'.repeat(64);
    expect(ids(await opened())).toEqual([]);
    expect(await folders()).toEqual([]);
  });

  it('too old: nothing is cloned from it any more, and a new one is made when it is wanted', async () => {
    const { templateId: old } = await (await opened()).refresh(KIND);
    const templates = await opened({}, 0);
    expect(ids(templates)).toEqual([old]);
    expect(await templates.find(KIND, image)).toBeUndefined();
    templates.want(KIND);
    await templates.settled();
    expect(await templates.collect()).toEqual([old]);
    expect(ids(templates)).toHaveLength(1);
  });

  it('switched off, none is used or made', async () => {
    await (await opened()).refresh(KIND);
    const templates = await opened({ mode: 'off' });
    expect(await templates.find(KIND, image)).toBeUndefined();
    expect(await folders()).toHaveLength(1);
  });
});

const DAMAGES: [what: string, damage: (path: string) => Promise<void>][] = [
  ['cut', (path) => truncate(path, 3)],
  ['longer', (path) => appendFile(path, 'x')],
  ['removed', (path) => rm(path)],
  ['exchanged', exchange],
  ['flipped in one byte', flipByte],
];
it('a link more on a file of the image, as another host of this machine makes it, ends no template', async () => {
  const templates = await opened();
  await templates.refresh(KIND);
  await link(image.rootfsPath, join(root, 'of-another-host.ext4'));
  expect(await templates.find(KIND, image)).toBeDefined();
  await rm(join(root, 'of-another-host.ext4'));
  expect(await templates.find(KIND, image)).toBeDefined();
});

const FILES = ['memory', 'state', 'template.rootfs.raw', 'manifest.json'];
const CASES = DAMAGES.flatMap(([what, damage]) => FILES.map((file) => [file, what, damage] as const));

describe('a damaged template', () => {
  it.each(CASES)('%s %s while the host is down: refused', async (file, _, damage) => {
    const { templateId } = await (await opened()).refresh(KIND);
    await damage(join(root, 'templates', templateId, file));
    const templates = await opened();
    expect(await templates.find(KIND, image)).toBeUndefined();
    expect(ids(templates)).toEqual([]);
    templates.want(KIND);
    await templates.settled();
    expect((await templates.find(KIND, image))?.ref.templateId).not.toBe(templateId);
  });

  it.each(CASES)('%s %s while the host is up: not used again', async (file, _, damage) => {
    const templates = await opened();
    const { templateId } = await templates.refresh(KIND);
    await damage(join(root, 'templates', templateId, file));
    expect(await templates.find(KIND, image)).toBeUndefined();
    templates.want(KIND);
    await templates.settled();
    expect((await templates.find(KIND, image))?.ref.templateId).not.toBe(templateId);
  });

  it.each(DAMAGES)('its image %s: not used again', async (_, damage) => {
    const templates = await opened();
    await templates.refresh(KIND);
    await damage(image.rootfsPath);
    expect(await templates.find(KIND, image)).toBeUndefined();
  });
});

async function exchange(path: string): Promise<void> {
  await writeFile(`${path}.other`, 'another');
  await rename(`${path}.other`, path);
}

async function flipByte(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 0);
    buffer.writeUInt8(buffer.readUInt8(0) ^ 0x10, 0);
    await file.write(buffer, 0, 1, 0);
  } finally {
    await file.close();
  }
}
