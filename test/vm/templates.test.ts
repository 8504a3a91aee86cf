/** Templates of real guests: made in the background, cloned from, refused when damaged. */
import { createHash } from 'node:crypto';
import { open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repetitions } from '../../config/test-environment.ts';
import { templateManifestSchema } from '../../contracts/host/template-manifest.ts';
import { digestDisk } from '../../host/disks/disk-digest.ts';
import { runIn } from '../support/guest/guest-under-test.ts';
import { GuestHost } from '../support/host/guest-host.ts';

/** Number of clones at the same time: more of them would wait for the two cores. */
const TOGETHER = 4;
const CLONES = repetitions({ usually: 12, whole: 100 });

describe('templates of real guests', () => {
  let bed: GuestHost;
  let clones = 0;
  const nextId = () => `c${++clones}-1-1`;
  const templates = () => {
    const { templates } = bed.host;
    if (templates === undefined) throw new Error('the driver makes no templates');
    return templates;
  };
  /** The newest template, from which clones are made. */
  const usable = () => {
    const found = templates()
      .list()
      .find(({ state, projectId }) => state === 'usable' && projectId === undefined);
    if (found === undefined) throw new Error(`there is no usable template: ${bed.warnings.join('; ')}`);
    return found.templateId;
  };
  const filesOf = async (templateId: string) => {
    const directory = join(bed.templatesDir, templateId);
    return (await readdir(directory)).map((name) => join(directory, name));
  };
  beforeAll(async () => {
    bed = await GuestHost.start({ templates: { retryMs: 0, handedOutMs: 0 } });
  });
  afterAll(async () => {
    expect(await bed.close()).toEqual([]);
  });

  it('is made once a guest has booted cold, and the next ones go on from it', async () => {
    const cold = await bed.boot('cold-1-1');
    expect(cold.start).toBe('cold');
    await templates().settled();
    expect({ made: templates().list(), warnings: bed.warnings }).toMatchObject({
      made: [{ state: 'usable', image: 'node', clones: 0 }],
      warnings: [],
    });
    const clone = await bed.boot('clone-1-1');
    expect(clone.start).toBe('template');
    expect((await runIn(clone.agent, ['node', '-p', '1 + 1'], { cwd: '/' })).stdout).toBe('2\n');
    expect(await bed.host.ledger.list()).toEqual([]);
    await bed.release('cold-1-1', 'clone-1-1');
  });

  it('clones differ in all that names a guest, and share no write; the template stays as it was', async () => {
    const before = await Promise.all((await filesOf(usable())).map(digestDisk));
    const [one, two] = [await bed.boot('one-1-1'), await bed.boot('two-1-1')];
    const facts = ['/etc/machine-id', '/etc/hostname', '/proc/sys/kernel/random/boot_id'];
    for (const path of facts) {
      const read = async (agent: typeof one.agent) => (await runIn(agent, ['cat', path], { cwd: '/' })).stdout;
      expect(await read(one.agent), path).not.toBe(await read(two.agent));
    }
    expect(one.agent.hello.bootId).not.toBe(two.agent.hello.bootId);
    const random = async (agent: typeof one.agent) =>
      (await runIn(agent, ['sha256sum', '/proc/sys/kernel/random/uuid'], { cwd: '/' })).stdout;
    expect(await random(one.agent)).not.toBe(await random(two.agent));
    const clock = async (agent: typeof one.agent) => Number((await runIn(agent, ['date', '+%s'], { cwd: '/' })).stdout);
    for (const { agent } of [one, two]) expect(Math.abs((await clock(agent)) - Date.now() / 1000)).toBeLessThan(30);
    for (const path of ['/srv/mark', '/workspace/mark', '/tmp/mark']) {
      await runIn(one.agent, ['sh', '-c', `echo one > ${path}; sync`], { cwd: '/' });
      expect((await runIn(two.agent, ['test', '-e', path], { cwd: '/' })).code, path).toBe(1);
    }
    await bed.release('one-1-1', 'two-1-1');
    expect(await Promise.all((await filesOf(usable())).map(digestDisk))).toEqual(before);
  });

  it(`stays as it was under ${CLONES} clones that write all they can reach`, async () => {
    const before = await Promise.all((await filesOf(usable())).map(digestDisk));
    const write = 'for at in /srv /workspace /tmp; do head -c 300000 /dev/urandom > $at/mark || exit; done; sync';
    for (let made = 0; made < CLONES; made += TOGETHER) {
      const ids = Array.from({ length: TOGETHER }, nextId);
      await Promise.all(
        ids.map(async (id) => {
          const { start, agent } = await bed.boot(id);
          expect(start).toBe('template');
          expect((await runIn(agent, ['sh', '-c', write], { cwd: '/' })).code).toBe(0);
          await bed.release(id);
        }),
      );
    }
    expect(await Promise.all((await filesOf(usable())).map(digestDisk))).toEqual(before);
  });

  it('belongs to one project', async () => {
    const id = nextId();
    expect((await bed.boot(id, { projectId: 'other' })).start).toBe('cold');
    await bed.release(id);
    await templates().settled();
    expect(templates().list()).toHaveLength(2);
  });

  it('is found again by the next worker, and adopted clones run on', async () => {
    const before = usable();
    const id = nextId();
    const { pid } = await bed.boot(id);
    await bed.down();
    await bed.up();
    expect(usable()).toBe(before);
    expect((await bed.boot(id)).pid).toBe(pid);
    await bed.release(id);
    const next = nextId();
    expect((await bed.boot(next)).start).toBe('template');
    await bed.release(next);
  });

  it('refused where its memory was flipped in one byte while the host was down, and made anew', async () => {
    const damaged = usable();
    await bed.down();
    await flipByte(join(bed.templatesDir, damaged, 'memory'));
    await bed.up();
    expect(
      templates()
        .list()
        .map(({ templateId }) => templateId),
    ).not.toContain(damaged);
    const id = nextId();
    expect((await bed.boot(id)).start).toBe('cold');
    await bed.release(id);
    await templates().settled();
    expect(usable()).not.toBe(damaged);
  });

  it('a guest that does not go on from it fails with a code; the next one boots cold, and from a new one after that', async () => {
    const damaged = usable();
    await bed.down();
    await forgeState(join(bed.templatesDir, damaged));
    await bed.up();
    expect(usable()).toBe(damaged);
    const [failed, cold] = [nextId(), nextId()];
    await expect(bed.boot(failed)).rejects.toMatchObject({ code: 'TEMPLATE_CORRUPT' });
    expect(await bed.host.vms.status(failed)).toMatchObject({ state: 'exited' });
    expect((await bed.boot(cold)).start).toBe('cold');
    await bed.release(failed, cold);
    await templates().settled();
    expect(await templates().collect()).toEqual([damaged]);
    expect((await bed.boot(failed)).start).toBe('template');
    await bed.release(failed);
  });
});

/** Replaces the state by garbage, with a manifest that declares it valid. */
async function forgeState(directory: string): Promise<void> {
  const path = join(directory, 'manifest.json');
  const manifest = templateManifestSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  const forged = Buffer.alloc(70_000, 7);
  await writeFile(join(directory, 'state'), forged);
  const sha256 = createHash('sha256').update(forged).digest('hex');
  const files = manifest.files.map((file) =>
    file.name === 'state' ? { ...file, bytes: forged.length, sha256 } : file,
  );
  await writeFile(path, JSON.stringify({ ...manifest, files }));
}

async function flipByte(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const at = Math.floor((await file.stat()).size / 2);
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
    buffer.writeUInt8(buffer.readUInt8(0) ^ 0x10, 0);
    await file.write(buffer, 0, 1, at);
  } finally {
    await file.close();
  }
}
