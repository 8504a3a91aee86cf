import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TEMPLATE_MANIFEST, type TemplateManifest } from '../../../../contracts/host/template-manifest.ts';
import { changedLook, hashFiles, verifyTemplate } from '../../../../host/templates/template-files.ts';

const NAMES = ['memory', 'state', 'template.root.qcow2'];
let root: string;
let made: string;
let final: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ktf-'));
  made = join(root, 'made');
  final = join(root, 'made.final');
  await mkdir(made);
  for (const name of NAMES) await writeFile(join(made, name), `what ${name} holds`);
});
afterEach(() => rm(root, { recursive: true }));

const manifestOf = (files: TemplateManifest['files']): TemplateManifest => ({
  version: 1,
  templateId: 't-1',
  key: { imageDigest: `sha256:${'1'.repeat(64)}`, resources: { vcpus: 1, memMib: 512 }, provisioner: 'sparse-copy' },
  imageName: 'node',
  fingerprint: 'f'.repeat(64),
  disk: { role: 'root', name: 'template.root.qcow2', format: 'qcow2' },
  files,
  createdAt: new Date(0).toISOString(),
  tookMs: 1,
});

async function finished() {
  const { files, known } = await hashFiles(made, NAMES);
  await writeFile(join(made, TEMPLATE_MANIFEST), 'as it was written');
  await rename(made, final);
  return { manifest: manifestOf(files), known };
}

it('files that are as they were when they were hashed are not read again, under whatever name their folder has', async () => {
  const { manifest, known } = await finished();
  // Not what is there: it would be found if the files were read.
  const wrong = { ...manifest, files: manifest.files.map((file) => ({ ...file, sha256: '0'.repeat(64) })) };
  expect(await changedLook(await verifyTemplate(final, wrong, [], { known }))).toBeUndefined();
  await expect(verifyTemplate(final, wrong, [])).rejects.toMatchObject({ code: 'TEMPLATE_CORRUPT' });
  await expect(verifyTemplate(final, manifest, [])).resolves.toBeDefined();
});

it('a file that was written to since is read', async () => {
  const { manifest, known } = await finished();
  await writeFile(join(final, 'state'), 'what state HOLDS');
  await expect(verifyTemplate(final, manifest, [], { known })).rejects.toMatchObject({
    code: 'TEMPLATE_CORRUPT',
    details: { file: join(final, 'state') },
  });
});

it('a file that was written to while it was hashed is read', async () => {
  const { manifest, known } = await finished();
  await expect(
    verifyTemplate(final, manifest, [], { known: new Map([...known, ['memory', 'before']]) }),
  ).resolves.toBeDefined();
  const wrong = { ...manifest, files: manifest.files.map((file) => ({ ...file, sha256: '0'.repeat(64) })) };
  await expect(
    verifyTemplate(final, wrong, [], { known: new Map([...known, ['memory', 'before']]) }),
  ).rejects.toMatchObject({
    details: { file: join(final, 'memory') },
  });
});
