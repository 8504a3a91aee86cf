import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isKilnError } from '../../../domain/failures.ts';
import { readRecipe, recipeSchema } from '../../../rootfs/image/build/recipe.ts';
import { parseImageReference } from '../../../rootfs/image/image-catalog.ts';
import { parseManifest } from '../../../rootfs/image/local-images.ts';
import { canonicalJson, IMAGE_FILES, type ImageManifest, manifestDigest } from '../../../rootfs/image/manifest.ts';

const MANIFEST: ImageManifest = {
  schemaVersion: 1,
  name: 'node',
  arch: 'x86_64',
  files: IMAGE_FILES.map((name, i) => ({ name, bytes: i, sha256: String(i).repeat(64) })),
  agentKey: 'a1',
  kernelRelease: '6.1.0-1-cloud-amd64',
  nodeVersion: '24.0.0',
  npmVersion: '11.0.0',
  recipeKey: 'r1',
};

describe('the digest of an image', () => {
  it('does not depend on the order of keys', () => {
    const turned = Object.fromEntries(Object.entries(MANIFEST).reverse());
    expect(canonicalJson(turned)).toBe(canonicalJson(MANIFEST));
    const text = JSON.stringify(turned);
    expect(parseManifest(text, manifestDigest(MANIFEST), 'a test')).toEqual(MANIFEST);
  });

  it('changes with everything in the manifest', () => {
    const changed = [
      { ...MANIFEST, agentKey: 'a2' },
      { ...MANIFEST, files: MANIFEST.files.map((file, i) => (i === 2 ? { ...file, sha256: 'f'.repeat(64) } : file)) },
      { ...MANIFEST, files: [...MANIFEST.files].reverse() },
    ];
    const digests = new Set([MANIFEST, ...changed].map(manifestDigest));
    expect(digests.size).toBe(4);
  });

  it('is checked when a manifest is read', () => {
    const digest = manifestDigest(MANIFEST);
    for (const text of [
      '',
      '{',
      '[]',
      canonicalJson({ ...MANIFEST, name: 'other' }),
      canonicalJson({ ...MANIFEST, extra: 1 }),
    ]) {
      expect(() => parseManifest(text, digest, 'a test')).toThrow(expect.objectContaining({ code: 'IMAGE_CORRUPT' }));
    }
  });
});

describe('an image reference', () => {
  it('is a name, a name with a tag or a name with a digest', () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    expect(parseImageReference('node')).toEqual({ name: 'node', tag: 'latest' });
    expect(parseImageReference('node:v1.2')).toEqual({ name: 'node', tag: 'v1.2' });
    expect(parseImageReference(`node@${digest}`)).toEqual({ name: 'node', digest });
  });

  it('never reaches outside of its folder in the store', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 120 }), (text) => {
        try {
          const reference = parseImageReference(text);
          expect(JSON.stringify(reference)).not.toMatch(/\/|\.\./);
        } catch (error) {
          expect(isKilnError(error, 'SPEC_INVALID')).toBe(true);
        }
      }),
    );
  });
});

describe('the recipe of the image node', () => {
  it('is valid and pins npm', async () => {
    const recipe = await readRecipe(new URL('../../../guest/image/node/recipe.json', import.meta.url).pathname);
    expect(recipe.name).toBe('node');
    expect(recipe.npm?.integrity).toMatch(/^sha512-/);
    for (const path of ['../etc', '/etc', 'a/../../b']) {
      expect(recipeSchema.safeParse({ ...recipe, prune: [path] }).success).toBe(false);
    }
  });

  it('is named where it is wrong', async () => {
    await expect(readRecipe('/nonexistent/recipe.json')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('/nonexistent/recipe.json'),
    });
  });
});
